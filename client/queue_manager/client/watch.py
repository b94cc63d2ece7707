"""A watch that goes on by itself across cuts, and ends with END or with an exception. The calls themselves come in.

A stream is cut when it closes without END, breaks, or is silent for three heartbeats. The watch then asks again from
the last revision that its reader has, after a jittered pause, until it has been without a connection for too long.
What is no cut (an unknown queue, missing rights, a bug of the server) is raised at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeVar

import grpc

from queue_manager.client.backoff import Backoff
from queue_manager.client.errors import (
    REASON_STREAM_CUT,
    REASON_WATCH_BROKEN,
    InternalError,
    QueueManagerError,
    ResourceExhausted,
    Unavailable,
)
from queue_manager.client.ledger import Ledger, Verdict
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse

SILENT_HEARTBEATS: Final = 3
"""A stream that brings no frame for this many heartbeats is taken for dead: one may be late, three are not."""
MAX_GAPS: Final = 3
"""How often in a row, without a new revision, the server may skip some before the watch gives up on it."""

_BROKEN_CONNECTION: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,
    }
)
"""What a reset of the HTTP/2 stream is reported as, by whoever resets it (a proxy, a dying server)."""

OnReconnect = Callable[[QueueManagerError, float], None]
"""Told of a cut: what cut it, and the seconds until the next attempt."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One of the server's streams."""

    accepted: Callable[[], Awaitable[bool]]
    """Waits until the server has let the watch in. It may say so long before the first frame, or with it; False: the
    stream is over, and reading tells why."""
    read: Callable[[], Awaitable[WatchQueueResponse | None]]
    """Waits for the next frame; None at the end. Raises `QueueManagerError`s."""


OpenStream = Callable[[int | None], AbstractAsyncContextManager[Stream]]
"""Opens the server's stream after a revision (None: with a SNAPSHOT); leaving the context cancels the call."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """How a watch behaves; seconds."""

    heartbeat: float
    """The longest silence that the server was asked to keep."""
    give_up_after: float
    """How long it may be without a connection, counted from the moment the cut was noticed."""
    yield_heartbeats: bool
    backoff: Backoff
    on_reconnect: OnReconnect | None = None


class _Attempts:
    """Decides after each cut how long to wait, and when enough is enough."""

    def __init__(self, options: WatchOptions) -> None:
        self._options = options
        self._failed = 0
        self._lost_since: float | None = None

    def connected(self) -> bool:
        """The connection lives; whether that is news."""
        was_lost = self._lost_since is not None
        self._lost_since = None
        return was_lost

    def progress(self) -> None:
        """It brought something new, so the next pause is short again. A frame alone isn't enough for that: a server
        that repeats itself and hangs up would be asked without a pause."""
        self._failed = 0

    async def after(self, cut: QueueManagerError) -> None:
        """Wait for the next attempt, or raise what cut the watch when its time is up."""
        now = asyncio.get_running_loop().time()
        if self._lost_since is None:
            self._lost_since = now
        pause = self._options.backoff.pause(self._failed, at_least=cut.retry_after)
        if now + pause - self._lost_since > self._options.give_up_after:
            raise cut
        self._failed += 1
        if self._options.on_reconnect is not None:
            self._options.on_reconnect(cut, pause)
        await self._options.backoff.sleep(pause)


async def watch_frames(
    open_stream: OpenStream, *, after_revision: int | None, options: WatchOptions
) -> AsyncGenerator[WatchQueueResponse, None]:
    """The frames of a queue: every revision exactly once, in order, then END."""
    silence = SILENT_HEARTBEATS * options.heartbeat
    ledger = Ledger(after_revision)
    attempts = _Attempts(options)
    gaps = 0
    connected_once = False
    while True:
        try:
            async with open_stream(ledger.last) as stream:
                is_back = await _lively(stream.accepted(), silence=silence) and attempts.connected()
                if is_back and options.yield_heartbeats:  # the server's own may be long in coming
                    yield WatchQueueResponse(kind=FrameKind.FRAME_KIND_HEARTBEAT, revision=ledger.last or 0)
                while (frame := await _lively(stream.read(), silence=silence)) is not None:
                    connected_once = True
                    attempts.connected()
                    verdict = ledger.enter(frame)
                    if verdict is Verdict.GAP:
                        gaps += 1
                        raise _gap(frame, ledger, final=gaps >= MAX_GAPS)
                    if verdict is Verdict.DELIVER:
                        gaps = 0
                        attempts.progress()
                        yield frame
                        if frame.kind == FrameKind.FRAME_KIND_END:
                            return
                    elif verdict is Verdict.IDLE and options.yield_heartbeats:
                        yield frame
            cut: QueueManagerError = Unavailable("the stream closed before the queue ended", reason=REASON_STREAM_CUT)
        except QueueManagerError as e:
            if not _is_cut(e, connected_once=connected_once):
                raise
            cut = e
        await attempts.after(cut)


def _is_cut(error: QueueManagerError, *, connected_once: bool) -> bool:
    """Whether going on later can help.

    Codes that a broken connection shares with a broken server count as cuts only once the watch has worked.
    """
    if isinstance(error, Unavailable | ResourceExhausted):
        return True
    return connected_once and not error.from_server and error.code in _BROKEN_CONNECTION


def _gap(frame: WatchQueueResponse, ledger: Ledger, *, final: bool) -> QueueManagerError:
    """A gap is a cut, until the server has made too many of them."""
    text = (
        f"the server sent revision {frame.revision} (merged {frame.revisions_merged}) "
        f"after revision {ledger.last or 0}: some are missing"
    )
    # DATA_LOSS is in no set of cuts, so the last gap ends the watch.
    if final:
        return InternalError(text, reason=REASON_WATCH_BROKEN, code=grpc.StatusCode.DATA_LOSS)
    return Unavailable(text, reason=REASON_STREAM_CUT)


async def _lively(word: Awaitable[_Result], *, silence: float) -> _Result:
    """The server's next word, or a cut when there is none for `silence` seconds.

    The limit is on the wait for a frame, not on the reader, who may take as long as he likes with one.
    """
    try:
        async with asyncio.timeout(silence):
            return await word
    except TimeoutError as e:
        raise Unavailable(f"no frame from the server for {silence:g} s", reason=REASON_STREAM_CUT) from e
