"""Where the cluster is, and who we are there: KUBECONFIG or ~/.kube/config where there is one, else the pod's own account.

Tokens change while a server runs. A pod's token file is read again once a minute, as Kubernetes advises. Everything else (a
kubeconfig with a token or a token file, an exec plugin) is asked again once the API no longer takes what it gave.
Certificates are read at the start only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeAlias

import structlog
import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config
from kubernetes_asyncio.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config

from queue_manager.server.domain.errors import Unavailable

log = structlog.get_logger(__name__)

NAMESPACE_FILE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

RENEWING: Final = 10.0
"""Seconds that a plugin may take for a token."""

RENEWED_EVERY: Final = 5.0
"""Seconds between two times of asking for a token anew: an account that is locked out for good costs little, and those who
wait for the same answer share it."""

HEADER: Final = "authorization"
"""As the library spells it."""

Load: TypeAlias = Callable[[Configuration], Awaitable[None]]


class Credentials:
    """`configuration` is the library's, for its client; it has the newest token."""

    def __init__(self, configuration: Configuration, load: Load) -> None:
        """Made by `read`. `load` fills in a configuration that is empty."""
        self.configuration = configuration
        self._load = load
        self._renewing = asyncio.Lock()
        self._renewed_at = float("-inf")

    @classmethod
    async def read(cls) -> tuple[Credentials, str]:
        """What there is, and the namespace that it names (empty: none). Raises `Unavailable`."""
        configuration = Configuration()
        if (named := os.environ.get("KUBECONFIG")) and not kubeconfig():
            raise Unavailable(f"KUBECONFIG is {named}, and there is no such file; correct it, or unset it")
        try:
            if paths := kubeconfig():
                async with asyncio.timeout(RENEWING):
                    loader = await load_kube_config(config_file=paths, client_configuration=configuration)
                context: Any = loader.current_context or {}
                own = str((context.get("context") or {}).get("namespace") or "")
                load = _of_kubeconfig(paths, context.get("name"))
            else:
                load = _of_pod
                await load(configuration)
                own = NAMESPACE_FILE.read_text().strip()
        except Exception as error:  # the library checks little of what it reads
            what = f"no way to Kubernetes: {_told(error)}"
            raise Unavailable(f"{what}; set KUBECONFIG, or run in the cluster with a service account") from None
        return cls(configuration, load), own

    async def headers(self) -> dict[str, str]:
        """By which a call says who it is from. A token that cannot be read just now is the last one that could."""
        token: str | None
        try:
            token = await self.configuration.get_api_key_with_prefix("BearerToken")
        except Exception as error:  # as above
            log.warning("the token cannot be read", error=_told(error))
            token = self.configuration.api_key.get("BearerToken")
        token = (token or "").strip()
        if not token.isprintable():
            log.warning("the token has characters that none has; it is left out")
            return {}
        return {HEADER: token} if token else {}

    async def renew(self, refused: dict[str, str]) -> bool:
        """After a call with these headers was not let in: whether there are others now, with which it may be."""
        async with self._renewing:
            if await self.headers() != refused:
                return True
            if monotonic() < self._renewed_at + RENEWED_EVERY:
                return False
            fresh = Configuration()
            try:
                async with asyncio.timeout(RENEWING):
                    await self._load(fresh)
            except Exception as error:  # as above
                log.warning("no token can be had", error=_told(error))
                return False
            finally:
                self._renewed_at = monotonic()
            self.configuration.api_key = fresh.api_key
            self.configuration.refresh_api_key_hook = fresh.refresh_api_key_hook
            return await self.headers() != refused


def _told(error: Exception) -> str:
    """An error's words, less what it quotes of a file, which may be a secret."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem} (line {error.problem_mark.line + 1} of the kubeconfig)"
    if isinstance(error, (ConfigException, OSError, TimeoutError)):
        text = str(error).partition("{")[0].partition("\n")[0].strip()
        return text or f"not within {RENEWING:.0f} s"
    return f"the kubeconfig is not one ({type(error).__name__})"


def kubeconfig() -> str:
    """The kubeconfig files to read, as KUBECONFIG lists them; empty where there is none of them."""
    paths = os.environ.get("KUBECONFIG") or str(Path(KUBE_CONFIG_DEFAULT_LOCATION).expanduser())
    return paths if any(Path(path).is_file() for path in paths.split(os.pathsep)) else ""


def _of_kubeconfig(paths: str, context: str | None) -> Load:
    async def load(configuration: Configuration) -> None:
        await load_kube_config(config_file=paths, context=context, client_configuration=configuration)

    return load


async def _of_pod(configuration: Configuration) -> None:
    load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
