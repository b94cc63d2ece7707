"""How a worker is connected: what it says goes out, commands come in. By standard input and output; see `kafka`, too."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Protocol

LINE_LIMIT: Final = 65536
"""Bytes of the longest command that is read."""

Hear = Callable[[bytes], None]
"""Given each command as it came, in the event loop's thread."""


class Channel(Protocol):
    """`async with` opens and closes it; closing sends what has not gone out yet."""

    async def __aenter__(self) -> Channel:
        """Open it."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""

    async def send(self, message: bytes) -> None:
        """Send telemetry. What cannot be sent is lost: the work is more important."""


class StandardChannel:
    """A line for each message, on standard output and input."""

    def __init__(self, hear: Hear) -> None:
        """`hear` is given the commands."""
        self._hear = hear

    async def __aenter__(self) -> StandardChannel:
        """A thread reads, because standard input can be what no event loop can wait for (a file, /dev/null)."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, args=(loop,), name="standard input", daemon=True).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The thread ends with the process."""

    async def send(self, message: bytes) -> None:
        """See `Channel`. Whole lines, so that several threads or children cannot mix them."""
        data = message + b"\n"
        with suppress(OSError):  # nobody reads any more; the work goes on
            while data:
                data = data[os.write(1, data) :]

    def _read(self, loop: asyncio.AbstractEventLoop) -> None:
        rest = b""
        with suppress(OSError, RuntimeError):  # it was closed before, or the loop is at its end
            while data := os.read(0, LINE_LIMIT):
                *lines, rest = (rest + data)[-LINE_LIMIT:].split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(self._hear, line)
