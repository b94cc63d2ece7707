"""Streams over HTTP: server-sent events or a line of JSON each, by `Accept`; the first is the default.

Nothing is written before the server has accepted the call, so that a refusal is an answer like any other. After that a
failure is the stream's last event, `ERROR`, with the error model; headers go out at once, silence is filled by comments.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

import grpc
from aiohttp import web
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.rpc import status_pb2
from multidict import CIMultiDictProxy

from queue_manager.gateway import status as statuses
from queue_manager.gateway.contract import Method
from queue_manager.gateway.endpoints import Endpoint
from queue_manager.gateway.frames import RETRY, Form, Text, Writer, error_event, error_line
from queue_manager.gateway.problems import Malformed, NotAcceptable, Violation
from queue_manager.gateway.scalars import Wrong, scalar
from queue_manager.gateway.status import Failed
from queue_manager.gateway.upstream import Metadata, Upstream, told_of_closing
from queue_manager.gateway.watching import ACCEPTED, Note, Watches

LAST_EVENT_ID: Final = "Last-Event-ID"
ACCEPTED_WITHIN: Final = 1.0
"""Seconds after which a call that has neither been refused nor answered anything is taken for accepted."""
STUCK: Final = 60.0
"""Seconds after which a reader that takes nothing is given up."""
HEADERS: Final = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}

_NAMES: Final[Mapping[Form, frozenset[str]]] = {
    Form.EVENTS: frozenset({"text/event-stream", "text/*", "*/*"}),
    Form.LINES: frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/*", "*/*"}),
}
"""The media ranges that each form is in; the first form is what `*/*` gets."""


def form_of(headers: CIMultiDictProxy[str]) -> Form:
    """How a stream is wanted: of a form, the most exact range that it is in counts (RFC 9110, section 12.5.1).

    Raises `NotAcceptable`.
    """
    ranges = [*_ranges(",".join(headers.getall("Accept", ["*/*"])))]
    wanted = {
        form: max((each for each in ranges if each[1] in names), default=(0, "", 0.0)) for form, names in _NAMES.items()
    }
    form = max(wanted, key=lambda each: (wanted[each][2], wanted[each][0]))
    if wanted[form][2] <= 0:
        raise NotAcceptable("this is a stream; accept text/event-stream or application/x-ndjson")
    return form


def _ranges(accept: str) -> Iterator[tuple[int, str, float]]:
    """How exact each range is, itself, and its weight."""
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                with suppress(ValueError):
                    weight = float(parameter[2:])
        yield 3 - media.count("*"), media or "*/*", weight


def resume(request: Message, field: FieldDescriptor | None, headers: CIMultiDictProxy[str]) -> None:
    """Put `Last-Event-ID` where the method takes it: a browser that comes back sends it with its first query.

    Raises `Malformed`.
    """
    text = headers.get(LAST_EVENT_ID, "").strip()
    if not text or field is None:
        return
    try:
        if not text.isascii() or not text.removeprefix("-").isdigit():
            raise Wrong("must be a whole number")
        setattr(request, field.name, scalar(field, text))
    except Wrong as error:
        raise Malformed([Violation(LAST_EVENT_ID, f"{error}: the id of the last event, which is a revision")]) from None


class Streams:
    """Answers with streams."""

    def __init__(self, upstream: Upstream, watches: Watches) -> None:
        """Watches share the server's streams; other methods have one each."""
        self._upstream = upstream
        self._watches = watches

    async def answer(
        self,
        http: web.BaseRequest,
        endpoint: Endpoint,
        request: Message,
        metadata: Metadata,
        *,
        form: Form,
        timeout: float | None,
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """Write a stream until it ends, or the client goes. Raises `Failed` where the server refuses it."""
        reads = self._alone if endpoint.resumes is None else self._watches.follow
        items = reads(endpoint.method, endpoint.writer, request, metadata)
        response = web.StreamResponse(headers=headers | HEADERS | {"Content-Type": f"{form.value}; charset=utf-8"})
        async with aclosing(items):
            try:
                async with asyncio.timeout(timeout):
                    await anext(items)  # ACCEPTED
                    await response.prepare(http)
                    if http.method != "HEAD":
                        await self._write(http, response, items, form)
            except TimeoutError:
                status = statuses.made(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", "the request's deadline has come"
                )
                if not response.prepared:
                    raise Failed(status) from None
                await self._end(http, response, status, form)
            except Failed as failed:
                if not response.prepared:
                    raise
                await self._end(http, response, failed.status, form)
        return response

    @staticmethod
    async def _write(
        http: web.BaseRequest, response: web.StreamResponse, items: AsyncGenerator[Text | Note, None], form: Form
    ) -> None:
        if form is Form.EVENTS:
            await _send(http, response, RETRY)
        async for item in items:
            if isinstance(item, Text):
                data = item.written(form)
            elif form is Form.EVENTS and item:
                data = f": {item}\n\n".encode()
            else:
                continue
            await _send(http, response, data)

    @staticmethod
    async def _end(http: web.BaseRequest, response: web.StreamResponse, status: status_pb2.Status, form: Form) -> None:
        body = statuses.to_json(status)
        with suppress(ConnectionError):
            await _send(http, response, error_event(body) if form is Form.EVENTS else error_line(body))

    async def _alone(
        self, method: Method, writer: Writer, request: Message, metadata: Metadata
    ) -> AsyncGenerator[Text | Note, None]:
        """A stream of the server for one reader. Raises `Failed`."""
        call = self._upstream.stream(method.path, request.SerializeToString(), metadata)
        messages: AsyncIterator[Any] = aiter(call)
        first = asyncio.ensure_future(anext(messages, None))
        try:
            with told_of_closing():
                await asyncio.wait({first}, timeout=ACCEPTED_WITHIN)
                if first.done():
                    first.result()
                yield ACCEPTED
                raw = await first
                while raw is not None:
                    yield writer.text(method.response.FromString(raw))
                    raw = await anext(messages, None)
        except grpc.aio.AioRpcError as error:
            raise Failed(statuses.of_call(error, server=self._upstream.server)) from error
        finally:
            first.cancel()
            call.cancel()


async def _send(http: web.BaseRequest, response: web.StreamResponse, data: bytes) -> None:
    """Raises `ConnectionError` where the reader has gone, or takes nothing."""
    try:
        async with asyncio.timeout(STUCK):
            await response.write(data)
    except TimeoutError:
        if http.transport is not None:
            http.transport.abort()  # else it would wait for the reader to take what is buffered
        raise ConnectionResetError(f"the reader has taken nothing for {STUCK:.0f} s") from None
