"""The records in memory, and the one way to change them.

`change` reads a record, applies a pure transition, and stores the result with compare-and-set, as often as it takes. It
makes the next revision and its event (`history.record`) unless only bookkeeping changed, and tells whoever listens,
after the store has it. Where the store has no other writer, what is in memory is the truth and reads cost nothing;
elsewhere it is a guess that the compare-and-set corrects.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from msgspec.structs import replace

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import Clock, Record, StateStore
from queue_manager.server.domain.errors import Conflict, NotFound
from queue_manager.server.domain.history import SYSTEM_ACTOR, Entry, Event
from queue_manager.server.domain.history import record as record_change
from queue_manager.server.domain.model import Queue
from queue_manager.server.domain.naming import suffix_of

KEPT_SETTLED: Final = 1000
"""How many settled queues are kept in memory, those that were used last."""

LOADED_AT_A_TIME: Final = 200
"""Records in a page while loading: some milliseconds' work, between which calls are answered."""

UNCERTAIN: Final = 10_000
"""Creations without an answer that are remembered; where there are more, a restart finds the rest."""

Transition = Callable[[Queue], Queue]


class Listener(Protocol):
    """Told of every change, in order per queue, after the store has it."""

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:
        """The queue has a new revision."""

    def reloaded(self, queue: Queue) -> None:
        """The queue was found at a newer revision than was known here; what happened in between is in its history."""


class Records:
    """Queues by id, from memory or the store."""

    def __init__(
        self,
        store: StateStore,
        *,
        clock: Clock,
        encode: Callable[[Queue], bytes],
        instruments: Instruments,
    ) -> None:
        """`encode`: the queue as callers get it; its bytes are made once a revision."""
        self._store = store
        self._clock = clock
        self._encode = encode
        self._instruments = instruments
        self._live: dict[str, Record] = {}
        self._settled: OrderedDict[str, Record] = OrderedDict()
        self._stale: set[str] = set()
        self._uncertain: set[str] = set()
        self._encoded: dict[str, tuple[int, bytes]] = {}
        self._by_suffix: dict[str, str] = {}
        self._deletions = 0
        self._locks: dict[str, _Lock] = {}
        self._listeners: list[Listener] = []

    def subscribe(self, listener: Listener) -> None:
        """Have this listener told of every change from now on."""
        self._listeners.append(listener)

    @property
    def live(self) -> dict[str, Record]:
        """The records that are not settled, by queue id. Do not change it."""
        return self._live

    @property
    def to_sweep(self) -> list[str]:
        """The queues that a sweep looks at: those that are live, and those whose creation had no answer."""
        return [*self._live, *self._uncertain]

    def live_queue_of(self, suffix: str) -> str | None:
        """The id of the live queue whose id ends in this suffix, to resolve what names only a worker."""
        return self._by_suffix.get(suffix)

    async def find(self, queue_id: str) -> Record | None:
        """The record of a queue."""
        if (known := self._certain(queue_id)) is not None:
            return known
        while True:
            before, deletions = self._known(queue_id), self._deletions
            record = await self._store.get(queue_id)
            if record is None or deletions == self._deletions:  # else it may have been deleted since it was read
                break
        self._uncertain.discard(queue_id)
        newest = self._known(queue_id)  # it may have been made or changed while the store was read
        if record is None:
            if newest is not before:
                return newest
            self._forget(queue_id)
            return None
        if newest is not None and newest.queue.revision >= record.queue.revision:
            return newest
        self._loaded(record)
        return record

    async def get(self, queue_id: str) -> Record:
        """The record of a queue. Raises `NotFound`."""
        record = await self.find(queue_id)
        if record is None:
            raise NotFound(queue_id)
        return record

    def encoded(self, queue: Queue) -> bytes:
        """The queue as callers get it. The newest revision's bytes are kept."""
        kept = self._encoded.get(queue.queue_id)
        if kept is not None and kept[0] == queue.revision:
            return kept[1]
        data = self._encode(queue)
        known = self._known(queue.queue_id)
        if known is not None and known.queue is queue:  # not a past form of it
            self._encoded[queue.queue_id] = (queue.revision, data)
        return data

    async def create(self, queue: Queue, *, actor: str) -> tuple[Record, bool]:
        """Store a new queue; answers its record, or with False the one that has its request_id. May raise `Conflict`."""
        queue, event, entry = record_change(None, queue, now=self._clock.now(), actor=actor)
        assert entry is not None
        try:
            record = await self._store.create(queue, entry)
        except Conflict:
            raise
        except BaseException:
            if len(self._uncertain) < UNCERTAIN:
                self._uncertain.add(queue.queue_id)  # it may have been stored: the sweep looks
            raise
        if record.queue.queue_id != queue.queue_id:
            if record.queue.queue_id not in self._live and not record.queue.settled:
                self._loaded(record)  # its creation had no answer, so nobody here knows of it yet
            return record, False
        self.stored(None, record, event, entry)
        return record, True

    async def change(
        self, queue_id: str, transition: Transition, *, actor: str = SYSTEM_ACTOR, message: str = ""
    ) -> Record:
        """Apply a transition, which may be called several times. Raises `NotFound`, `Unavailable`.

        `message`: what its event says; default is a description of the change.
        """
        lock = self._locks.get(queue_id)
        if lock is None:
            lock = self._locks[queue_id] = _Lock()
        lock.users += 1
        try:
            async with lock.lock:
                return await self._change(queue_id, transition, actor, message)
        finally:
            lock.users -= 1
            if not lock.users:
                del self._locks[queue_id]

    def stored(self, before: Queue | None, record: Record, event: Event | None, entry: Entry | None) -> None:
        """The store has this record now, in place of `before`: remember it, and tell of the event that made it."""
        self._remember(record)
        self._instruments.changed(before, record.queue, event)
        if event is not None:
            for listener in self._listeners:
                listener.changed(record.queue, event, entry)

    async def load_unsettled(self) -> int:
        """Bring every queue that is not settled into memory. Answers how many there are."""
        after, count = "", 0
        while page := await self._store.unsettled(after=after, limit=LOADED_AT_A_TIME):
            for record in page:
                queue_id = record.queue.queue_id
                if queue_id not in self._live and queue_id not in self._settled:  # else it is here as new or newer
                    self._loaded(record)
            after, count = page[-1].queue.queue_id, count + len(page)
        return count

    async def delete(self, queue_id: str) -> None:
        """Remove a queue from the store and from memory."""
        await self._store.delete(queue_id)
        self._deletions += 1
        record = self._forget(queue_id)
        if record is not None:
            self._instruments.removed(record.queue)

    async def _change(self, queue_id: str, transition: Transition, actor: str, message: str) -> Record:
        while True:
            before = self._certain(queue_id) or await self.get(queue_id)
            wanted = transition(before.queue)
            if wanted is before.queue or wanted == before.queue:
                return before
            event, entry = None, None
            if not _bookkeeping_only(before.queue, wanted):
                wanted, event, entry = record_change(
                    before.queue, wanted, now=self._clock.now(), actor=actor, message=message
                )
            try:
                after = await self._store.replace(wanted, version=before.version, entry=entry)
            except Conflict:
                self._stale.add(queue_id)
                continue
            except BaseException:
                self._stale.add(queue_id)  # it may or may not have been stored: the next reader asks
                raise
            self.stored(before.queue, after, event, entry)
            return after

    def _certain(self, queue_id: str) -> Record | None:
        """The record in memory, where nobody else can have changed it; it counts as used."""
        known = self._known(queue_id) if self._store.exclusive else None
        if known is not None and known.queue.settled:
            self._settled.move_to_end(queue_id)
        return known

    def _known(self, queue_id: str) -> Record | None:
        """The record in memory, unless it may be out of date. A stale one still says that the queue is live."""
        if queue_id in self._stale:
            return None
        return self._live.get(queue_id) or self._settled.get(queue_id)

    def _loaded(self, record: Record) -> None:
        self._remember(record)
        self._instruments.changed(None, record.queue, None)
        for listener in self._listeners:
            listener.reloaded(record.queue)

    def _remember(self, record: Record) -> None:
        queue_id = record.queue.queue_id
        suffix = suffix_of(queue_id)
        self._stale.discard(queue_id)
        if not record.queue.settled:
            self._live[queue_id] = record
            self._by_suffix[suffix] = queue_id
            return
        if self._live.pop(queue_id, None) is not None and self._by_suffix.get(suffix) == queue_id:
            del self._by_suffix[suffix]
        self._settled[queue_id] = record
        self._settled.move_to_end(queue_id)
        while len(self._settled) > KEPT_SETTLED:
            dropped, _ = self._settled.popitem(last=False)
            self._encoded.pop(dropped, None)
            self._stale.discard(dropped)

    def _forget(self, queue_id: str) -> Record | None:
        record = self._live.pop(queue_id, None) or self._settled.pop(queue_id, None)
        self._encoded.pop(queue_id, None)
        self._stale.discard(queue_id)
        suffix = suffix_of(queue_id)
        if self._by_suffix.get(suffix) == queue_id:
            del self._by_suffix[suffix]
        return record


class _Lock:
    """A queue's lock and how many hold or await it; it goes when nobody does."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


def _bookkeeping_only(before: Queue, after: Queue) -> bool:
    """Whether the difference is none that a caller sees."""
    same = replace(after, applied=before.applied, published_revision=before.published_revision, settled=before.settled)
    return same == before
