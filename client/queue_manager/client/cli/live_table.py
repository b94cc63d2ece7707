"""The live table of a watch on a terminal: redrawn in place, and its last picture stays.

Ctrl-C is the caller's to handle: the terminal is left in order whichever way it ends.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, suppress
from typing import Final

from rich.console import Console
from rich.live import Live

from queue_manager.client import AsyncClient, QueueManagerError
from queue_manager.client.cli import terminal
from queue_manager.client.cli.queue_view import QueueView, verdict
from queue_manager.client.cli.watching import lost_note
from queue_manager.v1.queue_pb2 import Queue

REDRAW_EVERY: Final = 0.125
"""Seconds between redraws at least: more often is only flicker."""
TICK: Final = 1.0
"""Seconds after which the time elapsed is drawn anew when nothing else has changed."""
CHROME_ROWS: Final = 6
"""Rows of a terminal that are not jobs: header, column names, blank lines, the note, the cursor's own."""

HINT: Final = "Ctrl-C stops watching; the queue goes on"


async def draw(client: AsyncClient, queue: Queue, *, after_revision: int | None) -> Queue:
    """Draw the queue until it has ended, then how it ended; answers its final form."""
    console = terminal.out()
    final = await _draw(client, queue, after_revision=after_revision, console=console)
    console.print()
    console.print(verdict(final, ascii_only=terminal.plain_ascii(console.encoding)))
    return final


async def _draw(client: AsyncClient, queue: Queue, *, after_revision: int | None, console: Console) -> Queue:
    """The live table; the last picture stays on the terminal, whichever way this ends."""
    picture = _Picture(queue, console)
    frames = client.watch(
        queue.queue_id, after_revision=after_revision, yield_heartbeats=True, on_reconnect=picture.lost
    )
    # No thread redraws: rich's own refresh would draw from outside the event loop, between two changes.
    with terminal.silent_keyboard(), Live(picture, console=console, auto_refresh=False) as live:
        drawing = asyncio.create_task(_redraw(live, picture))
        try:
            async with aclosing(frames):
                async for frame in frames:
                    picture.take(frame.queue if frame.HasField("queue") else None)
        finally:
            picture.last = True
            drawing.cancel()
            with suppress(asyncio.CancelledError):
                await drawing
    return picture.queue


async def _redraw(live: Live, picture: _Picture) -> None:
    while True:
        live.refresh()
        await asyncio.sleep(REDRAW_EVERY)
        with suppress(TimeoutError):
            async with asyncio.timeout(TICK - REDRAW_EVERY):
                await picture.changed.wait()
        picture.changed.clear()


class _Picture:
    """What the live table shows now."""

    def __init__(self, queue: Queue, console: Console) -> None:
        self.queue = queue
        self.changed = asyncio.Event()
        self.last = False
        """The picture that stays: without hints, and with every job."""
        self._console = console
        self._lost = ""

    def take(self, queue: Queue | None) -> None:
        """A frame: the connection lives, and maybe the queue has changed."""
        self._lost = ""
        # A watch that began in the past brings older pictures first; the table shows how it is.
        if queue is not None and queue.revision >= self.queue.revision:
            self.queue = queue
        self.changed.set()

    def lost(self, error: QueueManagerError, _pause: float) -> None:
        """The connection was cut; the watch goes on when there is one again."""
        self._lost = f"{lost_note(error)}; trying again…"
        self.changed.set()

    def __rich__(self) -> QueueView:
        """Rich's protocol; asked at every redraw, so that a resized terminal is drawn right."""
        if self.last:
            return QueueView(self.queue, time.time())
        rows = max(1, self._console.height - CHROME_ROWS)
        note, style = (self._lost, "yellow") if self._lost else (HINT, "dim")
        return QueueView(self.queue, time.time(), note=note, note_style=style, max_rows=rows)
