"""A TCP proxy between a client and a server, for networks that fall silent, lose answers, and cut connections."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a free port of 127.0.0.1. `async with` opens and closes it."""

    def __init__(self, host: str, port: int) -> None:
        """Of the server behind it."""
        self._behind = host, port
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self._server: asyncio.Server | None = None
        self._deaf: set[asyncio.StreamWriter] = set()

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Connections stay open and silent, both ways; new ones are accepted, and silent too."""
        self._flows.clear()

    def thaw(self) -> None:
        """What was held back goes on."""
        self._flows.set()

    def lose_answers(self) -> None:
        """On the connections that there are: what the client sends arrives, what the server answers does not."""
        self._deaf |= {to_client for to_client, _ in self._pairs}

    def cut(self) -> None:
        """Every connection is reset."""
        for pair in tuple(self._pairs):
            for writer in pair:
                writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._behind)
        except OSError:
            writer.transport.abort()
            return
        pair = writer, to_writer
        self._pairs.add(pair)
        there = asyncio.create_task(self._pump(reader, to_writer))
        back = asyncio.create_task(self._pump(to_reader, writer))
        self._tasks |= {there, back}
        try:
            await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (there, back):
                task.cancel()
                self._tasks.discard(task)
            self._pairs.discard(pair)
            self._deaf.discard(writer)
            for end in pair:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flows.wait()
                if writer not in self._deaf:
                    writer.write(data)
                    await writer.drain()
