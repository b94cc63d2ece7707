"""An HTTP client that does no more than it must, so that the servers are measured and not the client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from itertools import cycle
from time import monotonic, perf_counter
from typing import Self, cast

from bench.load import Calls

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_ID = re.compile(rb"(?:^|\n)id: (\d+)\n")


def request(port: int, path: str, *headers: str) -> bytes:
    """A GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *headers, "", ""]).encode()


async def get(port: int, path: str) -> bytes:
    """What is answered; it must be 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await _exchange(reader, writer, request(port, path))
    finally:
        writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wanted: bytes) -> bytes:
    writer.write(wanted)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    length = _LENGTH.search(head)
    assert length is not None, head
    return await reader.readexactly(int(length[1]))


async def closed_loop(port: int, paths: Sequence[str], *, in_flight: int, seconds: float) -> Calls:
    """Keep so many requests in flight for so long, for these paths in turn. Every one must succeed."""
    connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(in_flight)]
    wanted = cycle([request(port, path) for path in paths])
    latencies: list[float] = []
    end = perf_counter() + seconds

    async def caller(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (began := perf_counter()) < end:
            await _exchange(reader, writer, next(wanted))
            latencies.append(perf_counter() - began)

    began = perf_counter()
    await asyncio.gather(*(caller(*connection) for connection in connections))
    took = perf_counter() - began
    for _, writer in connections:
        writer.close()
    return Calls(took, latencies)


class Watcher(asyncio.Protocol):
    """A reader of server-sent events, who notes when each id arrived."""

    def __init__(self, port: int, name: str) -> None:
        """`name`: of what is watched."""
        self.name = name
        self.arrived: list[tuple[int, float]] = []
        self.began = asyncio.get_running_loop().create_future()
        self._wanted = request(port, f"/v1/queues/{name}:watch", "Accept: text/event-stream")
        self._transport: asyncio.Transport | None = None
        self._tail = b""

    @classmethod
    async def of(cls, port: int, name: str) -> Self:
        """One who watches this queue, and has had its first frame."""
        _, watcher = await asyncio.get_running_loop().create_connection(lambda: cls(port, name), "127.0.0.1", port)
        async with asyncio.timeout(30):
            await watcher.began
        return watcher

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._wanted)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. An id may stand across two pieces."""
        now, text = monotonic(), self._tail + data
        last = 0
        for found in _ID.finditer(text):
            self.arrived.append((int(found[1]), now))
            last = found.end()
        self._tail = text[max(last, len(text) - 32) :]
        if self.arrived and not self.began.done():
            self.began.set_result(None)

    def close(self) -> None:
        """Go away."""
        assert self._transport is not None
        self._transport.abort()


async def watchers(port: int, names: Sequence[str], count: int) -> list[Watcher]:
    """So many, in turn on these queues; fifty at a time connect."""
    found: list[Watcher] = []
    for begin in range(0, count, 50):
        some = range(begin, min(begin + 50, count))
        found += await asyncio.gather(*(Watcher.of(port, names[number % len(names)]) for number in some))
    return found
