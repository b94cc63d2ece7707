"""What each command does, between the parsed options (`app.py`) and the client. Exit codes come back as values."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from queue_manager.client import (
    AsyncClient,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    QueueManagerError,
)
from queue_manager.client.cli import exits, formats, telling, terminal, watching
from queue_manager.client.cli.exit_codes import ExitCode, worse
from queue_manager.client.cli.options import Output
from queue_manager.client.cli.printing import Results, say
from queue_manager.v1.queue_pb2 import FailurePolicy, Queue, QueueState
from queue_manager.v1.service_pb2 import ListDeadLettersResponse, ListQueuesResponse, ListTargetsResponse, StopMode

LARGEST_PAGE: Final = 500
"""The most that the server answers in one page."""


async def start(
    client: AsyncClient,
    *,
    payload: Mapping[str, Any],
    request_id: str | None,
    labels: Mapping[str, str],
    validate_only: bool,
    failure_policy: str | None,
    follow: bool,
    output: Output,
) -> ExitCode:
    """Start the queue that a payload describes. Without a request id of the user's one is made up here, to tell him."""
    import uuid

    own_id = request_id or payload.get("request_id") or payload.get("requestId")
    used_id = own_id if isinstance(own_id, str) else uuid.uuid4().hex
    policy = FailurePolicy.Value(f"FAILURE_POLICY_{failure_policy}") if failure_policy else None
    try:
        response = await client.start_queue(
            payload, request_id=used_id, labels=labels, validate_only=validate_only, failure_policy=policy
        )
    except QueueManagerError as e:
        if e.undecided and not validate_only:
            e.add_note(f"it may have been started; to make sure, repeat with --request-id {used_id}")
        raise
    if follow:
        if output is Output.TABLE:
            telling.started_id(response)
        return exits.for_ended(await watching.follow(client, response.queue, after_revision=None, output=output))
    Results(output).write(
        response, [response.queue.queue_id], lambda: telling.started(response, validate_only=validate_only)
    )
    return ExitCode.OK


async def stop(
    client: AsyncClient,
    queue_ids: Sequence[str],
    *,
    force: bool,
    grace: float | None,
    wait: bool,
    reason: str,
    output: Output,
) -> ExitCode:
    """Stop queues; with `wait`, come back when they have ended, however long the deletion takes."""
    stopping: list[Queue] = []
    results = Results(output)

    async def ask(queue_id: str) -> ExitCode:
        mode = StopMode.STOP_MODE_FORCE if force else StopMode.STOP_MODE_GRACEFUL
        queue = await client.stop_queue(queue_id, mode=mode, grace_period=grace, reason=reason)
        if wait:
            stopping.append(queue)
        else:
            results.write(queue, [queue_id], lambda: telling.stopped(queue, force=force))
        return ExitCode.OK

    async def await_end(queue: Queue) -> ExitCode:
        queue = await _ended(client, queue)
        results.write(queue, [queue.queue_id], lambda: telling.stopped(queue, force=force))
        return exits.for_ended(queue, stop_wanted=True)

    code = await _each(client, queue_ids, ask)
    # All are asked before the first is waited for: they end side by side.
    for queue in stopping:
        code = worse(code, await await_end(queue))
    return code


async def get(client: AsyncClient, queue_ids: Sequence[str], *, output: Output) -> ExitCode:
    """Show queues."""
    results = Results(output)
    drawn: list[str] = []

    def show(queue: Queue) -> None:
        if drawn:
            say("\n")
        drawn.append(queue.queue_id)
        telling.one(queue)

    async def one(queue_id: str) -> ExitCode:
        queue = await client.get_queue(queue_id)
        results.write(queue, [queue.queue_id], lambda: show(queue))
        return ExitCode.OK

    return await _each(client, queue_ids, one)


async def list_queues(
    client: AsyncClient,
    *,
    states: Sequence[str],
    symbol: str,
    target: str,
    selector: str,
    limit: int,
    output: Output,
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
    Results(output).write(answer, [queue.queue_id for queue in answer.queues], lambda: telling.listed(answer))
    return ExitCode.OK


async def watch(client: AsyncClient, queue_id: str, *, after_revision: int | None, output: Output) -> ExitCode:
    """Follow a queue to its end."""
    # First a plain call: it fails at once where the server or the queue is missing, a watch would try for a minute.
    queue = await client.get_queue(queue_id)
    return exits.for_ended(await watching.follow(client, queue, after_revision=after_revision, output=output))


async def targets(client: AsyncClient, name: str | None, *, output: Output) -> ExitCode:
    """Show the catalogue, or one target of it."""
    listed = await client.list_targets()
    if name is not None:
        chosen = [target for target in listed if target.name == name]
        if not chosen:
            from queue_manager.client.cli import complaints

            complaints.print_unknown(terminal.err(), "target", name, [target.name for target in listed])
            return ExitCode.NOT_FOUND
        listed = chosen

    Results(output).write(
        ListTargetsResponse(targets=listed),
        [target.name for target in listed],
        lambda: telling.catalogue(listed) if name is None else telling.target(listed[0]),
    )
    return ExitCode.OK


async def doctor(client: AsyncClient, *, output: Output) -> ExitCode:
    """Show what the server knows to be wrong."""
    diagnosis = await client.diagnose()
    Results(output).write(
        diagnosis, [finding.part for finding in diagnosis.findings], lambda: telling.diagnosis(diagnosis)
    )
    return ExitCode.UNHEALTHY if diagnosis.findings else ExitCode.OK


async def list_dead_letters(client: AsyncClient, *, topic: str, limit: int, output: Output) -> ExitCode:
    """Show the newest dead letters, in as few pages as hold `limit` of them."""
    answer = ListDeadLettersResponse()
    while len(answer.dead_letters) < limit:
        page = await client.dead_letters_page(
            topic=topic,
            page_size=min(LARGEST_PAGE, limit - len(answer.dead_letters)),
            page_token=answer.next_page_token,
        )
        answer.dead_letters.extend(page.dead_letters)
        answer.next_page_token = page.next_page_token
        if not page.next_page_token:
            break
    Results(output).write(answer, [letter.id for letter in answer.dead_letters], lambda: telling.dead_letters(answer))
    return ExitCode.OK


async def replay_dead_letters(
    client: AsyncClient, ids: Sequence[str], *, topic: str, dry_run: bool, force: bool, output: Output
) -> ExitCode:
    """Have dead letters sent again: these, or all of a topic."""
    response = await client.replay_dead_letters(ids, all_of=topic, validate_only=dry_run, force=force)
    Results(output).write(response, response.replayed_ids, lambda: telling.replayed(response, dry_run=dry_run))
    return ExitCode.OK


async def _each(client: AsyncClient, queue_ids: Sequence[str], act: Callable[[str], Awaitable[ExitCode]]) -> ExitCode:
    """Do it to each queue, and go on where the fault is one queue's own; the code is the worst."""
    code = ExitCode.OK
    for queue_id in queue_ids:
        try:
            code = worse(code, await act(queue_id))
        except (NotFound, FailedPrecondition, InvalidRequest) as e:
            _complain(client, e)
            code = worse(code, exits.for_error(e))
    return code


async def _ended(client: AsyncClient, queue: Queue) -> Queue:
    """The queue when it has ended; somebody who sits there is told what is waited for."""
    if queue.state in formats.ENDED_QUEUES:
        return queue
    # Not the call's own `wait`: that has to end with its deadline, a watch goes on until it is over.
    if not sys.stderr.isatty():
        return await watching.wait_ended(client, queue)
    with terminal.err().status(f"waiting until no worker of {queue.queue_id} is left"):
        return await watching.wait_ended(client, queue)


def _complain(client: AsyncClient, error: QueueManagerError) -> None:
    from queue_manager.client.cli import complaints

    complaints.print_error(terminal.err(), error, server=client.target)
