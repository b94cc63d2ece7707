"""An image registry that never comes to an answer: a pull from it is under way until somebody gives it up."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class SlowRegistry:
    """Listens on this machine, which is the node. `async with` opens and closes it."""

    def __init__(self) -> None:
        """Nobody has asked yet."""
        self.asked = asyncio.Event()
        """Set once a pull has begun."""
        self.pulling = 0
        """Connections that wait for an answer."""
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._gives_up = False

    @property
    def image(self) -> str:
        """One that is pulled from here."""
        assert self._server is not None
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}/slow:1"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.give_up()
        for task in tuple(self._tasks):
            await asyncio.wait([task])

    def give_up(self) -> None:
        """End the pulls that are under way, and all to come, as failures."""
        self._gives_up = True
        for writer in self._open:
            writer.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._keep_waiting(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_waiting(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.pulling += 1
        self.asked.set()
        try:
            while not self._gives_up and await reader.read(4096):
                pass
        except ConnectionError:
            pass  # given up
        finally:
            self.pulling -= 1
            self._open.discard(writer)
            writer.close()
