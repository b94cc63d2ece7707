"""What each command does, between the parsed options (`app.py`) and the client. Exit codes come back as values."""

from __future__ import annotations

import asyncio
import difflib
import os
import signal
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from google.protobuf.message import Message
from rich.console import RenderableType

from queue_manager.client import AsyncClient, Backoff, DeadlineExceeded, QueueManagerError
from queue_manager.client.channel import resolve_target
from queue_manager.client.cli import complaints, exits, formats, tables, terminal, watching
from queue_manager.client.cli.exits import ExitCode
from queue_manager.client.cli.payload_file import UnreadablePayload, read_payload
from queue_manager.client.cli.queue_view import QueueView, verdict
from queue_manager.v1.queue_pb2 import FailurePolicy, QueueState
from queue_manager.v1.service_pb2 import ListQueuesResponse, ListTargetsResponse, StartQueueResponse, StopMode

LARGEST_PAGE: Final = 500
"""The most that the server answers in one page."""
ATTEMPTS: Final = 4
"""Of a call: bridges a server's restart, and does not keep somebody waiting who has not started one."""


Command = Callable[[AsyncClient], Awaitable[ExitCode]]
"""A command with its options, waiting for a client."""


def run(server: str | None, command: Command) -> ExitCode:
    """Run a command to its end; Ctrl-C and SIGTERM end it in order."""
    try:
        return asyncio.run(_until_terminated(server, command))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except asyncio.CancelledError:
        return ExitCode.TERMINATED
    except BrokenPipeError:
        # Whoever read us has gone (`| head`). The interpreter would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.BROKEN_PIPE


async def execute(server: str | None, command: Command) -> ExitCode:
    """Run a command with an open client; whatever goes wrong becomes a sentence and an exit code."""
    target = resolve_target(server)
    try:
        async with AsyncClient(target, backoff=Backoff(attempts=ATTEMPTS)) as client:
            return await command(client)
    except QueueManagerError as e:
        complaints.print_error(terminal.err(), e, server=target)
        return exits.for_error(e)
    except BrokenPipeError:
        raise
    except Exception as e:
        if os.environ.get("QM_DEBUG"):
            raise
        text = f"unexpected: {type(e).__name__}: {formats.one_line(str(e))}; QM_DEBUG=1 shows where"
        complaints.print_line(terminal.err(), text)
        return ExitCode.UNEXPECTED


def read_file(path: str) -> dict[str, Any]:
    """What a file says; exits where it says nothing. Before the event loop runs, so that Ctrl-C ends a wait for stdin."""
    try:
        return read_payload(path)
    except UnreadablePayload as e:
        complaints.print_line(terminal.err(), str(e))
        raise SystemExit(ExitCode.USAGE) from e


async def start(
    client: AsyncClient,
    *,
    payload: Mapping[str, Any],
    request_id: str | None,
    labels: Mapping[str, str],
    validate_only: bool,
    failure_policy: str | None,
    follow: bool,
    json: bool,
) -> ExitCode:
    """Start the queue that a payload describes. Without a request id of the user's one is made up here, to tell him."""
    own_id = request_id or payload.get("request_id") or payload.get("requestId")
    used_id = own_id if isinstance(own_id, str) else uuid.uuid4().hex
    policy = FailurePolicy.Value(f"FAILURE_POLICY_{failure_policy}") if failure_policy else None
    try:
        response = await client.start_queue(
            payload, request_id=used_id, labels=labels, validate_only=validate_only, failure_policy=policy
        )
    except DeadlineExceeded as e:
        advice = f"it may have been started; to make sure, repeat with --request-id {used_id}"
        raise DeadlineExceeded(f"{e.message}; {advice}", reason=e.reason, code=e.code) from e
    if follow:
        if not json:
            _say_started(response)
        return exits.for_ended(await watching.follow(client, response.queue, after_revision=None, json=json))
    if json:
        _print_json(response)
    elif validate_only:
        _print(tables.plan(response))
    else:
        _say_started(response)
        if sys.stdout.isatty():
            terminal.out().print(f"follow it with: queuectl watch {response.queue.queue_id}", style="dim")
    return ExitCode.OK


async def stop(
    client: AsyncClient, queue_id: str, *, force: bool, grace: float | None, wait: bool, reason: str, json: bool
) -> ExitCode:
    """Stop a queue; with `wait`, come back when it has ended, however long the deletion takes."""
    queue = await client.stop_queue(
        queue_id,
        mode=StopMode.STOP_MODE_FORCE if force else StopMode.STOP_MODE_GRACEFUL,
        grace_period=grace,
        reason=reason,
    )
    if wait and queue.state not in formats.ENDED_QUEUES:
        # Not the call's own `wait`: that has to end with its deadline, a watch goes on until it is over.
        if sys.stderr.isatty():
            with terminal.err().status(f"waiting until no worker of {queue_id} is left"):
                queue = await watching.wait_ended(client, queue)
        else:
            queue = await watching.wait_ended(client, queue)
    if json:
        _print_json(queue)
    elif queue.state in formats.ENDED_QUEUES:
        _print(verdict(queue, ascii_only=terminal.plain_ascii(terminal.out())))
    else:
        print(f"{queue.queue_id} is {formats.queue_state(queue.state)}")  # noqa: T201 - the output
        if queue.HasField("stop_deadline") and not force and sys.stdout.isatty():
            deadline = formats.utc(queue.stop_deadline)
            terminal.out().print(f"workers that still run at {deadline} are deleted", style="dim")
    return exits.for_ended(queue, stop_wanted=True) if wait else ExitCode.OK


async def get(client: AsyncClient, queue_id: str, *, json: bool) -> ExitCode:
    """Show one queue."""
    queue = await client.get_queue(queue_id)
    if json:
        _print_json(queue)
        return ExitCode.OK
    _print(QueueView(queue, time.time()))
    if queue.state in formats.ENDED_QUEUES:
        print()  # noqa: T201 - the output
        _print(verdict(queue, ascii_only=terminal.plain_ascii(terminal.out())))
    return ExitCode.OK


async def list_queues(
    client: AsyncClient,
    *,
    states: Sequence[str],
    symbol: str,
    target: str,
    selector: str,
    limit: int,
    json: bool,
) -> ExitCode:
    """Show the newest queues that match, in as few pages as hold `limit` of them."""
    wanted = [QueueState.Value(f"QUEUE_STATE_{state}") for state in states]
    answer = ListQueuesResponse()
    while len(answer.queues) < limit:
        page = await client.list_page(
            states=wanted,
            symbol=symbol,
            target=target,
            label_selector=selector,
            page_size=min(LARGEST_PAGE, limit - len(answer.queues)),
            page_token=answer.next_page_token,
        )
        answer.queues.extend(page.queues)
        answer.next_page_token = page.next_page_token
        if not page.next_page_token:
            break
    if json:
        _print_json(answer)
        return ExitCode.OK
    _print(tables.queues(answer.queues, console=terminal.out(), now=time.time()))
    if answer.next_page_token and sys.stdout.isatty():
        terminal.err().print(f"the newest {len(answer.queues)}; --limit shows more", style="dim")
    return ExitCode.OK


async def watch(client: AsyncClient, queue_id: str, *, after_revision: int | None, json: bool) -> ExitCode:
    """Follow a queue to its end."""
    # First a plain call: it fails at once where the server or the queue is missing, a watch would try for a minute.
    queue = await client.get_queue(queue_id)
    return exits.for_ended(await watching.follow(client, queue, after_revision=after_revision, json=json))


async def targets(client: AsyncClient, name: str | None, *, json: bool) -> ExitCode:
    """Show the catalogue, or one target of it."""
    listed = await client.list_targets()
    if name is not None:
        chosen = [target for target in listed if target.name == name]
        if not chosen:
            names = [target.name for target in listed]
            near = difflib.get_close_matches(name, names, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(names) or 'none'}"
            complaints.print_line(terminal.err(), f"there is no target {formats.one_line(name)!r}; {remedy}")
            return ExitCode.NOT_FOUND
        listed = chosen
    if json:
        _print_json(ListTargetsResponse(targets=listed))
    else:
        _print(tables.targets(listed) if name is None else tables.target(listed[0]))
    return ExitCode.OK


async def _until_terminated(server: str | None, command: Command) -> ExitCode:
    """SIGTERM cancels the command, so that a live table gives the cursor back on its way out."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows has no SIGTERM to handle
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await execute(server, command)


def _say_started(response: StartQueueResponse) -> None:
    """In a pipe the id alone, so that `$(queuectl start …)` is it."""
    queue_id = response.queue.queue_id
    if not sys.stdout.isatty():
        print(queue_id, flush=True)  # noqa: T201 - the output
        return
    said = "started" if response.created else "already started with this request id:"
    terminal.out().print(f"{said} {queue_id}")


def _print_json(message: Message) -> None:
    print(formats.as_json(message, ascii_only=terminal.plain_ascii(terminal.out())))  # noqa: T201 - the output


def _print(what: RenderableType) -> None:
    console = terminal.out()
    if console.file.isatty():
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    # A table fills its last column with spaces, which nobody wants in a file.
    for line in captured.get().splitlines():
        print(line.rstrip())  # noqa: T201 - the output
