"""Follows a queue until it has ended: as a live table on a terminal, as lines or JSON in a pipe.

The client's watch does the following and the reconnecting; this draws. Ctrl-C is the caller's to handle: what is drawn
is left in order whichever way it ends.
"""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import aclosing, suppress
from typing import Final

from rich.console import Console
from rich.live import Live

from queue_manager.client import AsyncClient, QueueManagerError
from queue_manager.client.cli import formats, terminal
from queue_manager.client.cli.event_lines import EventLines
from queue_manager.client.cli.queue_view import QueueView, verdict
from queue_manager.v1.queue_pb2 import Queue

REDRAW_EVERY: Final = 0.125
"""Seconds between redraws at least: more often is only flicker."""
TICK: Final = 1.0
"""Seconds after which the time elapsed is drawn anew when nothing else has changed."""
CHROME_ROWS: Final = 6
"""Rows of a terminal that are not jobs: header, column names, blank lines, the note, the cursor's own."""

HINT: Final = "Ctrl-C stops watching; the queue goes on"


async def follow(client: AsyncClient, queue: Queue, *, after_revision: int | None, json: bool) -> Queue:
    """Show what happens to the queue until it has ended; answers its final form. Raises what the watch raises."""
    console = terminal.out()
    if json or not terminal.is_live(console):
        return await _print_frames(client, queue, after_revision=after_revision, json=json, console=console)
    final = await _draw(client, queue, after_revision=after_revision, console=console)
    console.print()
    console.print(verdict(final, ascii_only=terminal.plain_ascii(console)))
    return final


async def wait_ended(client: AsyncClient, queue: Queue) -> Queue:
    """Wait without a word; answers the queue's final form."""
    async with aclosing(client.watch(queue.queue_id)) as frames:
        async for frame in frames:
            queue = frame.queue
    return queue


async def _print_frames(
    client: AsyncClient, queue: Queue, *, after_revision: int | None, json: bool, console: Console
) -> Queue:
    """One line a frame, out at once, because whoever reads the pipe acts on it."""
    ascii_only = terminal.plain_ascii(console)
    lines = EventLines()

    def lost(error: QueueManagerError, pause: float) -> None:
        print(f"{_lost_note(error)}; trying again in {pause:.1f} s", file=sys.stderr, flush=True)  # noqa: T201

    frames = client.watch(queue.queue_id, after_revision=after_revision, on_reconnect=lost)
    async with aclosing(frames):
        async for frame in frames:
            line = (
                formats.as_json(frame, one_line=True, ascii_only=ascii_only)
                if json
                else terminal.spell(lines.line(frame), ascii_only=ascii_only)
            )
            print(line, flush=True)  # noqa: T201 - the program's output
            queue = frame.queue
    return queue


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
        self._lost = f"{_lost_note(error)}; trying again…"
        self.changed.set()

    def __rich__(self) -> QueueView:
        """Rich's protocol; asked at every redraw, so that a resized terminal is drawn right."""
        if self.last:
            return QueueView(self.queue, time.time())
        rows = max(1, self._console.height - CHROME_ROWS)
        note, style = (self._lost, "yellow") if self._lost else (HINT, "dim")
        return QueueView(self.queue, time.time(), note=note, note_style=style, max_rows=rows)


def _lost_note(error: QueueManagerError) -> str:
    if not error.from_server:
        return "connection lost"
    return "the server is shutting down" if error.reason == "SHUTTING_DOWN" else "the server cannot answer now"
