"""The server's address: where on the command line it was given, and whether it can be one at all.

It is judged before gRPC resolves it, which would try for seconds and say less.
"""

from __future__ import annotations

import re
from typing import Final

import typer

_EXAMPLE_PORT: Final = 50051
"""The server's own default; for what is proposed."""
_NAMES: Final = ("dns:", "unix:", "unix-abstract:", "vsock:", "ipv4:", "ipv6:", "xds:")
"""How gRPC's own names begin; what follows is for gRPC to judge."""
_ADDRESS: Final = re.compile(r"(?P<host>\[[\w.:%]+\]|[\w.-]*)(:(?P<port>\w*))?", re.ASCII)


def fault(address: str) -> str:
    """What is wrong with it and how to write it; empty where nothing is."""
    if address.startswith(_NAMES):
        return ""
    scheme, is_url, rest = address.partition("://")
    if is_url:
        authority = rest.split("/")[0] or "HOST"
        written = authority if ":" in authority else f"{authority}:{_EXAMPLE_PORT}"
        return f"the API is gRPC, without {scheme}://; write {written}"
    if address.count(":") > 1 and not address.startswith("["):
        return f"an IPv6 address stands in brackets; write it like [::1]:{_EXAMPLE_PORT}"
    found = _ADDRESS.fullmatch(address)
    if found is None:
        return f"that is no address; write it like 127.0.0.1:{_EXAMPLE_PORT}"
    host, port = found["host"], found["port"]
    if not host:
        return f"the host is missing; write it like 127.0.0.1:{port or _EXAMPLE_PORT}"
    if not port:
        return f"the port is missing; write it like {host}:{_EXAMPLE_PORT}"
    if not port.isdecimal() or not 0 < int(port) <= 65535:
        return f"a port is a number from 1 to 65535; write it like {host}:{_EXAMPLE_PORT}"
    return ""


def given(ctx: typer.Context) -> str | None:
    """What `--server` says so far in a line that is being typed: after the command, else before it, else nothing."""
    found = ctx.params.get("server") or ctx.find_root().params.get("server")
    return found if isinstance(found, str) else None
