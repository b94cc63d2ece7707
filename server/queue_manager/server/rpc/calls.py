"""What surrounds every call: identity, errors, metrics, and bytes that are already made.

Handlers are wrapped here and not by interceptors, which `grpc.aio` runs as extra coroutines on every message. A handler
answers a message, or bytes that are the serialised message; those are sent as they are. A streaming one answers where its
frames come from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn, Protocol
from urllib.parse import unquote

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from queue_manager.server.application.topic import Frame
from queue_manager.server.domain.errors import InvalidRequest, QueueManagerError, TooLarge, Violation
from queue_manager.server.rpc.frames import frame_bytes
from queue_manager.server.rpc.status import code_of, internal, status_of, trailers

log = structlog.get_logger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Message | bytes]]
Stream = Callable[[Any, Context], "Frames"]

CALLER_KEY = "x-requested-by"
CALLER_LIMIT = 256


class Frames(Protocol):
    """Where the frames of a stream come from. It raises what ends the call.

    They are taken and written in the one coroutine that the call has anyway: with a thousand streams every further one,
    and a generator is one, costs each frame the memory that it touches.
    """

    async def begin(self) -> None:
        """Raises where there will be no frames at all."""

    def ready(self) -> Frame | None:
        """The next frame, if it is there already."""

    async def later(self) -> Frame | None:
        """The next frame, where none was ready; None after the last."""

    async def aclose(self) -> None:
        """No more of them is wanted."""


class CallObserver(Protocol):
    """Told of every call."""

    def call_began(self, method: str) -> float:
        """A call of this method began: when, on the observer's own clock."""

    def call_ended(self, method: str, code: str, began: float) -> None:
        """The call that began then ended with this code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every call is given; `new_id` makes the ids by which a bug is found in the log."""

    observer: CallObserver
    new_id: Callable[[], str]
    max_bytes: int
    """Larger requests are refused."""

    def unary(self, method: str, behaviour: Unary, request: type[Message]) -> Any:
        """The method handler of a unary call."""

        async def call(raw: bytes, context: Context) -> Message | bytes:
            async with _Call(self, method, context):
                return await behaviour(_parse(request, raw, self.max_bytes), context)

        return grpc.unary_unary_rpc_method_handler(call, response_serializer=_to_bytes)

    def streaming(self, method: str, behaviour: Stream, request: type[Message]) -> Any:
        """The method handler of a server-streaming call."""

        async def call(raw: bytes, context: Context) -> None:
            async with (
                _Call(self, method, context),
                aclosing(behaviour(_parse(request, raw, self.max_bytes), context)) as frames,
            ):
                await frames.begin()
                # Else one who comes back to a queue that is quiet would not know that he has been let in.
                await context.send_initial_metadata(())
                write = context.write
                while frame := frames.ready() or await frames.later():
                    await write(frame.wire or frame_bytes(frame))

        return grpc.unary_stream_rpc_method_handler(call)


class _Call:
    """A call while it lasts: what it raises becomes its status, and its end is told."""

    __slots__ = ("_began", "_context", "_method", "_surroundings")

    def __init__(self, surroundings: Surroundings, method: str, context: Context) -> None:
        self._surroundings = surroundings
        self._method = method
        self._context = context
        self._began = 0.0

    async def __aenter__(self) -> None:
        self._began = self._surroundings.observer.call_began(self._method)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = grpc.StatusCode.OK
        try:
            if isinstance(error, QueueManagerError):
                code = code_of(error)
                await _fail(self._context, code, status_of(error))
            elif isinstance(error, asyncio.CancelledError | GeneratorExit):
                code = grpc.StatusCode.CANCELLED
            elif isinstance(error, Exception):
                code = grpc.StatusCode.INTERNAL
                error_id = self._surroundings.new_id()
                log.error("a call failed because of a bug", method=self._method, error_id=error_id, exc_info=error)
                await _fail(self._context, code, internal(error_id))
        finally:
            self._surroundings.observer.call_ended(self._method, code.name, self._began)


def caller(context: Context) -> str:
    """Who calls: what the `x-requested-by` metadata says, else the address."""
    for key, value in context.invocation_metadata() or ():
        if key == CALLER_KEY and value:
            return str(value)[:CALLER_LIMIT]
    peer = context.peer() or "unknown"
    return unquote(peer.split(":", 1)[-1])[:CALLER_LIMIT]


def _parse(kind: type[Message], raw: bytes, limit: int) -> Message:
    """Parsed here and not by gRPC, which would answer UNKNOWN with the Python exception's text, and no remedy."""
    if len(raw) > limit:
        raise TooLarge(len(raw), limit)
    try:
        return kind.FromString(raw)
    except DecodeError as error:
        text = f"the bytes are no {kind.DESCRIPTOR.full_name}; is the client built from the same contract?"
        raise InvalidRequest([Violation("", text)]) from error


def _to_bytes(response: Message | bytes) -> bytes:
    return response if isinstance(response, bytes) else response.SerializeToString()


async def _fail(context: Context, code: grpc.StatusCode, status: Any) -> NoReturn:
    await context.abort(code, status.message, trailers(status))
    raise AssertionError("abort always raises")
