"""Where the gateway listens, and what follows from it: whether only this machine reaches it, and by which names.

The sockets are bound here, and not by aiohttp, so that the rules can be made from the addresses that are really listened
on, whichever way they are written, before the first request is answered.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Final

BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a thousand watchers come back at once."""
THIS_MACHINE: Final = ("localhost", "127.0.0.1", "[::1]")
"""Its names, as they stand in a `Host`."""
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
"""Of an address that this machine does not have, such as `localhost`'s `::1` where IPv6 is off."""


class CannotListen(Exception):
    """The address cannot be had."""

    def __init__(self, address: str, why: str) -> None:
        """`why`: the system's reason."""
        self.address = address
        self.why = why
        super().__init__(f"{address} cannot be listened on: {why}")


@asynccontextmanager
async def listening(host: str, port: int) -> AsyncIterator[Sequence[socket.socket]]:
    """Listen on every address that `host` resolves to, on one port; 0 for any. Raises `CannotListen`."""
    with ExitStack() as opened:
        try:
            sockets = await _bound(host, port, opened)
            for one in sockets:
                one.listen(BACKLOG)
                one.setblocking(False)
        except (OSError, UnicodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise CannotListen(f"{_bracketed(host)}:{port}", why[:1].lower() + why[1:]) from error
        yield sockets


def on_loopback(sockets: Sequence[socket.socket]) -> bool:
    """Whether nobody but this machine reaches them."""
    return all(ipaddress.ip_address(one.getsockname()[0]).is_loopback for one in sockets)


def names_on_loopback(host: str) -> Sequence[str]:
    """What this machine calls a gateway that listens on loopback at `host`."""
    return *THIS_MACHINE, _bracketed(host)


def url_of(sockets: Sequence[socket.socket]) -> str:
    """How to reach the first of them."""
    host, port = sockets[0].getsockname()[:2]
    return f"http://{_bracketed(host)}:{port}"


async def _bound(host: str, port: int, opened: ExitStack) -> Sequence[socket.socket]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        try:
            one = opened.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], sockets[0].getsockname()[1] if sockets else port, *address[2:]))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            missing = error
        else:
            sockets.append(one)
    if not sockets:
        raise missing
    return sockets


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
