"""aiohttp's server, without its router: one handler for all, the error model also where a request cannot be parsed, and a
limit on the time that a connection takes for its first request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

import grpc
import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from queue_manager.gateway import guard
from queue_manager.gateway import status as statuses

log = structlog.get_logger(__name__)

LONGEST_LINE: Final = 8190
"""Bytes of the request line, and of a header field."""
KEEP_ALIVE: Final = 75.0
"""Seconds for which an idle connection is kept."""


class Connection(RequestHandler):
    """A client's connection."""

    def __init__(self, manager: web.Server, *, header_timeout: float, **options: Any) -> None:
        """See `RequestHandler`."""
        super().__init__(manager, **options)
        self._header_timeout = header_timeout
        self._silence: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Give it time for a first request."""
        super().connection_made(transport)
        self._silence = self._loop.call_later(self._header_timeout, self._close_if_silent)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Nothing is left to wait for."""
        if self._silence is not None:
            self._silence.cancel()
        super().connection_lost(exc)

    def _close_if_silent(self) -> None:
        self._silence = None
        if self._request_count == 0 and self.transport is not None:
            self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is answered in the error model, too, and ends the connection."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer has been sent")
        if status >= 500:
            log.error("a request has failed", error=repr(exc)[:1000])
        told = (message or str(exc) or "it is no HTTP").splitlines()[0].rstrip(":")
        if isinstance(exc, LineTooLong):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            told = f"a line of its head is longer than {LONGEST_LINE} bytes"
        code = grpc.StatusCode.INTERNAL if status >= 500 else grpc.StatusCode.INVALID_ARGUMENT
        answer = web.Response(
            body=statuses.to_json(statuses.made(code, "BAD_HTTP", f"the request cannot be read: {told}")),
            status=status,
            content_type="application/json",
            headers=guard.SECURITY,
        )
        answer.force_close()
        return answer


class Server(web.Server):
    """Makes connections of that kind."""

    def __init__(self, handler: Any, *, header_timeout: float) -> None:
        """A client that goes cancels the handler, and with that the call."""
        super().__init__(handler, handler_cancellation=True)
        self._header_timeout = header_timeout

    def __call__(self) -> RequestHandler:
        """For a connection more."""
        return Connection(
            self,
            header_timeout=self._header_timeout,
            loop=self._loop,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE,
            lingering_time=1.0,
            auto_decompress=False,
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE,
        )
