"""A server that is played: it keeps one queue, streams it by the watch's contract, and is cut when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import grpc

from queue_manager.gateway.upstream import Metadata
from queue_manager.v1 import queue_pb2, service_pb2

ENDED = queue_pb2.QUEUE_STATE_FINISHED


class Call:
    """A stream, as `grpc.aio` has it."""

    def __init__(self, server: PlayedServer, request: service_pb2.WatchQueueRequest, odd: str) -> None:
        """Nothing is sent yet."""
        self._server = server
        self._odd = odd
        self._request = request
        self.cancelled = False
        self._answered = asyncio.Event()
        self._done = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        """The frames."""
        return self._until_done()

    async def initial_metadata(self) -> None:
        """What a server sends first; or nothing, once the call has failed."""
        await self._answered.wait()

    def done(self) -> bool:
        """See `grpc.aio.Call`."""
        return self._done

    def cancel(self) -> None:
        """See `grpc.aio.Call`."""
        self.cancelled = True
        self._server.open.discard(self)

    async def _until_done(self) -> AsyncIterator[bytes]:
        try:
            if self._odd == "deaf":
                await asyncio.Event().wait()
            elif self._odd != "mute":
                async for frame in self._frames():
                    yield frame
        finally:
            self._done = True
            self._answered.set()

    async def _frames(self) -> AsyncIterator[bytes]:
        server = self._server
        server.refuse_if_away()
        server.open.add(self)
        cut, beats, request = server.cut, server.beats, self._request
        at = 0
        if request.HasField("after_revision"):
            at = request.after_revision
            if at > server.revision:
                raise error(grpc.StatusCode.OUT_OF_RANGE, "in the future")
        self._answered.set()
        if not request.HasField("after_revision"):
            at = server.revision
            yield server.frame(service_pb2.FRAME_KIND_SNAPSHOT, 0, at)
        elif at < server.forgotten:
            before, at = at, server.revision
            yield server.frame(service_pb2.FRAME_KIND_RESYNC, before, at)
        while True:
            changed = server.changed
            if cut is not server.cut:
                self._server.open.discard(self)
                raise error(grpc.StatusCode.UNAVAILABLE, "cut")
            if server.refusal is not None:
                raise server.refusal
            if at < server.revision:
                # One revision, or some that are merged.
                to = min(server.revision, at + server.random.choice([1, 1, 1, 2, 3]))
                yield server.frame(service_pb2.FRAME_KIND_UPDATE, at, to)
                at = to
            elif server.ended:
                yield server.frame(service_pb2.FRAME_KIND_END, at)
                self._server.open.discard(self)
                return
            elif beats != server.beats:
                beats = server.beats
                yield server.frame(service_pb2.FRAME_KIND_HEARTBEAT, at, at)
            else:
                await changed.wait()


class PlayedServer:
    """Stands in for `Upstream`."""

    server = "played:1"

    def __init__(self, random: Random) -> None:
        """A queue at its first revision."""
        self.random = random
        self.revision = 1
        self.forgotten = 0
        """History begins after this revision."""
        self.ended = False
        self.away = False
        self.odd = ""
        """What the next stream is: `mute`, it ends without a frame; `deaf`, it is not even accepted."""
        self.refusal: grpc.aio.AioRpcError | None = None
        self.open: set[Call] = set()
        self.calls: list[tuple[service_pb2.WatchQueueRequest, Metadata]] = []
        self.changed = asyncio.Event()
        self.cut = object()
        self.beats = 0

    def stream(self, path: str, request: bytes, metadata: Metadata, timeout: float | None = None) -> Any:
        """See `Upstream`."""
        del timeout
        assert path == "/queue_manager.v1.QueueManager/WatchQueue"
        read = service_pb2.WatchQueueRequest.FromString(request)
        self.calls.append((read, metadata))
        odd, self.odd = self.odd, ""
        return Call(self, read, odd)

    def refuse_if_away(self) -> None:
        """Nobody answers where there is no server."""
        if self.away:
            raise error(grpc.StatusCode.UNAVAILABLE, "away")
        if self.refusal is not None:
            raise self.refusal

    def frame(self, kind: int, before: int, to: int | None = None) -> bytes:
        """The queue at a revision, which its message tells."""
        revision = self.revision if to is None else to
        found = service_pb2.WatchQueueResponse(kind=kind, revision=revision)  # type: ignore[arg-type]
        if kind != service_pb2.FRAME_KIND_HEARTBEAT:
            found.queue.revision = revision
            found.queue.message = f"state {revision}"
        if kind in {service_pb2.FRAME_KIND_UPDATE, service_pb2.FRAME_KIND_RESYNC, service_pb2.FRAME_KIND_SNAPSHOT}:
            found.revisions_merged = revision - before
        if kind == service_pb2.FRAME_KIND_UPDATE:
            found.event.revision = revision
        return found.SerializeToString()

    def change(self, *, by: int = 1) -> None:
        """So many revisions more."""
        self.revision += by
        self._wake()

    def beat(self) -> None:
        """There is nothing to say."""
        self.beats += 1
        self._wake()

    def end(self) -> None:
        """The queue has ended."""
        self.ended = True
        self._wake()

    def go(self, *, away: bool) -> None:
        """Cut all streams; be away for a while, or back."""
        self.away = away
        self.cut = object()
        self._wake()

    def refuse(self, refusal: grpc.aio.AioRpcError) -> None:
        """End all streams so, and answer no others."""
        self.refusal = refusal
        self._wake()

    def _wake(self) -> None:
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


def error(code: grpc.StatusCode, details: str) -> grpc.aio.AioRpcError:
    """A call that has failed."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)
