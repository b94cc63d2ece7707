"""Watching queues: the contract of `WatchQueue`, exactly.

Each watched queue has one `Topic`. A watcher holds nothing but the revision that it has seen, so a slow one costs no
memory: it is given the next update while that is fresh, else one frame that stands for all it has missed. Frames are
gapless by construction: for each, the revision before it plus `revisions_merged` is its `revision`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Final, Self

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import StateStore
from queue_manager.server.application.records import Records
from queue_manager.server.application.topic import Frame, FrameKind, Topic
from queue_manager.server.domain.errors import LimitExceeded, RevisionInFuture, ShuttingDown
from queue_manager.server.domain.history import Entry, Event, replay
from queue_manager.server.domain.model import Queue

TIMER_SLACK: Final = 0.001
"""An event loop's timers may be early by so much, in seconds."""


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
        self._new_topic = partial(Topic, encode_queue=records.encoded, encode_event=encode_event)
        self.instruments = instruments
        self._heartbeat = heartbeat
        self._max_watchers = max_watchers
        self._topics: dict[str, Topic] = {}
        self._watchers = 0
        self.closing = False
        records.subscribe(self)

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:  # noqa: ARG002 - see Listener
        """A revision was made here."""
        if (topic := self._topics.get(queue.queue_id)) is not None:
            topic.changed(queue, event)

    def reloaded(self, queue: Queue) -> None:
        """Revisions were made elsewhere."""
        if (topic := self._topics.get(queue.queue_id)) is not None:
            topic.reloaded(queue)

    def close(self) -> None:
        """End all watches, each after its last frame, with `ShuttingDown`; begin no more."""
        self.closing = True
        for topic in self._topics.values():
            topic.wake()

    def watch(self, queue_id: str, *, after_revision: int | None = None, heartbeat: float | None = None) -> Watch:
        """The frames of a queue, until it has ended."""
        return Watch(self, queue_id, after_revision, heartbeat or self._heartbeat)

    async def until_ended(self, queue_id: str) -> None:
        """Wait until the queue has ended, or this server shuts down. It is no watch: no limit, no frames."""
        topic = await self._join(queue_id)
        try:
            while not (topic.queue.ended or self.closing):
                await topic.wait(asyncio.get_running_loop().create_future())
        finally:
            self._leave(queue_id, topic)

    # --- for `Watch` --------------------------------------------------------------------------------------------------

    async def enter(self, queue_id: str) -> Topic:
        """One more watcher of a queue; it is to `exit`. Raises what `Watch` does."""
        if self.closing:
            raise shutting_down()
        if self._watchers >= self._max_watchers:
            raise LimitExceeded(f"this server already has {self._max_watchers} watchers; try again later or elsewhere")
        self._count(+1)
        try:
            return await self._join(queue_id)
        except BaseException:
            self._count(-1)
            raise

    def exit(self, queue_id: str, topic: Topic) -> None:
        """One watcher less."""
        self._count(-1)
        self._leave(queue_id, topic)

    async def opening(self, queue_id: str, topic: Topic, after: int | None) -> AsyncGenerator[Frame, None]:
        """The first frames of a watch: a snapshot, or what happened after a revision and before it began."""
        newest = topic.newest.revision
        if after is None:
            yield Frame(FrameKind.SNAPSHOT, newest, newest, self._records.encoded(topic.queue))
        elif topic.reaches_back_to(after + 1):
            for update in topic.since(after):
                yield topic.frame(update)
        elif after < newest:
            async for frame in self._missed(queue_id, topic, after):  # one at a time: a slow reader costs no memory
                yield frame

    def final(self, topic: Topic) -> Frame:
        """The END of a queue that has ended."""
        return Frame(FrameKind.END, topic.newest.revision, 0, self._records.encoded(topic.queue))

    # --- how ----------------------------------------------------------------------------------------------------------

    def _count(self, change: int) -> None:
        self._watchers += change
        self.instruments.watchers(change)

    async def _join(self, queue_id: str) -> Topic:
        queue = (await self._records.get(queue_id)).queue
        topic = self._topics.get(queue_id)
        if topic is None:
            topic = self._topics[queue_id] = self._new_topic(queue)
        topic.watchers += 1
        return topic

    def _leave(self, queue_id: str, topic: Topic) -> None:
        topic.watchers -= 1
        if not topic.watchers:
            self._topics.pop(queue_id, None)

    async def _missed(self, queue_id: str, topic: Topic, after: int) -> AsyncGenerator[Frame, None]:
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


class Watch:
    """One watch: iterate over its frames; `aclose` where it is left before its end.

    An iterator with a state and no generator in generators, because with a thousand watchers every layer on a frame's
    way counts. Raises `NotFound`, `RevisionInFuture`, `LimitExceeded`, `ShuttingDown`, `Unavailable`; then it is over.
    """

    __slots__ = (
        *("_after", "_future", "_heartbeat", "_hub", "_instruments", "_opening", "_over", "_queue_id", "_seen"),
        *("_timer", "_topic", "_waiting_since"),
    )

    def __init__(self, hub: WatchHub, queue_id: str, after: int | None, heartbeat: float) -> None:
        """Made by `WatchHub.watch`; it begins with the first frame that is asked for."""
        self._hub = hub
        self._instruments = hub.instruments
        self._queue_id = queue_id
        self._after = after
        self._heartbeat = heartbeat
        self._topic: Topic | None = None
        self._opening: AsyncGenerator[Frame, None] | None = None
        self._seen = after or 0
        self._over = False
        self._future: asyncio.Future[bool] | None = None
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __aiter__(self) -> Self:
        """Itself."""
        return self

    async def __anext__(self) -> Frame:
        """The next frame, as soon as there is one."""
        frame = self.ready() or await self.later()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def begin(self) -> None:
        """Enter, so that whoever has nothing new to be told can be told that. Done by the first `later`, if not before."""
        if self._topic is None and not self._over:
            self._topic = await self._hub.enter(self._queue_id)
            if self._after is not None and self._after > (newest := self._topic.newest.revision):
                await self.aclose()
                raise RevisionInFuture(self._after, newest)
            self._opening = self._hub.opening(self._queue_id, self._topic, self._after)

    def ready(self) -> Frame | None:
        """The next frame, if it is an update that is there already: the way of most frames where there is much to say."""
        topic, seen = self._topic, self._seen
        if topic is None or self._opening is not None or seen >= topic.newest.revision:
            return None
        update = topic.after(seen)
        merged = update.revision - seen
        self._seen = update.revision
        self._instruments.updates += 1
        self._instruments.revisions += merged
        return update.frames.get(merged) or topic.frame(update, merged)

    async def aclose(self) -> None:
        """End the watch. May be repeated."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._opening is not None:
            await self._opening.aclose()
        topic, self._topic = self._topic, None
        if topic is not None:
            self._hub.exit(self._queue_id, topic)

    async def later(self) -> Frame | None:
        """The next frame where none is ready: one of the first, or one that is waited for. None: the watch is over."""
        if self._over:
            return None
        try:
            frame = await self._opening_frame()
            if frame is None:
                assert self._topic is not None
                frame = await self._await(self._topic)
        except BaseException:
            await self.aclose()
            raise
        self._instruments.frame(frame.kind, frame.merged)
        self._seen = frame.revision
        if frame.kind is FrameKind.END:
            await self.aclose()
        return frame

    async def _opening_frame(self) -> Frame | None:
        """Begin, if it has not begun, and answer the next of the first frames; None: there is no more of them."""
        await self.begin()
        if self._opening is not None:
            async for frame in self._opening:
                return frame
            self._opening = None
        return None

    async def _await(self, topic: Topic) -> Frame:
        """The next update, waited for; a heartbeat after a while; the END of a queue that has ended."""
        loop = asyncio.get_running_loop()
        self._waiting_since = loop.time()
        while self._seen >= topic.newest.revision:
            if topic.queue.ended:
                return self._hub.final(topic)
            if self._hub.closing:
                raise shutting_down()
            if self._timer is None:  # one timer for many waits: it looks how long this one has been
                self._timer = loop.call_at(self._waiting_since + self._heartbeat, self._beat)
            self._future = loop.create_future()
            try:
                if not await topic.wait(self._future):
                    return Frame(FrameKind.HEARTBEAT, self._seen, 0)
            finally:
                self._future = None
        update = topic.after(self._seen)
        return topic.frame(update, update.revision - self._seen)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time() if self._future is None else self._waiting_since  # else a frame is on its way
        due = since + self._heartbeat
        if due > loop.time() + TIMER_SLACK:
            self._timer = loop.call_at(due, self._beat)
            return
        self._timer = None
        if self._future is not None and not self._future.done():
            self._future.set_result(False)


def shutting_down() -> ShuttingDown:
    """What ends a watch when the server stops."""
    return ShuttingDown("this server is shutting down; watch again from the last revision")
