"""Calls over HTTP/1.1 to one server, each answered whole, over connections that are kept.

A burst of queues is a burst of calls, and what a call costs here is what all else has to wait for. What aiohttp makes of
one (a request, a response, a stream, their timers, cookies and redirects) takes twice the time of what is done here: one
write, and what `httptools` reads of the answer. Decision 18 has the measurement, and why watches and calls through a
proxy are left to aiohttp.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Final, cast

from httptools import HttpParserError, HttpResponseParser
from yarl import URL

IDEMPOTENT: Final = frozenset({"GET", "DELETE"})
"""What may be sent again where a kept connection turns out to have been closed (RFC 9110, 9.2.2)."""

_LENGTHS: Final = frozenset({b"content-length", b"transfer-encoding"})
_FORBIDDEN: Final = re.compile(r"[\r\n\0]")
"""In a header: it would be the end of it, and what follows another (RFC 9110, 5.5)."""


class NotConnected(ConnectionError):
    """There is no connection: nothing was sent."""


class NotConnectedInTime(NotConnected, TimeoutError):
    """There is none yet."""


class Closed(ConnectionError):
    """The server has closed a connection before anything of the answer came."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    fields: Sequence[tuple[bytes, bytes]]
    """Its headers, as they came."""
    body: bytes

    def header(self, name: str) -> str:
        """What a header says, empty where there is none. `name` is in lower case."""
        wanted = name.encode()
        return next((value.decode("latin-1") for given, value in self.fields if given.lower() == wanted), "")


class Connections:
    """To the server that a URL names. As many as there are calls at a time; `close` ends those that are kept."""

    def __init__(
        self, server: URL, *, tls: ssl.SSLContext, server_hostname: str | None, connect: float, kept: float
    ) -> None:
        """`tls` is used where the URL says https, `server_hostname` where the certificate has another name than the URL.

        `connect`: seconds that a connection may take. `kept`: seconds for which one is kept for the next call.
        """
        self._host = server.raw_host or ""
        self._port = server.port or 0
        self._name = server.host_port_subcomponent or ""
        self._tls = tls if server.scheme == "https" else None
        self._server_hostname = server_hostname if self._tls is not None else None
        self._connect = connect
        self._kept = kept
        self._idle: deque[_Connection] = deque()
        """Those that were used last are last."""
        self._sweeping: asyncio.TimerHandle | None = None

    async def call(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, *, timeout: float
    ) -> Answer:
        """Send a request, to its path and query, and wait for the whole answer, `timeout` seconds in all.

        Raises `NotConnected` where nothing was sent, else `ConnectionError`, and `TimeoutError`.
        """
        request = _head(method, target, self._name, tuple(headers.items()))
        request += b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if body is not None else b"\r\n"
        deadline = asyncio.get_running_loop().time() + timeout
        connection = self._take()
        if connection is not None:
            try:
                return await self._ask(connection, request, deadline)
            except Closed:
                if method not in IDEMPOTENT:
                    raise
        return await self._ask(await self._connected(deadline), request, deadline)

    def close(self) -> None:
        """End what is kept."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        while self._idle:
            self._idle.pop().end()

    async def _ask(self, connection: _Connection, request: bytes, deadline: float) -> Answer:
        expiry = asyncio.get_running_loop().call_at(
            deadline, connection.give_up
        )  # half of what `asyncio.timeout` takes
        try:
            return await connection.ask(request)
        finally:
            expiry.cancel()
            if connection.reusable:
                self._keep(connection)
            else:
                connection.end()

    async def _connected(self, deadline: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect)):
                _, connection = await loop.create_connection(
                    _Connection, self._host, self._port, ssl=self._tls, server_hostname=self._server_hostname
                )
        except TimeoutError as error:
            raise NotConnectedInTime(f"no connection to {self._name} in time") from error
        except OSError as error:  # `ssl.SSLError` is one
            raise NotConnected(f"cannot connect to {self._name}: {error}") from error
        return connection

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.since + self._kept > monotonic():
                return connection
            connection.end()
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.since = monotonic()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._kept, self._sweep)

    def _sweep(self) -> None:
        """End those that nobody has needed for long."""
        while self._idle and self._idle[0].since + self._kept <= monotonic():
            self._idle.popleft().end()
        self._sweeping = None
        if self._idle:
            left = self._idle[0].since + self._kept - monotonic()
            self._sweeping = asyncio.get_running_loop().call_later(left, self._sweep)


class _Connection(asyncio.Protocol):
    """One of them: at any time it is asked for one thing."""

    since = 0.0
    """When it was used last, by the monotonic clock."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._heard = False
        self._whole = True
        self._to_the_end = False

    @property
    def reusable(self) -> bool:
        """It is there, and has nothing more to say."""
        return self._whole and self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send this; what comes back."""
        assert self._transport is not None
        self._heard = self._whole = self._to_the_end = False
        self._answer = answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return answer

    def give_up(self) -> None:
        """The answer has not come in time."""
        self._failed(TimeoutError("no answer in time"))

    def end(self) -> None:
        """Close it, without TLS's parting words, for which nobody would wait."""
        if self._transport is not None:
            self._transport.abort()

    def _answered(self) -> None:
        answer = Answer(self._parser.get_status_code(), self._fields, b"".join(self._body))
        self._fields, self._body = [], []
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def _failed(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        if self._whole:  # nobody has asked
            self.end()
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._failed(ConnectionError(f"what came is not HTTP: {error}"))
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._to_the_end and exc is None:
            self._answered()
        elif not self._heard:
            self._failed(Closed("the server has closed the connection"))
        else:
            self._failed(ConnectionError("the connection was cut in the middle of an answer"))

    # --- what the parser tells ---

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Where it is not said how long the body is, it goes on until the connection ends (RFC 9112, 6.3)."""
        self._to_the_end = not any(name.lower() in _LENGTHS for name, _ in self._fields)

    def on_body(self, body: bytes) -> None:
        """See `httptools`."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Of what was asked, where it is not some word in between (100 to 199)."""
        if self._parser.get_status_code() < 200:
            self._fields = []
            return
        self._to_the_end = False
        self._whole = self._parser.should_keep_alive()
        self._answered()


@lru_cache(maxsize=64)
def _head(method: str, target: str, host: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """What begins a request; most of them begin like others."""
    fields = {"Host": host, **dict(headers)}
    for name, value in fields.items():
        if _FORBIDDEN.search(value):
            raise ValueError(f"header {name} has a line break in it")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n").encode()
