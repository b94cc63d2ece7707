"""One connection with its calls: deadlines, retries, and grpc's exceptions turned into ours; no meaning.

Quirks of grpc.aio that end here: a channel belongs to the event loop it was made in; an `AioRpcError` can come out of
every await; a channel that is closed under a call raises `CancelledError` in a task that nobody has cancelled; an
abandoned stream goes on until the garbage collector finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import grpc
import grpc.aio

from queue_manager.client import forking
from queue_manager.client.backoff import Backoff
from queue_manager.client.channel import caller_metadata, open_channel, resolve_target
from queue_manager.client.errors import QueueManagerError, Unavailable
from queue_manager.client.status import from_rpc_error
from queue_manager.client.watch import Stream
from queue_manager.v1.service_pb2 import WatchQueueRequest, WatchQueueResponse
from queue_manager.v1.service_pb2_grpc import QueueManagerStub

if TYPE_CHECKING:
    # Only the types know that a stub over an aio channel is another one.
    from queue_manager.v1.service_pb2_grpc import QueueManagerAsyncStub

CLOSED: Final = "the client was closed during the call"

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Result = TypeVar("_Result")


class Connection:
    """A channel that can be opened and closed, and calls over it."""

    def __init__(
        self,
        target: str | None,
        *,
        timeout: float,
        requested_by: str | None,
        credentials: grpc.ChannelCredentials | None,
        backoff: Backoff,
    ) -> None:
        """As for `AsyncClient`."""
        self.target = resolve_target(target)
        self.timeout = timeout
        self.backoff = backoff
        self._metadata = caller_metadata(requested_by)
        self._credentials = credentials
        self._channel: grpc.aio.Channel | None = None
        self._stub: QueueManagerAsyncStub | None = None

    def open(self) -> None:
        """Make the channel, in the running loop; it connects with the first call."""
        if self._channel is not None:
            raise RuntimeError("this client is open already")
        forking.enter(self)
        self._channel = open_channel(self.target, self._credentials)
        self._stub = QueueManagerStub(self._channel)

    async def close(self) -> None:
        """End what is under way. May be repeated."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()
            forking.leave(self)

    @property
    def stub(self) -> QueueManagerAsyncStub:
        """The open stub. Raises `RuntimeError` where the client is not open, or is another process's."""
        forking.check()
        if self._stub is None:
            raise RuntimeError("the client is not open; use it inside `async with` (a `Client`: inside `with`)")
        return self._stub

    async def call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[_Request, _Response],
        request: _Request,
        timeout: float | None,
        *,
        repeatable: bool = True,
    ) -> _Response:
        """Send a request, and if it may be repeated again while the server is unavailable and the time is not up."""
        now = asyncio.get_running_loop().time
        channel = self._open
        whole = self.timeout if timeout is None else timeout
        deadline = now() + whole
        attempt = 0
        known: QueueManagerError | None = None
        try:
            while True:
                left = deadline - now()
                if known is not None and left <= 0:  # the pause took longer than it should have
                    raise known
                try:
                    call = method(request, timeout=left, metadata=self._metadata)
                    return await self._translated(call, channel, timeout=whole)
                except QueueManagerError as e:
                    reached = channel.get_state() is grpc.ChannelConnectivity.READY
                    known = _telling(known, e, hurried=left < whole / 2, reached=reached)
                pause = self.backoff.pause(attempt, at_least=known.retry_after)
                attempt += 1
                unavailable = known.code is grpc.StatusCode.UNAVAILABLE
                if not repeatable or not unavailable or attempt >= self.backoff.attempts or now() + pause >= deadline:
                    raise known
                await self.backoff.sleep(pause)
                if self._channel is not channel:
                    raise RuntimeError(CLOSED)
        finally:
            del known  # its traceback would hold it

    @asynccontextmanager
    async def watch_stream(self, request: WatchQueueRequest) -> AsyncIterator[Stream]:
        """One stream of frames, cancelled on the way out. It has no deadline: silence is the watch's to notice."""
        call = self.stub.WatchQueue(request, metadata=self._metadata)
        channel = self._open
        frames = aiter(call)

        async def accepted() -> bool:
            await self._translated(call.initial_metadata(), channel, timeout=None)
            return not call.done()  # gRPC's answer for a call that has failed is empty metadata

        async def read() -> WatchQueueResponse | None:
            return await self._translated(anext(frames, None), channel, timeout=None)

        try:
            yield Stream(accepted, read)
        finally:
            call.cancel()
            if isinstance(frames, AsyncGenerator):
                await frames.aclose()

    @property
    def _open(self) -> grpc.aio.Channel:
        """The open channel; a call ends with the one that it began with."""
        assert self._channel is not None, "whoever calls has a stub"
        return self._channel

    async def _translated(
        self, answer: Awaitable[_Result], channel: grpc.aio.Channel, *, timeout: float | None
    ) -> _Result:
        """Await grpc, which answers over the channel; `timeout` is for the message."""
        try:
            return await answer
        except grpc.aio.AioRpcError as e:
            raise from_rpc_error(e, target=self.target, timeout=timeout) from e
        except asyncio.CancelledError as e:
            task = asyncio.current_task()
            if self._channel is not channel and task is not None and not task.cancelling():
                raise RuntimeError(CLOSED) from e
            raise


def _telling(
    before: QueueManagerError | None, error: QueueManagerError, *, hurried: bool, reached: bool
) -> QueueManagerError:
    """Which error to tell after another attempt, with what they leave open.

    One that ran out of time says less than what was known before, where it was `hurried` or never `reached` the server.
    """
    if before is None:
        return error
    ran_out = error.code is grpc.StatusCode.DEADLINE_EXCEEDED and not error.from_server
    if ran_out and (hurried or not reached):
        before.undecided = before.undecided or reached
        return before
    if isinstance(error, Unavailable):
        error.undecided = error.undecided or before.undecided
    return error
