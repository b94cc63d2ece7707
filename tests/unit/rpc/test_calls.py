"""What surrounds every call, unary or stream: what becomes of errors, bugs and cancellation, and what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from structlog.testing import capture_logs

from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.server.domain.errors import NotFound, QueueManagerError
from queue_manager.server.rpc.calls import Context, Surroundings
from queue_manager.v1 import service_pb2

REQUEST = service_pb2.GetQueueRequest(queue_id="wf-1")


class Told:
    """Remembers the ends that it is told."""

    def __init__(self) -> None:
        """None yet."""
        self.begun = 0
        self.ends: list[tuple[str, str]] = []
        self.started = asyncio.Event()
        self.ended = asyncio.Event()

    def call_began(self, method: str) -> float:
        """One more."""
        self.begun += 1
        self.started.set()
        return 7.0

    def call_ended(self, method: str, code: str, began: float) -> None:
        """With the beginning that was answered."""
        assert began == 7.0
        self.ends.append((method, code))
        self.ended.set()


class Behaviour:
    """Raises what it is told to; else answers, or hangs."""

    def __init__(self, error: Exception | None = None, *, hangs: bool = False) -> None:
        """Nothing: it answers."""
        self.error = error
        self.hangs = hangs

    async def unary(self, request: service_pb2.GetQueueRequest, context: Context) -> bytes:
        """One answer."""
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.error is not None:
            raise self.error
        return b"one"

    def stream(self, request: service_pb2.GetQueueRequest, context: Context) -> Stream:
        """One answer, and another."""
        return Stream(partial(self.unary, request, context), quiet=self.hangs)


class Stream:
    """A frame that is there at once, if not `quiet`, and one that is to be waited for."""

    def __init__(self, answer: Callable[[], Awaitable[bytes]], *, quiet: bool = False) -> None:
        """Nothing was taken yet; `answer` makes the second."""
        self._answer: Callable[[], Awaitable[bytes]] | None = answer
        self._taken = int(quiet)

    async def begin(self) -> None:
        """Nothing is refused."""

    def ready(self) -> Frame | None:
        """The first."""
        self._taken += 1
        return one(b"one") if self._taken == 1 else None

    async def later(self) -> Frame | None:
        """The second, then the end."""
        answer, self._answer = self._answer, None
        return one(await answer()) if answer else None

    async def aclose(self) -> None:
        """Nothing to give back."""


def one(wire: bytes) -> Frame:
    """A frame with these bytes."""
    return Frame(FrameKind.UPDATE, 1, 1, wire=wire)


@asynccontextmanager
async def served(behaviour: Behaviour, told: Told) -> AsyncIterator[grpc.aio.Channel]:
    """A server of both kinds of call, and a channel to it."""
    calls = Surroundings(observer=told, new_id=lambda: "id-1", max_bytes=100)
    handlers = {
        "Unary": calls.unary("Unary", behaviour.unary, service_pb2.GetQueueRequest),
        "Stream": calls.streaming("Stream", behaviour.stream, service_pb2.GetQueueRequest),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(5)  # calls under way are let finish, and tell their end


async def outcome(channel: grpc.aio.Channel, method: str, raw: bytes = REQUEST.SerializeToString()) -> Any:
    """What a call answers, as a list; or the error that it ends with."""
    try:
        if method == "Stream":
            open_stream: Any = channel.unary_stream("/t/Stream")
            return [frame async for frame in open_stream(raw)]
        call: Any = channel.unary_unary("/t/Unary")
        return [await call(raw)]
    except grpc.aio.AioRpcError as error:
        return error


def info(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo that an error carries."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            found = error_details_pb2.ErrorInfo()
            if status_pb2.Status.FromString(value).details[0].Unpack(found):
                return found
    raise AssertionError("it carries none")


KINDS = pytest.mark.parametrize("method", ["Unary", "Stream"])


@KINDS
async def test_an_answer_is_sent_as_it_is(method: str) -> None:
    """Bytes that are made already are not touched; the end is told once."""
    told = Told()
    async with served(Behaviour(), told) as channel:
        assert set(await outcome(channel, method)) == {b"one"}
    assert (told.begun, told.ends) == (1, [(method, "OK")])


@KINDS
async def test_an_error_of_the_core_has_its_code_and_details(method: str) -> None:
    """As the table says."""
    told = Told()
    async with served(Behaviour(NotFound("wf-1")), told) as channel:
        error = await outcome(channel, method)
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert info(error).reason == "QUEUE_NOT_FOUND"
    assert told.ends == [(method, "NOT_FOUND")]


@KINDS
async def test_a_bug_is_an_id_for_the_caller_and_the_whole_story_for_the_log(method: str) -> None:
    """No traceback, no text of the exception leaves the server."""
    told = Told()
    with capture_logs() as logs:
        async with served(Behaviour(RuntimeError("secret detail")), told) as channel:
            error = await outcome(channel, method)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert info(error).metadata["error_id"] == "id-1"
    assert "secret detail" not in str(error)
    assert told.ends == [(method, "INTERNAL")]
    (line,) = [line for line in logs if line.get("error_id") == "id-1"]
    assert (line["method"], str(line["exc_info"])) == (method, "secret detail")


@KINDS
async def test_a_caller_that_hangs_up_ends_the_call(method: str) -> None:
    """CANCELLED, and told."""
    told = Told()
    async with served(Behaviour(hangs=True), told) as channel:
        waiting = asyncio.create_task(outcome(channel, method))
        async with asyncio.timeout(10):
            await told.started.wait()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(10):
            await told.ended.wait()
    assert told.ends == [(method, "CANCELLED")]


@KINDS
@pytest.mark.parametrize(
    ("raw", "code", "reason"),
    [
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        (b"x" * 101, grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    ],
)
async def test_bytes_that_are_no_request_are_refused_with_a_reason(
    method: str, raw: bytes, code: grpc.StatusCode, reason: str
) -> None:
    """Before anything is called."""
    told = Told()
    async with served(Behaviour(QueueManagerError("not reached")), told) as channel:
        error = await outcome(channel, method, raw)
    assert (error.code(), info(error).reason) == (code, reason)
    assert told.ends == [(method, code.name)]


async def test_who_watches_what_is_quiet_is_told_that_he_may() -> None:
    """Before the first frame, for which he may have to wait for long."""
    told = Told()
    async with served(Behaviour(hangs=True), told) as channel:
        open_stream: Any = channel.unary_stream("/t/Stream")
        call = open_stream(REQUEST.SerializeToString())
        async with asyncio.timeout(10):
            await call.initial_metadata()
        assert not call.done()
        call.cancel()
        async with asyncio.timeout(10):
            await told.ended.wait()
