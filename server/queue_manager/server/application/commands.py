"""Commands to the manager that come in over the bus: what they ask for, and an event that says what became of it.

A command is done before its message counts as read, and may be done again after a crash: a start has a `request_id`, its
own or its place in the topic, and a stop is idempotent. Its answer has the same `event_id` then.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

import structlog

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import Bus, Clock, Message, Publication
from queue_manager.server.application.queues import QueueService
from queue_manager.server.application.records import Records
from queue_manager.server.application.workqueue import Backoff
from queue_manager.server.domain.command import EVERY_QUEUE, Command, CommandKind, read_command
from queue_manager.server.domain.errors import InvalidRequest, QueueManagerError, Unavailable
from queue_manager.server.domain.model import cut
from queue_manager.server.domain.publication import outcome
from queue_manager.server.domain.request import StartRequest
from queue_manager.server.domain.telemetry import Unreadable

log = structlog.get_logger(__name__)

ID_LIMIT: Final = 128
NO_PART_OF_AN_ID: Final = re.compile(r"[^A-Za-z0-9._:-]+")
"""What a `request_id` may have, and how much of it (`field_rules.request_id`)."""

SKEW: Final = 1.0
"""Seconds by which the clock of whoever sends a command may be behind ours."""

REQUEST_ID: Final = ("request_id", "requestId")
"""How a start names its id; JSON of a message may have either."""

BY: Final = "queue-control"
"""Who asked, where a message does not say."""


class Commands:
    """Takes in the commands of a bus."""

    def __init__(
        self,
        service: QueueService,
        records: Records,
        bus: Bus,
        *,
        clock: Clock,
        rng: Random,
        instruments: Instruments,
    ) -> None:
        """What does it, and what tells of it."""
        self.parse: Callable[[Mapping[str, object]], StartRequest] = _no_start
        """Reads a start's payload; raises `InvalidRequest`."""
        self._service = service
        self._records = records
        self._bus = bus
        self._clock = clock
        self._backoff = Backoff(rng)
        self._instruments = instruments

    async def take_in(self, messages: Sequence[Message]) -> None:
        """Do what these say, in their order; returns when it is done, and said."""
        for message in messages:
            while True:
                try:
                    await self._take_in(message)
                    self._backoff.clear(message.source)
                    break
                except Unavailable as error:  # nothing is skipped: what comes after it may follow from it
                    delay = self._backoff.failed(message.source, at_least=error.retry_after or 0.0)
                    log.warning("a command waits", source=message.source, error=error.message, retry_in=round(delay, 3))
                    await asyncio.sleep(delay)

    async def _take_in(self, message: Message) -> None:
        command_id = _id_of(message)
        try:
            command = read_command(message.value)
        except Unreadable as error:
            self._instruments.command("unreadable")
            log.warning("a command cannot be read", command_id=command_id, error=error.reason)
            await self._bus.bury(message, error.reason)
            return
        if command is None:
            self._instruments.command("ignored")
            return
        try:
            said = await self._obey(command, command_id, message.record_time)
            accepted = True
        except Unavailable:
            raise
        except QueueManagerError as error:
            said, accepted = _why(error), False
        self._instruments.command("accepted" if accepted else "rejected")
        fields = {"queue_id": command.queue_id, **_named(command, command_id), **said}
        event = outcome(command.kind, command_id, fields, accepted=accepted, now=self._clock.now())
        await self._bus.publish([Publication(str(event["event_id"]), str(event["queue_id"]), event)])

    async def _obey(self, command: Command, command_id: str, sent_at: float) -> Mapping[str, object]:
        """Do it; what there is to say of it. Raises `QueueManagerError` where it is not done."""
        match command.kind:
            case CommandKind.START:
                request = self.parse(_with_id(command, command_id))
                started = await self._service.start(request, requested_by=BY)
                return {
                    "queue_id": started.queue.queue_id,
                    "request_id": request.request_id,
                    # Also where it was done before a crash: nobody else has the command's own id.
                    "created": started.created or request.request_id == command_id,
                }
            case CommandKind.STOP | CommandKind.PING if not command.queue_id:
                raise InvalidRequest.of("queue_id", "is the text that names a queue; add it")
            case CommandKind.STOP:
                return await self._stop(command, sent_at)
            case CommandKind.PING:
                return {"message": "workers answer a ping by themselves; the Queue Manager does not"}
            case CommandKind.RETRY:
                raise InvalidRequest.of("command", "retry joins in a later version; start the queue again")

    async def _stop(self, command: Command, sent_at: float) -> Mapping[str, object]:
        if command.mode is None:
            raise InvalidRequest.of("mode", "is no way to stop; use GRACEFUL or FORCE")
        every = command.queue_id in EVERY_QUEUE
        wanted = self._live_before(sent_at) if every else [command.queue_id]
        for queue_id in wanted:
            await self._service.stop(
                queue_id, mode=command.mode, grace_period=None, reason=command.reason, by=BY, asked_at=sent_at
            )
        return {"queues": len(wanted)} if every else {}

    def _live_before(self, sent_at: float) -> list[str]:
        """Not those that came after a command: it may be obeyed late, or once more after a crash."""
        live = [record.queue for record in self._records.live.values() if not record.queue.ended]
        return [queue.queue_id for queue in live if queue.spec.create_time <= sent_at + SKEW]


def _no_start(_: Mapping[str, object]) -> StartRequest:
    raise InvalidRequest.of("command", "a queue cannot be started in this way here; call StartQueue")


def _named(command: Command, command_id: str) -> Mapping[str, object]:
    """By what whoever wrote a start finds what became of it, also where it is rejected."""
    if command.kind is not CommandKind.START:
        return {}
    request = _with_id(command, command_id)
    given = next(request[name] for name in REQUEST_ID if name in request)
    return {"request_id": cut(given) if isinstance(given, str) else command_id}


def _with_id(command: Command, command_id: str) -> Mapping[str, object]:
    """What is to be started: without an id of its own, null and empty ones among them, by the command's."""
    given = command.request.items()
    request = {name: value for name, value in given if name not in REQUEST_ID or not (value is None or value == "")}
    return request if any(name in request for name in REQUEST_ID) else {**request, "request_id": command_id}


def _id_of(message: Message) -> str:
    """By which a command is known whenever it is read: its place, and when it was written.

    In a topic that was deleted and made again places come again, and times do not.
    """
    place = message.source.partition("@")[0]
    written = format(round(message.record_time * 1000), "x")
    return NO_PART_OF_AN_ID.sub(":", f"{place}:{message.position}:{written}")[-ID_LIMIT:]


def _why(error: QueueManagerError) -> Mapping[str, object]:
    said: dict[str, object] = {"reason": error.reason, "error_message": error.message}
    if isinstance(error, InvalidRequest):
        said["violations"] = [{"field": each.field, "description": each.description} for each in error.violations]
    return said
