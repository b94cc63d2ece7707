"""Watching queues: the contract of `WatchQueue`, exactly.

Each watched queue has one `_Topic` with a short ring of its newest updates, encoded once however many watch. A watcher
holds nothing but the revision that it has seen, so a slow one costs no memory: it is given the next update while that is
fresh, else one frame that stands for all it has missed. Frames are gapless by construction: for each, the revision
before it plus `revisions_merged` is its `revision`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import StateStore
from queue_manager.server.application.records import Records
from queue_manager.server.domain.errors import LimitExceeded, RevisionInFuture, ShuttingDown
from queue_manager.server.domain.history import Entry, Event, EventType, replay
from queue_manager.server.domain.model import Queue, QueueState

RING: Final = 32
"""Updates kept for watchers that are a little behind."""
FRESH: Final = 0.025
"""For how long, in seconds, an update is handed on by itself; after that a watcher is behind and gets a merged one."""


class FrameKind(StrEnum):
    """What a frame is; `service.proto` explains each."""

    SNAPSHOT = "SNAPSHOT"
    UPDATE = "UPDATE"
    RESYNC = "RESYNC"
    HEARTBEAT = "HEARTBEAT"
    END = "END"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: `queue` and `event` are encoded, and shared by all watchers; empty where there is none."""

    kind: FrameKind
    revision: int
    merged: int
    queue: bytes = b""
    event: bytes = b""


@dataclass(frozen=True, slots=True)
class _Update:
    revision: int
    time: float
    """Loop time."""
    queue: bytes
    event: bytes


class _Topic:
    """The newest updates of one watched queue, and who waits for the next."""

    __slots__ = ("event", "queue", "ring", "waiting", "watchers")

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.event = b""  # of the newest revision; empty where nobody has needed it yet
        self.ring: deque[_Update] = deque(maxlen=RING)
        self.waiting: dict[asyncio.Future[None], None] = {}  # ordered, so that simulated runs replay
        self.watchers = 0

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, timeout: float) -> bool:
        """Wait for a change; False after `timeout` seconds without one."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.waiting[future] = None
        timer = loop.call_later(timeout, _expire, future)
        try:
            return (await future) is None
        except TimeoutError:
            return False
        finally:
            timer.cancel()
            self.waiting.pop(future, None)


def _frame_of(update: _Update) -> Frame:
    return Frame(FrameKind.UPDATE, update.revision, 1, update.queue, update.event)


def _quiet_event(queue: Queue, *, before: QueueState | None = None) -> Event:
    """The event of a queue's newest revision, where it is not known: made elsewhere, or no change that is kept."""
    return Event(
        revision=queue.revision,
        time=queue.status.update_time,
        type=EventType.PROGRESS,
        before=before or queue.status.state,
        after=queue.status.state,
    )


def _expire(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


class WatchHub:
    """Every watch of this process. A listener of `Records`."""

    def __init__(
        self,
        records: Records,
        store: StateStore,
        *,
        encode_event: Callable[[Event], bytes],
        instruments: Instruments,
        heartbeat: float = 15.0,
        max_watchers: int = 10_000,
    ) -> None:
        """`heartbeat`: the longest silence, in seconds, where the watcher does not say. Beyond `max_watchers`, refuse."""
        self._records = records
        self._store = store
        self._encode_event = encode_event
        self._instruments = instruments
        self._heartbeat = heartbeat
        self._max_watchers = max_watchers
        self._topics: dict[str, _Topic] = {}
        self._watchers = 0
        self._closing = False
        records.subscribe(self)

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:  # noqa: ARG002 - see Listener
        """A revision was made here: encode it once, for everybody who watches."""
        topic = self._topics.get(queue.queue_id)
        if topic is None:
            return
        update = _Update(
            revision=queue.revision,
            time=asyncio.get_running_loop().time(),
            queue=self._records.encoded(queue),
            event=self._encode_event(event),
        )
        if topic.ring and topic.ring[-1].revision != queue.revision - 1:
            topic.ring.clear()
        topic.ring.append(update)
        topic.queue, topic.event = queue, update.event
        topic.wake()

    def reloaded(self, queue: Queue) -> None:
        """Revisions were made elsewhere: watchers get one frame that stands for them."""
        topic = self._topics.get(queue.queue_id)
        if topic is None or topic.queue.revision >= queue.revision:
            return
        topic.ring.clear()
        event = _quiet_event(queue, before=topic.queue.status.state)
        topic.queue, topic.event = queue, self._encode_event(event)
        topic.wake()

    def close(self) -> None:
        """End all watches, each after its last frame, with `ShuttingDown`; begin no more."""
        self._closing = True
        for topic in self._topics.values():
            topic.wake()

    async def watch(
        self, queue_id: str, *, after_revision: int | None = None, heartbeat: float | None = None
    ) -> AsyncGenerator[Frame, None]:
        """The frames of a queue, until it has ended.

        Raises `NotFound`, `RevisionInFuture`, `LimitExceeded`, `ShuttingDown`, `Unavailable`.
        """
        if self._closing:
            raise ShuttingDown("this server is shutting down; watch again from the last revision")
        if self._watchers >= self._max_watchers:
            raise LimitExceeded(f"this server already has {self._max_watchers} watchers; try again later or elsewhere")
        self._watchers += 1
        self._instruments.watchers(+1)
        topic = None
        try:
            topic = await self._join(queue_id)
            async for frame in self._frames(queue_id, topic, after_revision, heartbeat or self._heartbeat):
                self._instruments.frame(frame.kind, frame.merged)
                yield frame
        finally:
            self._watchers -= 1
            self._instruments.watchers(-1)
            if topic is not None:
                self._leave(queue_id, topic)

    async def until_ended(self, queue_id: str) -> None:
        """Wait until the queue has ended, or this server shuts down. It is no watch: no limit, no frames."""
        topic = await self._join(queue_id)
        try:
            while not (topic.queue.ended or self._closing):
                await topic.wait(self._heartbeat)
        finally:
            self._leave(queue_id, topic)

    def _leave(self, queue_id: str, topic: _Topic) -> None:
        topic.watchers -= 1
        if not topic.watchers:
            self._topics.pop(queue_id, None)

    async def _join(self, queue_id: str) -> _Topic:
        queue = (await self._records.get(queue_id)).queue
        topic = self._topics.get(queue_id)
        if topic is None:
            topic = self._topics[queue_id] = _Topic(queue)
        topic.watchers += 1
        return topic

    async def _frames(
        self, queue_id: str, topic: _Topic, after: int | None, heartbeat: float
    ) -> AsyncGenerator[Frame, None]:
        if after is None:
            queue = topic.queue
            seen = queue.revision
            yield Frame(FrameKind.SNAPSHOT, seen, seen, self._records.encoded(queue))
        else:
            if after > topic.queue.revision:
                raise RevisionInFuture(after, topic.queue.revision)
            seen = after
            if self._in_ring(topic, seen + 1):
                for frame in [_frame_of(update) for update in topic.ring if update.revision > seen]:
                    seen = frame.revision
                    yield frame
            elif seen < topic.queue.revision:
                async for frame in self._missed(queue_id, topic, seen):  # one at a time: a slow reader costs no memory
                    seen = frame.revision
                    yield frame
        while True:
            if seen < topic.queue.revision:
                frame = self._next(topic, seen)
                seen = frame.revision
                yield frame
            elif topic.queue.ended:
                yield Frame(FrameKind.END, seen, 0, self._records.encoded(topic.queue))
                return
            elif self._closing:
                raise ShuttingDown("this server is shutting down; watch again from the last revision")
            elif not await topic.wait(heartbeat):
                yield Frame(FrameKind.HEARTBEAT, seen, 0)

    async def _missed(self, queue_id: str, topic: _Topic, after: int) -> AsyncGenerator[Frame, None]:
        """What history has of the changes after a revision, or a RESYNC where it does not reach back to it."""
        entries = await self._store.history(queue_id)
        if not entries or entries[0].revision > max(after, 1):
            queue = topic.queue
            yield Frame(FrameKind.RESYNC, queue.revision, queue.revision - after, self._records.encoded(queue))
            return
        seen = after
        for past, event in replay(topic.queue, entries):
            if past.revision > seen:
                encoded, encoded_event = self._records.encoded(past), self._encode_event(event)
                yield Frame(FrameKind.UPDATE, past.revision, past.revision - seen, encoded, encoded_event)
                seen = past.revision

    @staticmethod
    def _in_ring(topic: _Topic, revision: int) -> bool:
        return bool(topic.ring) and topic.ring[0].revision <= revision <= topic.ring[-1].revision

    def _next(self, topic: _Topic, seen: int) -> Frame:
        """The update after the one that was seen, or one frame for all that were missed."""
        newest = topic.queue
        if self._in_ring(topic, seen + 1):
            update = topic.ring[seen + 1 - topic.ring[0].revision]
            fresh = asyncio.get_running_loop().time() - update.time <= FRESH
            if fresh or update.revision == newest.revision:
                return _frame_of(update)
        if not topic.event:
            topic.event = self._encode_event(_quiet_event(newest))
        merged = newest.revision - seen
        return Frame(FrameKind.UPDATE, newest.revision, merged, self._records.encoded(newest), topic.event)
