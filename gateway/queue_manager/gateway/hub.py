"""One stream of the server for all who watch the same: a hub.

It keeps the newest state and the frames that led there, as many as fit; each watcher only has a place in them. Who is
behind gets frame after frame; who has fallen out of what is kept gets the newest state as one UPDATE that stands for all
that was missed, and says so (`revisions_merged`), which is the watch's own contract (`WatchQueue` in the proto). Memory
for a watcher is therefore its connection's, however slow it reads.

A stream that is cut is resumed after the last revision, so that watchers do not see the server restart.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import status_pb2

from queue_manager.gateway import status as statuses
from queue_manager.gateway.conventions import (
    AFTER,
    END,
    EVENT,
    HEARTBEAT,
    KIND,
    MERGED,
    RESYNC,
    REVISION,
    SNAPSHOT,
    UPDATE,
)
from queue_manager.gateway.frames import Text, Writer
from queue_manager.gateway.status import Failed
from queue_manager.gateway.upstream import Metadata, Upstream

KEPT: Final = 64
"""Frames that a hub keeps, for those who are behind or come back."""
KEPT_BYTES: Final = 4 * 2**20
"""The same in bytes of JSON."""
PAUSE: Final = 0.2
LONGEST_PAUSE: Final = 3.0
"""Seconds between two attempts to resume: the first, and no more than."""
TRANSIENT: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
"""With these a stream is resumed."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that changes the state: from revision `before` to its own."""

    before: int
    revision: int
    message: Message
    text: Text


class Observer(Protocol):
    """Told what hubs do, for the metrics."""

    def hub_opened(self) -> None:
        """One more."""

    def hub_closed(self) -> None:
        """One less."""

    def hub_resumed(self) -> None:
        """A stream was cut, and is being resumed."""


class Hub:
    """See above. `run` is its task."""

    def __init__(
        self,
        upstream: Upstream,
        path: str,
        request: Message,
        response: type[Message],
        writer: Writer,
        metadata: Metadata,
    ) -> None:
        """`request`: without `after_revision`."""
        self._upstream = upstream
        self._path = path
        self._request = request
        self._response = response
        self._writer = writer
        self._metadata = metadata
        self._numbers = {name: number for number, name in writer.kinds.items()}
        self._frames: deque[Frame] = deque()
        self._size = 0
        self._state: Message | None = None
        self._made: dict[tuple[str, int, int], Text] = {}
        self.revision = 0
        """The newest that is known."""
        self.end: Text | None = None
        """The last frame of all."""
        self.failed: Failed | None = None
        self.heartbeat: Text | None = None
        """The newest; another object each time."""
        self.away = False
        """Whether there is no stream now."""
        self.ready = asyncio.Event()
        """Set once the state is known, or the hub has failed."""
        self._changed = asyncio.Event()
        self.watchers = 0
        self.task: asyncio.Task[None] | None = None

    @property
    def changed(self) -> asyncio.Event:
        """Set, and replaced by another, whenever there is something new."""
        return self._changed

    def can_follow(self, revision: int) -> bool:
        """Whether what came after this revision is all here."""
        return revision <= self.revision and self.has_passed(revision)

    def has_passed(self, revision: int) -> bool:
        """Whether what comes after this revision, which the server has given, is here or will be."""
        return self._state is not None and (self._frames[0].before if self._frames else self.revision) <= revision

    async def reaches(self, revision: int) -> None:
        """Wait until it can follow this revision, or has failed."""
        while self.failed is None and not self.can_follow(revision):
            await self._changed.wait()

    def snapshot(self) -> Text:
        """The newest state, for one who begins."""
        assert self._state is not None
        return self._as(SNAPSHOT, self.revision, self._state)

    def after(self, revision: int) -> Text | None:
        """The next frame for one who is at this revision; None: there is none yet."""
        if revision >= self.revision:
            return None
        assert self._state is not None
        if self._frames and self._frames[0].before <= revision:
            # Mostly the newest is wanted; a watcher that is behind finds its place from there.
            frame = next(each for each in reversed(self._frames) if each.before <= revision)
            if frame.before == revision:
                return frame.text
            return self._as(self._writer.kinds[getattr(frame.message, KIND)], frame.revision - revision, frame.message)
        # Only a state that an event has led to is an UPDATE; a hub that has just begun has none.
        kind = RESYNC if EVENT in self._state.DESCRIPTOR.fields_by_name and not self._state.HasField(EVENT) else UPDATE
        return self._as(kind, self.revision - revision, self._state)

    def _as(self, kind: str, merged: int, message: Message) -> Text:
        """The same state as a frame of another kind, or for more revisions."""
        key = (kind, getattr(message, REVISION), merged)
        if key not in self._made:
            copy = type(message)()
            copy.CopyFrom(message)
            setattr(copy, KIND, self._numbers[kind])
            setattr(copy, MERGED, merged)
            if kind != UPDATE and EVENT in copy.DESCRIPTOR.fields_by_name:
                copy.ClearField(EVENT)
            self._made[key] = self._writer.text(copy)
        return self._made[key]

    async def run(self, observer: Observer, random: Random) -> None:
        """Read the server's stream until it has ended or failed for good, resuming it where it is cut.

        Raises `Failed` where it cannot be opened any more.
        """
        pause = PAUSE
        while True:
            call = self._call(None if self._state is None else self.revision)
            why = statuses.made(grpc.StatusCode.UNAVAILABLE, "STREAM_CUT", "the server's stream broke off", retry=True)
            ended = False
            accepted = asyncio.ensure_future(self._accepted(call))
            try:
                async for raw in call:
                    ended = self._take(self._response.FromString(raw))
                    pause = PAUSE
            except grpc.aio.AioRpcError as error:
                why = statuses.of_call(error, server=self._upstream.server)
                if self._state is None or statuses.code_of(why) not in TRANSIENT:
                    self.fail(why)
                    return
            finally:
                accepted.cancel()
                call.cancel()
            if ended:
                return
            if self._state is None:
                self.fail(why)
                return
            self.away = True
            self._wake()
            observer.hub_resumed()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _call(self, after: int | None) -> Any:
        request = type(self._request)()
        request.CopyFrom(self._request)
        if after is not None:
            setattr(request, AFTER, after)
        return self._upstream.stream(self._path, request.SerializeToString(), self._metadata)

    async def _accepted(self, call: Any) -> None:
        """The server says so at once, also where it has nothing new."""
        await call.initial_metadata()
        if self.away and not call.done():  # gRPC's answer for a call that has failed is empty metadata
            self.away = False
            self._wake()

    def _take(self, message: Message) -> bool:
        """Whether it was the last."""
        text = self._writer.text(message)
        self.away = False
        if text.kind == HEARTBEAT:
            self.heartbeat = text
        elif text.kind == END:
            self.end = text
        else:
            self._made.clear()
            revision = getattr(message, REVISION)
            if self._state is not None and revision > self.revision:
                self._keep(Frame(self.revision, revision, message, text))
            self._state, self.revision = message, revision
        self.ready.set()
        self._wake()
        return self.end is not None

    def _keep(self, frame: Frame) -> None:
        self._frames.append(frame)
        self._size += len(frame.text.json)
        while len(self._frames) > KEPT or (self._size > KEPT_BYTES and len(self._frames) > 1):
            self._size -= len(self._frames.popleft().text.json)

    def fail(self, status: status_pb2.Status) -> None:
        """Tell all who watch that it has ended so."""
        self.failed = Failed(status)
        self.ready.set()
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
