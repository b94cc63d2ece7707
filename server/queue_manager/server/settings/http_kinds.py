"""The kinds of values that the gateway's settings have: host names, origins, the server that it calls.

They are held to what browsers and gRPC send and take, so that a value which would never match anything, or match too
much, is refused at the start. The kinds that all settings share are `kinds`.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

ANY: Final = "*"

_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"(?=.{{1,253}}\Z)({_LABEL}\.)*(?!\d+\Z){_LABEL}")
"""A host name, in lower case. One that ends in a number is an IP address, or nothing."""
_ORIGIN: Final = re.compile(r"(?P<scheme>https?)://(?P<host>\[[^\]]*\]|[^\s\[\]:/?#@]+)(:(?P<port>[0-9]{1,5}))?")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_TARGETS: Final = ("dns:", "unix:", "unix-abstract:", "vsock:", "ipv4:", "ipv6:", "xds:")
"""How gRPC's own names begin; what follows is for gRPC to judge."""
_HOST_AND_PORT: Final = re.compile(r"(?P<host>\[[\w.:%]+\]|[\w.-]+):(?P<port>[0-9]{1,5})", re.ASCII)
_MOST_PORT: Final = 65535


def parse_host(text: str) -> str:
    """A host as it stands in a `Host` header: lower case, IPv6 in brackets. Raises `ValueError`."""
    text = text.lower()
    if _NAME.fullmatch(text):
        return text
    bracketed = text.startswith("[") and text.endswith("]")
    try:
        address = ipaddress.ip_address(text[1:-1] if bracketed else text)
    except ValueError:
        address = None
    if address is None or (bracketed and address.version == 4) or "%" in text:
        raise ValueError(f"{text!r} is no host name")
    return f"[{address}]" if address.version == 6 else str(address)


def parse_origin(text: str) -> str:
    """An origin as browsers send it: lower case, without the scheme's own port. Raises `ValueError`."""
    found = _ORIGIN.fullmatch(text.lower())
    port = int(found["port"] or 0) if found else 0
    if found is None or port > _MOST_PORT or (found["port"] and not port):
        raise ValueError(f"{text!r} is no origin")
    host = parse_host(found["host"])
    return f"{found['scheme']}://{host}" + (f":{port}" if port not in {0, _DEFAULT_PORTS[found["scheme"]]} else "")


def parse_grpc_name(value: object) -> str:
    """What gRPC can call: `host:port`, or one of its own names. Raises `ValueError`."""
    text = str(value).strip()
    kind, _, rest = text.partition(":")
    if f"{kind}:" in _TARGETS and rest.strip("/"):
        return text
    scheme, is_url, rest = text.partition("://")
    if is_url and scheme in {"http", "https", "grpc", "grpcs"}:
        authority = rest.split("/")[0]
        example = authority if _HOST_AND_PORT.fullmatch(authority) else "127.0.0.1:50051"
        raise ValueError(f"{text!r} is a URL, and the API is gRPC; write it without {scheme}://, e.g. {example}")
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) <= _MOST_PORT:
        raise ValueError(
            f"{text!r} is not host:port; write e.g. 127.0.0.1:50051, [::1]:50051, dns:///queue-manager:50051 "
            "or unix:/run/queue-manager.sock"
        )
    return text


def _each(parse: Callable[[str], str], kind: str, remedy: str) -> Callable[[object], tuple[str, ...]]:
    """Reads words that are separated by commas, and tells of all that are wrong. `*` stands for any."""

    def read(value: object) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        words = [word.strip() for word in str(value).split(",") if word.strip()]
        found, wrong = [], []
        for word in words:
            try:
                found.append(word if word == ANY else parse(word))
            except ValueError:
                wrong.append(repr(word))
        if wrong or not words:
            are = f"are no {kind}s" if len(wrong) > 1 else f"is no {kind}"
            raise ValueError(f"{', '.join(wrong) or repr(value)} {are}; {remedy}")
        return tuple(dict.fromkeys(found))

    return read


def _within_a_day(seconds: float) -> float:
    if seconds > 86400:
        raise ValueError("must be at most 1d; write e.g. 30s")
    return seconds


_read_hosts: Final = _each(
    parse_host,
    "host name",
    "write names or IP addresses without scheme, port and path, e.g. queues.example.com,10.0.0.7, or * for any",
)
_read_origins: Final = _each(
    parse_origin,
    "origin",
    "write http:// or https://, the host, its port if it has one, and nothing after them, e.g. "
    "https://board.example.com,http://localhost:3000, or * for any",
)

Hosts = Annotated[tuple[str, ...], BeforeValidator(_read_hosts)]
"""Names by which something is called, or `*`."""
Origins = Annotated[tuple[str, ...], BeforeValidator(_read_origins)]
"""Origins of pages, or `*`."""
GrpcName = Annotated[str, BeforeValidator(parse_grpc_name)]
"""A server that gRPC can call."""
WithinADay = AfterValidator(_within_a_day)
"""For durations that somebody waits for; far longer ones overflow in gRPC."""
