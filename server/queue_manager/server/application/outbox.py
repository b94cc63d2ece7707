"""Publishing every event, in order per queue, at least once.

The outbox is part of the record: history has the events, `published_revision` says how far they are out. That number is
written along with whatever is written next, so it may lag behind; after a crash, the events beyond it are published
again under the same ids. What is to be published is kept in memory up to a bound, and read from history beyond it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from random import Random
from typing import Final

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import Bus, Publication, StateStore
from queue_manager.server.application.records import Records
from queue_manager.server.application.workqueue import WorkQueue
from queue_manager.server.domain.history import Entry, Event
from queue_manager.server.domain.model import Queue
from queue_manager.server.domain.publication import publications

KEPT: Final = 64
"""Entries kept in memory per queue; where more wait, they are read from history."""

LAST_WORDS: Final = 2.0
"""Seconds that a server which is being stopped gives its events to go out."""


class Outbox:
    """Publishes what `Records` says. A listener of it."""

    def __init__(
        self,
        records: Records,
        store: StateStore,
        bus: Bus,
        *,
        done: Callable[[str], None],
        rng: Random,
        instruments: Instruments,
    ) -> None:
        """`done(queue_id)` is called when an ended queue's last event is out."""
        self._records = records
        self._store = store
        self._bus = bus
        self._done = done
        self._instruments = instruments
        self._waiting: dict[str, deque[Entry] | None] = {}  # None: look into history
        self._published: dict[str, int] = {}
        self._since: dict[str, float] = {}
        """When the oldest event of a queue that waits came to be, or before."""
        self.work = WorkQueue("publish", self._publish, rng=rng)
        records.subscribe(self)

    @property
    def depth(self) -> int:
        """Queues that have events to publish."""
        return len(self._waiting)

    @property
    def waiting_since(self) -> float | None:
        """When the oldest event that is not out came to be, UTC seconds; None: all are out."""
        return min(self._since.values(), default=None)

    def published(self, queue: Queue) -> int:
        """Events of this queue up to this revision are out."""
        return max(self._published.get(queue.queue_id, 0), queue.published_revision)

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:
        """An entry was stored: publish it."""
        if entry is None:
            return
        if not (self._bus.is_heard or queue.ended or queue.queue_id in self._waiting):
            self._is_out(queue.queue_id, entry.revision, 1)
            return
        waiting = self._waiting.setdefault(queue.queue_id, deque())
        self._since.setdefault(queue.queue_id, event.time)
        if waiting is not None:
            waiting.append(entry)
            if len(waiting) > KEPT:
                self._waiting[queue.queue_id] = None
        self.work.add(queue.queue_id)

    def reloaded(self, queue: Queue) -> None:
        """A queue was loaded from the store: publish what may not be out yet."""
        if queue.history_revision > self.published(queue):
            self._waiting[queue.queue_id] = None
            self._since.setdefault(queue.queue_id, queue.status.update_time)
            self.work.add(queue.queue_id)

    def forget(self, queue_id: str) -> None:
        """The queue is settled or gone."""
        self._all_out(queue_id)
        self._published.pop(queue_id, None)

    async def drain(self) -> None:
        """Give events that wait a moment to go out, unless their bus is away; the rest goes out next time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS):
                await self.work.idle()

    async def _publish(self, queue_id: str) -> None:
        record = await self._records.find(queue_id)
        if record is None:
            self.forget(queue_id)
            return
        queue = record.queue
        waiting = self._waiting.get(queue_id, deque())
        entries: Iterable[Entry] = tuple(waiting) if waiting is not None else await self._store.history(queue_id)
        since = self.published(queue)
        fresh = [entry for entry in entries if entry.revision > since]
        if fresh:
            if self._bus.is_heard:
                await self._bus.publish([event for entry in fresh for event in self._events(queue, entry)])
            since = fresh[-1].revision
            self._is_out(queue_id, since, len(fresh))
        self._trim(queue_id, since)
        newest = await self._records.find(queue_id)
        if newest is not None and newest.queue.ended and since >= newest.queue.history_revision:
            self._done(queue_id)

    def _is_out(self, queue_id: str, revision: int, count: int) -> None:
        self._published[queue_id] = revision
        self._instruments.published(count)

    def _trim(self, queue_id: str, since: int) -> None:
        """Drop what is out; what came while it was being published stays and is published next."""
        waiting = self._waiting.get(queue_id)
        if waiting is None:
            record = self._records.live.get(queue_id)
            if record is None or record.queue.history_revision <= since:
                self._all_out(queue_id)
            else:
                self.work.add(queue_id)
            return
        while waiting and waiting[0].revision <= since:
            waiting.popleft()
        if waiting:
            self._since[queue_id] = waiting[0].event.time
        else:
            self._all_out(queue_id)

    def _all_out(self, queue_id: str) -> None:
        self._waiting.pop(queue_id, None)
        self._since.pop(queue_id, None)

    @staticmethod
    def _events(queue: Queue, entry: Entry) -> list[Publication]:
        return [
            Publication(event_id=event_id, queue_id=queue.queue_id, value=value)
            for event_id, value in publications(queue, entry)
        ]
