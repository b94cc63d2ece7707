"""The Kubernetes API, as far as it is used here: one namespace, every call bounded and told of.

Jobs go there as protobuf (see `encoding`), all else as JSON; protobuf comes back (see `objects`).

What leads there is kubernetes_asyncio's to read (see `credentials`). The library's generated methods and models are not
used: they decode at a tenth of the speed, set no time limit, and give a watch's error answers out as events.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
from aiolimiter import AsyncLimiter
from kubernetes_asyncio.client import Configuration
from yarl import URL

from queue_manager.server.adapters.kubernetes.connections import Answer, Connections, NotConnected
from queue_manager.server.adapters.kubernetes.credentials import Credentials
from queue_manager.server.adapters.kubernetes.objects import Status, read_status
from queue_manager.server.domain.errors import Unavailable

TIMEOUT: Final = 10.0
"""Seconds that a call may take in all, where nothing else is said. Watches have their own limits."""
CONNECT: Final = 5.0
CONNECTIONS: Final = 100
KEPT_ALIVE: Final = 55.0
"""Seconds that a connection is kept for the next call: a burst that comes after a pause should not begin with as many
handshakes. Less than what lies between is known to keep one: API servers 90 s, load balancers 60 s."""
USER_AGENT: Final = "streamforge-queue-manager"
READ_BUFFER: Final = 2**21
"""Bytes of an answer that are read ahead: etcd takes objects of up to 1.5 MiB."""

LONGEST_RETRY_AFTER: Final = 60.0
"""Seconds."""

LOCKED_OUT: Final = 401
"""The API does not know who calls; nothing was done."""

_METHODS: Final = {"create": "POST", "get": "GET", "list": "GET", "watch": "GET", "patch": "PATCH", "delete": "DELETE"}
_PATHS: Final = {
    "jobs": "/apis/batch/v1/namespaces/{namespace}/jobs",
    "pods": "/api/v1/namespaces/{namespace}/pods",
    "events": "/api/v1/namespaces/{namespace}/events",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
}
_JSON: Final = "application/json"
_MERGE_PATCH: Final = "application/merge-patch+json"
PROTOBUF: Final = "application/vnd.kubernetes.protobuf"
STREAM: Final = f"{PROTOBUF};stream=watch"
METADATA_ONLY: Final = f"{PROTOBUF};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_LENGTH: Final = 4
"""Bytes, big-endian, before each frame of a watch (k8s.io/apimachinery, `framer`)."""

TIMED_OUT: Final = "timeout"
CUT: Final = "cut"
CANCELLED: Final = "cancelled"
_UNANSWERED: Final = frozenset({TIMED_OUT, CUT})

T = TypeVar("T")

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


class NotSent(NoAnswer):
    """There was no connection over which it could have been sent: nothing was done."""


_NOT_CONNECTED: Final = (NotConnected, aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class Api:
    """Calls to one cluster, in one namespace. `async with` closes it."""

    def __init__(
        self,
        credentials: Credentials,
        namespace: str,
        *,
        timeout: float = TIMEOUT,
        rate: float = 0.0,
        observe: Observer = lambda *_: None,
    ) -> None:
        """Made by `connect`. `timeout`: seconds that a call may take in all; `rate`: calls a second, 0: no limit."""
        self._limiter = AsyncLimiter(max(1.0, rate), max(1.0, rate) / rate) if rate else None
        self._timeout = timeout
        self._credentials = credentials
        self._configuration = configuration = credentials.configuration
        self._urls = _urls(self.server, namespace)
        tls = tls_context(configuration)
        # The library's own session looks for proxies and a netrc file anew, in threads, at every call.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=tls, keepalive_timeout=KEPT_ALIVE),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT},
            read_bufsize=READ_BUFFER,
        )
        self._optional = _of_connections(configuration)
        self._direct = None
        if "proxy" not in self._optional:
            name = self._optional.get("server_hostname")
            server = self._urls["jobs"]
            self._direct = Connections(
                server, tls=tls, server_hostname=name, limit=CONNECTIONS, connect=CONNECT, kept=KEPT_ALIVE
            )
        self._observe = observe
        self.silent = False
        """The last call had no answer."""
        self.locked_out = False
        """The last call was not let in."""
        self.namespace = namespace

    @classmethod
    async def connect(
        cls,
        namespace: str = "",
        *,
        timeout: float = TIMEOUT,
        rate: float = 0.0,
        observe: Observer = lambda *_: None,
    ) -> Api:
        """From KUBECONFIG or ~/.kube/config where there is one, else as a pod of the cluster.

        An empty namespace is the kubeconfig's or the pod's own. Nothing is asked of the API yet. Raises `Unavailable`.
        """
        credentials, own = await Credentials.read()
        try:
            return cls(credentials, namespace or own or "default", timeout=timeout, rate=rate, observe=observe)
        except (OSError, ValueError) as error:  # `ssl.SSLError` is one
            raise Unavailable(f"no way to Kubernetes: its certificates cannot be read ({error})") from error

    @property
    def server(self) -> str:
        """The URL of the API server."""
        return str(self._configuration.host)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._direct is not None:
            self._direct.close()
        await self._session.close()

    async def call(
        self,
        verb: str,
        resource: str,
        name: str = "",
        *,
        body: Mapping[str, Any] | bytes | None = None,
        query: Mapping[str, str] | None = None,
        metadata_only: bool = False,
    ) -> bytes:
        """Make a call and answer its body. Raises `Refusal`, `NoAnswer`. A patch is a JSON merge patch.

        `body`: an object, or one that is encoded as protobuf.

        `metadata_only`: of an object, only that is answered, which is half the work for both sides.
        """
        data, headers = None, {"Accept": METADATA_ONLY if metadata_only else PROTOBUF}
        if isinstance(body, bytes):
            data, headers["Content-Type"] = body, PROTOBUF
        elif body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), _MERGE_PATCH if verb == "patch" else _JSON
        method, url = _METHODS[verb], self._url(resource, name, query)
        await self._turn(f"{verb} {resource}")

        async def made(account: dict[str, str]) -> bytes:
            with self._told(verb, resource) as told:
                answer = await self._answer(method, url, data, headers | account)
                told.answered(answer)
                return answer.body

        account = await self._credentials.headers()
        try:
            return await made(account)
        except Refusal as refusal:
            if refusal.code != LOCKED_OUT or not await self._credentials.renew(account):
                raise
        return await made(await self._credentials.headers())

    async def _answer(self, method: str, url: URL, data: bytes | None, headers: dict[str, str]) -> Answer:
        if self._direct is not None:
            headers["User-Agent"] = USER_AGENT
            return await self._direct.call(method, url.raw_path_qs, headers, data, timeout=self._timeout)
        limits = aiohttp.ClientTimeout(total=self._timeout, sock_connect=CONNECT)
        async with self._send(method, url, data, headers, limits) as response:
            return Answer(response.status, response.raw_headers, await response.read())

    async def _turn(self, what: str) -> None:
        """Wait until the rate lets another call through. Raises `NotSent` where that takes longer than a call may."""
        if self._limiter is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self._limiter.acquire()
        except TimeoutError as error:
            raise NotSent(f"{what}: too many calls wait for QM_KUBERNETES_RATE") from error

    async def ask(self, read: Callable[[bytes], T], verb: str, resource: str, name: str = "", **more: Any) -> T:
        """What a `call` answers. An answer that is none of Kubernetes', but some proxy's, says nothing: `NoAnswer`."""
        raw = await self.call(verb, resource, name, **more)
        try:
            return read(raw)
        except ValueError as error:
            raise NoAnswer(f"{verb} {resource}: the answer is not Kubernetes': {error}") from error

    @asynccontextmanager
    async def watch(
        self, resource: str, query: Mapping[str, str], *, silence: float
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Begin a watch: its frames. Raises `Refusal`, `NoAnswer`, inside too; the latter after `silence` seconds."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=silence)
        url = self._url(resource, "", {**query, "watch": "true", "allowWatchBookmarks": "true"})
        account = await self._credentials.headers()
        try:
            with self._told("watch", resource) as told:
                headers = {"Accept": STREAM} | account
                async with self._send(_METHODS["watch"], url, None, headers, limits) as response:
                    raw = b"" if response.status < 300 else await response.read()
                    told.answered(Answer(response.status, response.raw_headers, raw))
                    try:
                        yield frames(response.content)
                    finally:
                        _cut(response)
        except Refusal as refusal:
            if refusal.code == LOCKED_OUT:
                await self._credentials.renew(account)  # for the next one
            raise

    def _told(self, verb: str, resource: str) -> _Told:
        def ended(outcome: str, seconds: float) -> None:
            if outcome != CANCELLED:  # which says nothing of the API
                self.silent, self.locked_out = outcome in _UNANSWERED, outcome == str(LOCKED_OUT)
            self._observe(verb, resource, outcome, seconds)

        return _Told(f"{verb} {resource}", ended)

    def _url(self, resource: str, name: str, query: Mapping[str, str] | None) -> URL:
        url = self._urls[resource]
        return _with_query(url / name if name else url, tuple((query or {}).items()))

    def _send(
        self, method: str, url: URL, data: bytes | None, headers: Mapping[str, str], limits: aiohttp.ClientTimeout
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.request(
            method,
            url,
            data=data,
            headers=headers,
            timeout=limits,
            allow_redirects=False,  # it would make a GET of a POST
            **self._optional,
        )


class _Told:
    """A call while it is made: what comes of it is told to the observer, and failures are given their names."""

    __slots__ = ("_began", "_ended", "_outcome", "_what")

    def __init__(self, what: str, ended: Callable[[str, float], None]) -> None:
        self._what = what
        self._ended = ended
        self._outcome = CANCELLED
        self._began = monotonic()

    def answered(self, answer: Answer) -> None:
        """There is one. Raises `Refusal` where it says so."""
        self._outcome = str(answer.status)
        if not 200 <= answer.status < 300:
            raise Refusal(answer.status, _status(answer.body), _seconds(answer.header("retry-after")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        failed = isinstance(error, (aiohttp.ClientError, TimeoutError, OSError))
        if failed:
            self._outcome = TIMED_OUT if isinstance(error, TimeoutError) else CUT
        self._ended(self._outcome, monotonic() - self._began)
        if failed:
            what = NotSent if isinstance(error, _NOT_CONNECTED) else NoAnswer
            raise what(f"{self._what}: {str(error) or type(error).__name__}") from error


def _urls(server: str, namespace: str) -> dict[str, URL]:
    try:
        return {resource: URL(server + path.format(namespace=namespace)) for resource, path in _PATHS.items()}
    except ValueError as error:
        raise Unavailable(f"no way to Kubernetes: its server's address is none ({error})") from error


@lru_cache(maxsize=32)
def _with_query(url: URL, query: tuple[tuple[str, str], ...]) -> URL:
    """To put this together takes a twelfth of a call, and Jobs are created with the same one again and again."""
    return url.with_query(query)


def _cut(response: aiohttp.ClientResponse) -> None:
    """End a connection whose answer is not read to its end, without TLS's parting words, for which nobody would wait."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def tls_context(configuration: Configuration) -> ssl.SSLContext:
    """How the API server is known, and how we are, where that is by a certificate."""
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if configuration.disable_strict_ssl_verification:
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if not configuration.verify_ssl:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _of_connections(configuration: Configuration) -> dict[str, Any]:
    """What every request is to be told of how to connect: a proxy (kubeconfig's, else the environment's), the TLS name."""
    optional: dict[str, Any] = {}
    url = urlsplit(str(configuration.host))
    from_environment = None if proxy_bypass(url.hostname or "") else getproxies().get(url.scheme)
    if proxy := configuration.proxy or from_environment:
        # Apart, so that no error that names the proxy's address has its password.
        address = URL(proxy)
        optional["proxy"] = address.with_user(None)
        if address.user:
            login = aiohttp.encode_basic_auth(address.user, address.password or "")
            optional["proxy_headers"] = {"Proxy-Authorization": login}
    if configuration.tls_server_name:
        optional["server_hostname"] = configuration.tls_server_name
    return optional


async def frames(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The frames of a watch, until the server ends it. One that is cut short raises `aiohttp.ClientPayloadError`.

    Many come at once where many objects change, and to wait for each would take as long as to read it.
    """
    rest = b""
    async for chunk in content.iter_any():
        come, at = rest + chunk, 0
        while (begin := at + _LENGTH) <= len(come):
            end = begin + int.from_bytes(come[at:begin], "big")
            if end > len(come):
                break
            yield come[begin:end]
            at = end
        rest = come[at:]
    if rest:
        raise aiohttp.ClientPayloadError("the watch was cut off inside a frame")


def _status(raw: bytes) -> Status:
    """What a refusal says. Proxies and an overloaded server answer in plain text, or some JSON of theirs."""
    with suppress(ValueError):
        return read_status(raw)
    with suppress(msgspec.DecodeError):  # its ValidationError is one
        return msgspec.json.decode(raw, type=Status)
    return Status(message=raw[:200].decode(errors="replace").strip())


def _seconds(retry_after: str) -> float | None:
    """What a `Retry-After` asks for. One that is out of all proportion would be a switch to turn us off with."""
    try:
        asked = float(retry_after)
    except ValueError:
        return None
    return min(max(0.0, asked), LONGEST_RETRY_AFTER) if math.isfinite(asked) else None
