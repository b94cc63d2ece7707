"""What commands write for people, where no other form is asked for: tables, verdicts, and hints on how to go on.

What draws is loaded with the first table: a start in a pipe writes an id, and needs none of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from queue_manager.client.cli import formats, terminal
from queue_manager.client.cli.printing import draw, hint, say
from queue_manager.v1.queue_pb2 import Queue
from queue_manager.v1.service_pb2 import (
    DiagnoseResponse,
    ListDeadLettersResponse,
    ListQueuesResponse,
    ReplayDeadLettersResponse,
    StartQueueResponse,
)
from queue_manager.v1.target_pb2 import Target


def started_id(response: StartQueueResponse) -> None:
    """In a pipe the id alone, so that `$(queuectl start …)` is it."""
    queue_id = response.queue.queue_id
    if not sys.stdout.isatty():
        say(queue_id)
        return
    said = "started" if response.created else "already started with this request id:"
    terminal.out().print(f"{said} {queue_id}")


def started(response: StartQueueResponse, *, validate_only: bool) -> None:
    """What a start has come to: a plan, or a queue."""
    if validate_only or response.plan:
        from queue_manager.client.cli import tables

        draw(tables.plan(response))
        return
    started_id(response)
    hint(f"follow it with: queuectl watch {response.queue.queue_id}")


def diagnosis(found: DiagnoseResponse) -> None:
    """What is wrong, each with what to do about it; or that nothing is."""
    parts = ", ".join(f"{part} {what}" for part, what in sorted(found.parts.items()))
    say(f"server {found.version}: {parts}")
    if not found.findings:
        say("nothing is wrong that it knows of")
    for finding in found.findings:
        say(f"{formats.severity(finding.severity)}: {finding.part}: {finding.message}")
        for subject in finding.subjects:
            say(f"  {subject}")
        if finding.remedy:
            say(f"  what to do: {finding.remedy}")


def stopped(queue: Queue, *, force: bool) -> None:
    """What a stop has come to: how the queue ended, or that it is about to."""
    if queue.state in formats.ENDED_QUEUES:
        _verdict(queue)
        return
    say(f"{queue.queue_id} is {formats.queue_state(queue.state)}")
    if queue.HasField("stop_deadline") and not force:
        hint(f"workers that still run at {formats.utc(queue.stop_deadline)} are deleted")


def one(queue: Queue) -> None:
    """A queue with its jobs, and how it ended."""
    from queue_manager.client.cli.queue_view import QueueView

    draw(QueueView(queue, time.time()))
    if queue.state in formats.ENDED_QUEUES:
        say("")
        _verdict(queue)


def _verdict(queue: Queue) -> None:
    from queue_manager.client.cli.queue_view import verdict

    draw(verdict(queue, ascii_only=terminal.plain_ascii(sys.stdout.encoding)))


def listed(answer: ListQueuesResponse) -> None:
    """Queues, one a row."""
    from queue_manager.client.cli import tables

    draw(tables.queues(answer.queues, console=terminal.out(), now=time.time()))
    if answer.next_page_token and sys.stdout.isatty():
        terminal.err().print(f"the newest {len(answer.queues)}; --limit shows more", style="dim")


def catalogue(targets: Sequence[Target]) -> None:
    """All targets in short."""
    from queue_manager.client.cli import tables

    draw(tables.targets(targets))


def target(shown: Target) -> None:
    """One target with all its rules."""
    from queue_manager.client.cli import tables

    draw(tables.target(shown))


def dead_letters(answer: ListDeadLettersResponse) -> None:
    """Dead letters, one a row."""
    from queue_manager.client.cli import tables

    draw(tables.dead_letters(answer.dead_letters, console=terminal.out(), now=time.time()))
    if answer.next_page_token and sys.stdout.isatty():
        terminal.err().print(f"the newest {len(answer.dead_letters)}; --limit shows more", style="dim")


def replayed(response: ReplayDeadLettersResponse, *, dry_run: bool) -> None:
    """What was sent again, and what was passed over."""
    for letter_id in response.replayed_ids:
        say(f"{letter_id} {'would be replayed' if dry_run else 'replayed'}")
    for letter_id in response.skipped_ids:
        say(f"{letter_id} had been replayed before")
    for letter_id in response.cut_ids:
        say(f"{letter_id} cannot be replayed: it was cut when it was put away")
    if not response.replayed_ids and not response.skipped_ids and not response.cut_ids:
        say("there are no dead letters")
    if response.skipped_ids:
        hint("--force sends those again, too")
