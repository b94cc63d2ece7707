"""Follows a queue until it has ended: as a live table on a terminal, as lines, JSON or YAML in a pipe.

The client's watch does the following and the reconnecting; this writes. Ctrl-C is the caller's to handle.
"""

from __future__ import annotations

import sys
from contextlib import aclosing

from queue_manager.client import AsyncClient, QueueManagerError
from queue_manager.client.cli import terminal
from queue_manager.client.cli.event_lines import EventLines
from queue_manager.client.cli.options import Output
from queue_manager.client.cli.printing import Results, say
from queue_manager.v1.queue_pb2 import Queue


async def follow(client: AsyncClient, queue: Queue, *, after_revision: int | None, output: Output) -> Queue:
    """Show what happens to the queue until it has ended; answers its final form. Raises what the watch raises."""
    if output is Output.TABLE and terminal.is_live():
        from queue_manager.client.cli import live_table

        return await live_table.draw(client, queue, after_revision=after_revision)
    return await _write_frames(client, queue, after_revision=after_revision, output=output)


async def wait_ended(client: AsyncClient, queue: Queue) -> Queue:
    """Wait without a word; answers the queue's final form."""
    async with aclosing(client.watch(queue.queue_id)) as frames:
        async for frame in frames:
            queue = frame.queue
    return queue


async def _write_frames(client: AsyncClient, queue: Queue, *, after_revision: int | None, output: Output) -> Queue:
    """One line or document a frame."""
    ascii_only = terminal.plain_ascii(sys.stdout.encoding)
    results, lines = Results(output), EventLines()

    def lost(error: QueueManagerError, pause: float) -> None:
        print(f"{lost_note(error)}; trying again in {pause:.1f} s", file=sys.stderr, flush=True)  # noqa: T201

    frames = client.watch(queue.queue_id, after_revision=after_revision, on_reconnect=lost)
    async with aclosing(frames):
        async for frame in frames:
            if output is Output.TABLE:
                say(terminal.spell(lines.line(frame), ascii_only=ascii_only))
            else:
                results.document(frame, one_line=True)
            queue = frame.queue
    return queue


def lost_note(error: QueueManagerError) -> str:
    """Why nothing comes just now, in a few words."""
    if not error.from_server:
        return "connection lost"
    return "the server is shutting down" if error.reason == "SHUTTING_DOWN" else "the server cannot answer now"
