"""The use cases: what a caller can ask for, whichever way it comes in.

A wish is recorded, then answered; the controller does the rest. A caller that hangs up does not undo it: writing goes on
in a task of its own.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from queue_manager.server.application.finishing import finish
from queue_manager.server.application.ports import Clock, Cursor, QueueFilter, Record, StateStore
from queue_manager.server.application.records import Records
from queue_manager.server.application.watch import Watch, WatchHub
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import Conflict, InvalidRequest, RequestIdReused, Unavailable, Violation
from queue_manager.server.domain.launch import LaunchSpec, LaunchSpecs
from queue_manager.server.domain.lifecycle import advance, reduce
from queue_manager.server.domain.model import Queue, StopMode, cut
from queue_manager.server.domain.observation import Refused, StopRequested
from queue_manager.server.domain.request import StartRequest, accept, fingerprint
from queue_manager.server.domain.timings import Timings

ATTEMPTS_AT_AN_ID = 8
"""Six characters of 36 collide once in two billion; eight times in a row means that something else is wrong."""


@dataclass(frozen=True, slots=True)
class Started:
    """The answer to a start: the queue, whether this call recorded it, and with `validate_only` the plan."""

    queue: Queue
    created: bool
    plan: Sequence[LaunchSpec] = ()


class QueueService:
    """Start, stop, get, list and watch queues."""

    def __init__(
        self,
        records: Records,
        store: StateStore,
        hub: WatchHub,
        *,
        catalogue: Catalogue,
        clock: Clock,
        timings: Timings,
        new_suffix: Callable[[], str],
        launch_specs: LaunchSpecs,
        wake: Callable[[str], None],
        rehearse: Callable[[Sequence[LaunchSpec]], Awaitable[Sequence[Refused]]],
    ) -> None:
        """`new_suffix` makes six characters of [a-z0-9]; `wake(queue_id)` has the controller look at a queue;
        `rehearse` says what the runner would refuse.
        """
        self.catalogue = catalogue
        self._records = records
        self._store = store
        self._hub = hub
        self._clock = clock
        self._timings = timings
        self._new_suffix = new_suffix
        self._launch_specs = launch_specs
        self._wake = wake
        self._rehearse = rehearse
        self._writing: set[asyncio.Task[Any]] = set()

    async def start(self, request: StartRequest, *, requested_by: str) -> Started:
        """Record a queue and have it launched. Raises `InvalidRequest`, `RequestIdReused`, `Unavailable`."""
        try:
            queue = self._accept(request, requested_by)
        except InvalidRequest:
            # A request that was accepted once is answered as it was then, also when the rules have changed since.
            if request.request_id and (record := await self._store.get_by_request_id(request.request_id)) is not None:
                return self._repeated(record, fingerprint(request))
            raise
        if request.validate_only:
            return await self._rehearsed(queue)
        return await finish(self._record(request, queue, requested_by), self._writing)

    async def stop(
        self,
        queue_id: str,
        *,
        mode: StopMode,
        grace_period: float | None,
        reason: str,
        by: str,
        wait: float | None = None,
        asked_at: float | None = None,
    ) -> Queue:
        """Record the wish to stop a queue; with `wait`, wait up to so many seconds until it has ended.

        `asked_at`: see `StopRequested`.
        """
        grace = self._timings.stop_grace if grace_period is None else grace_period
        wish = StopRequested(mode=mode, grace_period=grace, reason=reason, by=by, asked_at=asked_at)

        def transition(queue: Queue) -> Queue:
            now = self._clock.now()
            queue = reduce(queue, wish, now=now, timings=self._timings)
            # How its workers stand, and what they have said since, is for the next step to see.
            return advance(
                queue,
                now=now,
                timings=self._timings,
                spec_hash=self._launch_specs.hash_of,
                heard=-math.inf,
                looked=False,
            )

        # Each wish has its own event, with its own reason: also one that hastens a stop under way, whose reason stays.
        message = cut(f"{mode} stop requested by {by}" + (f": {reason}" if reason else ""))
        change = self._records.change(queue_id, transition, actor=by, message=message)
        record = await finish(change, self._writing)
        self._wake(queue_id)
        if wait is not None and not record.queue.ended:
            with suppress(TimeoutError):  # then the caller is told how far it is
                async with asyncio.timeout(wait):
                    await self._hub.until_ended(queue_id)
            record = await self._records.get(queue_id)
        return record.queue

    async def get(self, queue_id: str) -> Queue:
        """The queue. Raises `NotFound`."""
        return (await self._records.get(queue_id)).queue

    def encoded(self, queue: Queue) -> bytes:
        """The queue as callers get it; made once a revision."""
        return self._records.encoded(queue)

    async def list(
        self, query: QueueFilter, *, after: Cursor | None, limit: int
    ) -> tuple[Sequence[Queue], Cursor | None]:
        """A page of queues, newest first, and where the next one begins (None: this is the last)."""
        found = await self._store.list(query, after=after, limit=limit + 1)
        page = found[:limit]
        more = len(found) > limit
        return page, Cursor(page[-1].spec.create_time, page[-1].queue_id) if more else None

    def watch(self, queue_id: str, *, after_revision: int | None = None, heartbeat: float | None = None) -> Watch:
        """The frames of a queue."""
        return self._hub.watch(queue_id, after_revision=after_revision, heartbeat=heartbeat)

    async def drain(self) -> None:
        """Wait until no wish is being written any more."""
        while self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)

    def _accept(self, request: StartRequest, requested_by: str) -> Queue:
        now = self._clock.now()
        suffix = self._new_suffix()
        while self._records.live_queue_of(suffix) is not None:  # telemetry ids are unique across live queues
            suffix = self._new_suffix()
        queue = accept(request, self.catalogue, now=now, suffix=suffix, requested_by=requested_by)
        # The intent to launch is part of the first record, so that accepting and launching cost one write.
        return advance(queue, now=now, timings=self._timings, spec_hash=self._launch_specs.hash_of)

    async def _rehearsed(self, queue: Queue) -> Started:
        """The plan, if the runner has nothing against it. Raises `InvalidRequest`, `Unavailable`."""
        plan = [self._launch_specs(queue, job) for job in queue.jobs]
        place = {spec.key.name: f"requests[{number}]" for number, spec in enumerate(plan)}
        if refused := await self._rehearse(plan):
            raise InvalidRequest([Violation(place[each.key.name], each.reason.message) for each in refused])
        return Started(queue, created=False, plan=plan)

    async def _record(self, request: StartRequest, queue: Queue, requested_by: str) -> Started:
        for _ in range(ATTEMPTS_AT_AN_ID):
            try:
                record, created = await self._records.create(queue, actor=requested_by)
            except Conflict:
                queue = self._accept(request, requested_by)
                continue
            if not created:
                return self._repeated(record, queue.spec.fingerprint)
            self._wake(record.queue.queue_id)
            return Started(record.queue, created=True)
        raise Unavailable("no free queue_id was found; try again")

    @staticmethod
    def _repeated(record: Record, body: str) -> Started:
        spec = record.queue.spec
        if spec.fingerprint != body:
            raise RequestIdReused(spec.request_id, spec.queue_id)
        return Started(record.queue, created=False)
