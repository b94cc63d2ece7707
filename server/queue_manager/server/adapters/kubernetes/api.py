"""The Kubernetes API, as far as it is used here: one namespace, plain JSON, every call bounded and told of.

Configuration, TLS, tokens and the connection pool are kubernetes_asyncio's. Its generated methods and models are not
used: they decode at a tenth of the speed, set no time limit, and give a watch's error answers out as events.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

import aiohttp
import msgspec
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config
from kubernetes_asyncio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config

from queue_manager.server.adapters.kubernetes.objects import Status
from queue_manager.server.domain.errors import Unavailable

TIMEOUT: Final = 10.0
"""Seconds that a call may take in all, where nothing else is said. Watches have their own limits."""
CONNECT: Final = 5.0

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_METHODS: Final = {"create": "POST", "get": "GET", "list": "GET", "watch": "GET", "patch": "PATCH", "delete": "DELETE"}
_PATHS: Final = {
    "jobs": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "events": "/api/v1/namespaces/{namespace}/events",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}
_MERGE_PATCH: Final = "application/merge-patch+json"

Observer = Callable[[str, str, str, float], None]
"""Told of every call: verb, resource, status code (or what came instead), seconds."""


class Refusal(Exception):
    """The API answered, and not with success: nothing was done."""

    def __init__(self, code: int, status: Status, retry_after: float | None = None) -> None:
        """`code`: of HTTP. `retry_after`: seconds, where the answer says."""
        super().__init__(f"{code} {status.reason}: {status.message}".replace(" :", ":"))
        self.code = code
        self.reason = status.reason
        self.message = status.message
        self.retry_after = retry_after


class NoAnswer(Exception):
    """The call was cut off, or took too long: it may have been carried out, or may yet be."""


class Api:
    """Calls to one cluster, in one namespace. `async with` closes it."""

    def __init__(
        self, client: ApiClient, namespace: str, *, timeout: float = TIMEOUT, observe: Observer = lambda *_: None
    ) -> None:
        """Made by `connect`. `timeout`: seconds that a call may take in all."""
        self._timeout = timeout
        self._client = client
        self._session: aiohttp.ClientSession = client.rest_client.pool_manager
        self._observe = observe
        self.namespace = namespace

    @classmethod
    async def connect(
        cls, namespace: str = "", *, timeout: float = TIMEOUT, observe: Observer = lambda *_: None
    ) -> Api:
        """From KUBECONFIG or ~/.kube/config where there is one, else as a pod of the cluster.

        An empty namespace is the kubeconfig's or the pod's own. Nothing is asked of the API yet. Raises `Unavailable`.
        """
        configuration = Configuration()
        try:
            if paths := _kubeconfig():
                loader = await load_kube_config(config_file=paths, client_configuration=configuration)
                own = ((loader.current_context or {}).get("context") or {}).get("namespace", "")
            else:
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
                own = NAMESPACE_FILE.read_text().strip()
        except (ConfigException, OSError) as error:
            text = f"no way to Kubernetes: {error}; set KUBECONFIG, or run in the cluster with a service account"
            raise Unavailable(text) from error
        client = ApiClient(configuration)
        client.user_agent = "streamforge-queue-manager"
        return cls(client, namespace or own or "default", timeout=timeout, observe=observe)

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self._client.configuration.host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def call(
        self,
        verb: str,
        resource: str,
        name: str = "",
        *,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        """Make a call and answer its body. Raises `Refusal`, `NoAnswer`. A patch is a JSON merge patch."""
        limits = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT)
        async with self._request(verb, resource, name, body, query, limits) as response:
            return await response.read()

    @asynccontextmanager
    async def watch(
        self, resource: str, query: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Begin a watch: its lines. Raises `Refusal`, `NoAnswer`, inside too; the latter after `silence` seconds."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence)
        query = {**query, "watch": "true", "allowWatchBookmarks": "true"}
        async with self._request("watch", resource, "", None, query, limits) as response:
            yield response.content

    @asynccontextmanager
    async def _request(
        self,
        verb: str,
        resource: str,
        name: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = await self._headers(verb, resource)
        began, outcome = monotonic(), "cancelled"
        try:
            configuration = self._client.configuration
            path = _PATHS[resource].format(namespace=self.namespace) + (f"/{name}" if name else "")
            url = f"{configuration.host}{path}"
            data = None if body is None else msgspec.json.encode(body)
            optional: dict[str, Any] = {}
            if configuration.proxy:
                optional["proxy"] = configuration.proxy
            if configuration.tls_server_name:
                optional["server_hostname"] = configuration.tls_server_name
            async with self._session.request(
                _METHODS[verb],
                url,
                params=query,
                data=data,
                headers=headers,
                timeout=limits,
                allow_redirects=False,  # it would make a GET of a POST
                **optional,
            ) as response:
                outcome = str(response.status)
                if response.status >= 300:
                    raise Refusal(response.status, _status(await response.read()), _retry_after(response))
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            outcome = "timeout" if isinstance(error, TimeoutError) else "cut"
            raise NoAnswer(f"{verb} {resource}: {str(error) or type(error).__name__}") from error
        finally:
            self._observe(verb, resource, outcome, monotonic() - began)

    async def _headers(self, verb: str, resource: str) -> dict[str, str]:
        headers = dict(self._client.default_headers)
        headers["Content-Type"] = _MERGE_PATCH if verb == "patch" else "application/json"
        headers["Accept"] = "application/json"
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"])
        except (ConfigException, OSError) as error:  # a token file that is being replaced
            raise NoAnswer(f"{verb} {resource}: the token cannot be read: {error}") from error
        return headers


def _kubeconfig() -> str:
    """The kubeconfig files to read, as KUBECONFIG lists them; empty where there is none of them."""
    paths = os.environ.get("KUBECONFIG") or str(Path(KUBE_CONFIG_DEFAULT_LOCATION).expanduser())
    return paths if any(Path(path).is_file() for path in paths.split(os.pathsep)) else ""


def _status(raw: bytes) -> Status:
    """What a refusal says. Proxies and an overloaded server answer in plain text."""
    try:
        return msgspec.json.decode(raw, type=Status)
    except msgspec.DecodeError:  # its ValidationError is one
        return Status(message=raw[:200].decode(errors="replace").strip())


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    try:
        return max(0.0, float(response.headers.get("Retry-After", "")))
    except ValueError:
        return None
