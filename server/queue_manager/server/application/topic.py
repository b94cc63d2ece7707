"""What is watched of one queue: its newest updates, their frames, and who waits for the next.

An update is encoded once however many watch, and only when somebody is to have it. Which frame follows a revision is
decided here; who watches, and how a watch begins and ends, is `watch`'s business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from queue_manager.server.domain.history import Event, EventType
from queue_manager.server.domain.model import Queue, QueueState

RING: Final = 32
"""Updates kept for watchers that are a little behind."""
FRESH: Final = 0.025
"""For how long, in seconds, an update is handed on by itself; after that a watcher is behind and gets a merged one."""
SHARED: Final = 0.01
"""A watcher that is behind is given an update that is at most this old, in seconds, and encoded already, rather than
that the newest is encoded for it. With a thousand changes a second and a thousand watchers, every change is the newest
one for somebody."""


FRAMES: Final = 64
"""Frames that are kept of an update: its watchers may all have seen another revision before it."""


class FrameKind(StrEnum):
    """What a frame is; `service.proto` explains each."""

    SNAPSHOT = "SNAPSHOT"
    UPDATE = "UPDATE"
    RESYNC = "RESYNC"
    HEARTBEAT = "HEARTBEAT"
    END = "END"


class Frame(msgspec.Struct, gc=False):
    """One frame: `queue` and `event` are encoded, and empty where there is none. Watchers share it, so don't change it."""

    kind: FrameKind
    revision: int
    merged: int
    queue: bytes = b""
    event: bytes = b""
    wire: bytes = b""
    """Room for the form in which it is sent, for whoever sends it first."""


class Update:
    """A revision, and the frames that bring it."""

    __slots__ = ("event", "frames", "queue", "revision", "time")

    def __init__(self, queue: Queue, event: Event, time: float) -> None:
        """The queue after a change, the event that stands for it, and when it was made on the loop's clock."""
        self.queue = queue
        self.revision = queue.revision
        self.event = event
        self.time = time
        self.frames: dict[int, Frame] = {}
        """By how many revisions they stand for; empty until somebody is to have one."""


class Topic:
    """The newest updates of a watched queue."""

    __slots__ = ("_encode_event", "_encode_queue", "_encoded", "_now", "newest", "ring", "waiting", "watchers")

    def __init__(
        self, queue: Queue, *, encode_queue: Callable[[Queue], bytes], encode_event: Callable[[Event], bytes]
    ) -> None:
        """As the queue is now; how it came to it is not known here."""
        self._encode_queue = encode_queue
        self._encode_event = encode_event
        self._encoded: Update | None = None  # the newest of those that have frames
        self._now = asyncio.get_running_loop().time
        self.newest = Update(queue, quiet_event(queue), self._now())
        self.ring: dict[int, Update] = {}  # by revision, without a gap
        self.waiting: dict[asyncio.Future[bool], None] = {}  # ordered, so that simulated runs replay
        self.watchers = 0

    @property
    def queue(self) -> Queue:
        """As it is now."""
        return self.newest.queue

    def changed(self, queue: Queue, event: Event) -> None:
        """The next revision."""
        update = Update(queue, event, self._now())
        ring, revision = self.ring, queue.revision
        if revision - 1 not in ring:
            ring.clear()
        ring[revision] = update
        ring.pop(revision - RING, None)
        self.newest = update
        self.wake()

    def reloaded(self, queue: Queue) -> None:
        """A later revision that was found: watchers get one frame for all that they have not seen."""
        if queue.revision > self.newest.revision:
            self.ring.clear()
            event = quiet_event(queue, before=self.queue.status.state)
            self.newest = Update(queue, event, self._now())
            self.wake()

    def reaches_back_to(self, revision: int) -> bool:
        """Whether the ring has this revision."""
        return revision in self.ring

    def since(self, revision: int) -> list[Update]:
        """What the ring has after this revision."""
        return [update for update in self.ring.values() if update.revision > revision]

    def after(self, seen: int) -> Update:
        """The update that a watcher is to have who has seen this revision; there must be one.

        It is the following one while that is fresh, else one that stands for all that were missed.
        """
        newest = self.newest
        if seen + 1 == newest.revision:
            return newest
        now = self._now()
        following = self.ring.get(seen + 1)
        if following is not None and now - following.time <= FRESH:
            return following
        encoded = self._encoded
        if encoded is not None and encoded.revision > seen and now - encoded.time <= SHARED:
            return encoded
        return newest

    def frame(self, update: Update, merged: int = 1) -> Frame:
        """The frame of an update that stands for so many revisions."""
        frames = update.frames
        if (frame := frames.get(merged)) is not None:
            return frame
        if frames:
            other = next(iter(frames.values()))
            frame = Frame(FrameKind.UPDATE, update.revision, merged, other.queue, other.event)
        else:
            queue, event = self._encode_queue(update.queue), self._encode_event(update.event)
            frame = Frame(FrameKind.UPDATE, update.revision, merged, queue, event)
            if self._encoded is None or self._encoded.revision < update.revision:
                self._put_away(self._encoded)
                self._encoded = update
        if len(frames) < FRAMES:
            frames[merged] = frame
        return frame

    @staticmethod
    def _put_away(update: Update | None) -> None:
        """Keep of an update only what may be needed again once a newer one is encoded: its frame by itself."""
        if update is not None:
            update.frames = {merged: frame for merged, frame in update.frames.items() if merged == 1}

    def wake(self) -> None:
        """Have everybody look who waits."""
        waiting, self.waiting = self.waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(True)

    async def wait(self, future: asyncio.Future[bool]) -> bool:
        """Wait for a change, with a new future that others may end, too: with what they set it to. A change is True."""
        self.waiting[future] = None
        try:
            return await future
        finally:
            self.waiting.pop(future, None)


def quiet_event(queue: Queue, *, before: QueueState | None = None) -> Event:
    """The event of a queue's newest revision, where it is not known: made elsewhere, or no change that is kept."""
    return Event(
        revision=queue.revision,
        time=queue.status.update_time,
        type=EventType.PROGRESS,
        before=before or queue.status.state,
        after=queue.status.state,
    )
