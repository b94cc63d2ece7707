"""Who may send what: hosts that are ours, origins that may read and change, and the headers that tell browsers so.

The gateway authenticates nobody; on a desk it listens on loopback, where any page in a browser can reach it. So a page of
another site may change nothing unless its origin is allowed (`QM_HTTP_CORS_ORIGINS`): browsers say where a request comes
from (`Sec-Fetch-Site`, `Origin`), and bodies must be JSON, which no plain form can send. And on loopback a `Host` must be
one of this machine's names, so that a name of another site that is made to point here (DNS rebinding) gets nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from multidict import CIMultiDictProxy

from queue_manager.gateway.problems import CrossSite, Misdirected

ANY: Final = "*"
READING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that change nothing."""

SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Server": "queue-manager",
}
"""On every answer."""
API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
"""Content security policies: of what is only data, and of pages."""

EXPOSED_HEADERS: Final = "ETag, Retry-After, X-Request-Id"
PREFLIGHT_AGE: Final = 600
"""Seconds for which a browser need not ask again."""


class Guard:
    """The rules of one gateway."""

    def __init__(self, *, origins: Sequence[str], hosts: Sequence[str]) -> None:
        """`origins`: those of other sites that may call, or `*`; `hosts`: names that are ours, empty or `*` for any."""
        self._any_origin = ANY in origins
        self._origins = frozenset(origin.lower() for origin in origins)
        self._hosts = frozenset() if ANY in hosts else frozenset(host.lower() for host in hosts)

    def check(self, method: str, headers: CIMultiDictProxy[str]) -> None:
        """Raises `Misdirected`, `CrossSite`."""
        host = headers.get("Host", "").lower()
        if self._hosts and _name(host) not in self._hosts:
            raise Misdirected(
                f"this gateway is not called {_name(host) or 'nothing'}; QM_HTTP_HOSTS says which names are its own"
            )
        if method in READING:
            return
        origin, site = headers.get("Origin"), headers.get("Sec-Fetch-Site", "")
        if site in {"same-origin", "none"} or (origin is None and not site):
            return
        if origin is not None and (self._allows(origin) or _host_of(origin) == host):
            return
        raise CrossSite(
            f"a page of {origin or 'another site'} may not change anything here; QM_HTTP_CORS_ORIGINS says which may"
        )

    def cors(self, headers: CIMultiDictProxy[str]) -> Mapping[str, str]:
        """The headers that let the page that asks read the answer."""
        if not self._origins:
            return {}
        origin = headers.get("Origin")
        if origin is None or not self._allows(origin):
            return {"Vary": "Origin"}
        return {
            "Access-Control-Allow-Origin": ANY if self._any_origin else origin,
            "Access-Control-Expose-Headers": EXPOSED_HEADERS,
            "Vary": "Origin",
        }

    def preflight(self, headers: CIMultiDictProxy[str], allow: str) -> Mapping[str, str]:
        """The headers that answer a browser's question whether it may ask at all."""
        if "Access-Control-Request-Method" not in headers or not self._allows(headers.get("Origin", "")):
            return {}
        return {
            "Access-Control-Allow-Methods": allow,
            "Access-Control-Allow-Headers": headers.get("Access-Control-Request-Headers", ""),
            "Access-Control-Max-Age": str(PREFLIGHT_AGE),
        }

    def _allows(self, origin: str) -> bool:
        return self._any_origin or origin.lower() in self._origins


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _name(host: str) -> str:
    """Without its port."""
    return host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
