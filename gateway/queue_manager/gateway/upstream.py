"""The server, called by gRPC: messages stay as bytes, and what a caller sent along goes on with them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc

from queue_manager.gateway import status as statuses
from queue_manager.gateway.problems import HeadersTooLarge, Malformed, Violation
from queue_manager.gateway.status import Failed

MAX_RECEIVE_BYTES: Final = 64 * 1024 * 1024
"""A page of 500 queues with 64 jobs each is more than grpc's own 4 MiB."""

_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # grpc waits 1 s to 2 minutes between connection attempts, and fails every call meanwhile.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # A server that is gone without a word (a machine that lost its power) is noticed within half a minute.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)

MOST_METADATA: Final = 6 * 2**10
"""Bytes; gRPC takes 8 KiB, its own headers among them."""

Metadata = tuple[tuple[str, str], ...]

_PASSED_ON: Final = ("x-request-id", "traceparent", "tracestate", "baggage")
"""Headers that become metadata as they are."""
_PREFIX: Final = "grpc-metadata-"
"""Begins headers that become metadata without it."""
_NAME: Final = re.compile(r"[a-z0-9_.-]{1,128}")
_OURS: Final = frozenset({"x-requested-by", "grpc-timeout", "te", "content-type", "user-agent"})
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])")
_UNITS: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_LONGEST: Final = 365 * 24 * 3600.0
"""Seconds. gRPC's core overflows on deadlines after the year 2262, and calls that they are over."""


SHUTTING_DOWN: Final = statuses.made(
    grpc.StatusCode.UNAVAILABLE, "SHUTTING_DOWN", "the gateway is shutting down", retry=True
)


@contextmanager
def told_of_closing() -> Iterator[None]:
    """What becomes of a call once the connection is closed, as `Failed`.

    A new one is refused by `grpc.aio.UsageError`; one in flight, or the reading of its stream, is cancelled.
    """
    try:
        yield
    except grpc.aio.UsageError:
        raise Failed(SHUTTING_DOWN) from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise  # the client has gone
        raise Failed(SHUTTING_DOWN) from None


class Upstream:
    """The connection. Needs the running event loop."""

    def __init__(self, server: str) -> None:
        """`server`: its address, `host:port`."""
        self.server = server
        host = server.removeprefix("dns:").lstrip("/")
        here = host.startswith(("127.", "localhost:", "[::1]:", "unix:"))
        # An `http_proxy` of the environment is meant for the network, not for this machine.
        self.channel = grpc.aio.insecure_channel(
            server, options=[*_OPTIONS, *([("grpc.enable_http_proxy", 0)] if here else [])]
        )
        self._calls: dict[str, Any] = {}

    async def unary(self, path: str, request: bytes, metadata: Metadata, timeout: float) -> bytes:
        """Call a method that answers once. `timeout` in seconds. Raises `grpc.aio.AioRpcError`, `Failed`."""
        call = self._calls.get(path)
        if call is None:
            call = self._calls[path] = self.channel.unary_unary(path)
        with told_of_closing():
            answer: bytes = await call(request, metadata=metadata, timeout=timeout)
        return answer

    def stream(self, path: str, request: bytes, metadata: Metadata, timeout: float | None = None) -> Any:
        """Call a method that answers a stream. Raises `Failed`.

        Iterating over the call raises `grpc.aio.AioRpcError`; it belongs into `told_of_closing`.
        """
        call = self._calls.get(path)
        if call is None:
            call = self._calls[path] = self.channel.unary_stream(path)
        with told_of_closing():
            return call(request, metadata=metadata, timeout=timeout)

    async def close(self, grace: float | None = None) -> None:
        """Give calls in flight so many seconds, then cancel them, and disconnect."""
        await self.channel.close(grace)


def metadata_of(headers: Mapping[str, str], remote: str | None) -> Metadata:
    """What goes on to the server with a call. Raises `HeadersTooLarge`, `Malformed`.

    Who calls is `X-Requested-By`, else the address that the request came from: to the server they would all be us.
    """
    found = [("x-requested-by", printable(headers.get("X-Requested-By") or remote or "unknown")[:256])]
    if credentials := headers.get("Authorization"):
        if printable(credentials) != credentials:
            raise Malformed([Violation("Authorization", "must be printable ASCII")])
        found.append(("authorization", credentials))
    found.extend((name, printable(value)) for name in _PASSED_ON if (value := headers.get(name)))
    for header, value in headers.items():
        name = header.lower()
        if name.startswith(_PREFIX):
            name = name.removeprefix(_PREFIX)
            # `-bin` values are bytes, `grpc-` and `:` names gRPC's own.
            if (
                _NAME.fullmatch(name)
                and name not in _OURS
                and not name.endswith("-bin")
                and not name.startswith("grpc-")
            ):
                found.append((name, printable(value)))
    if sum(len(name) + len(value) for name, value in found) > MOST_METADATA:
        raise HeadersTooLarge(
            f"the headers that are passed on to the server must be at most {MOST_METADATA} bytes in all"
        )
    return tuple(found)


def timeout_of(headers: Mapping[str, str]) -> float | None:
    """Seconds, by `Grpc-Timeout` in gRPC's own form. Raises `Malformed`."""
    text = headers.get("Grpc-Timeout")
    if text is None:
        return None
    found = _TIMEOUT.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise Malformed(
            [Violation("Grpc-Timeout", "must be up to 8 digits, more than 0, and one of H M S m u n, e.g. 5S or 500m")]
        )
    return min(int(found[1]) * _UNITS[found[2]], _LONGEST)


def printable(text: str) -> str:
    """As printable ASCII, which metadata and headers are made of."""
    return text if text.isascii() and text.isprintable() else "".join(c if " " <= c <= "~" else "?" for c in text)
