"""Calls over HTTP/1.1 to one server, each answered whole, over connections that are kept.

A burst of queues is a burst of calls, and what a call costs here is what all else has to wait for. What aiohttp makes of
one (a request, a response, a stream, their timers, cookies and redirects) takes twice the time of what is done here: one
write, and what `httptools` reads of the answer. Decision 18 has the measurement, and why watches and calls through a
proxy are left to aiohttp.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Final, cast

from aiohappyeyeballs import start_connection  # comes with aiohttp, which comes with kubernetes_asyncio
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from yarl import URL

IDEMPOTENT: Final = frozenset({"GET", "DELETE"})
"""What may be sent again where a kept connection turns out to have been closed (RFC 9110, 9.2.2)."""

NEXT_ADDRESS: Final = 0.25
"""Seconds after which another address of the server is tried, too, where the one before has not answered (RFC 8305)."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""In a header: a line break would be the end of it, and what follows another (RFC 9110, 5.5)."""


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
    """To the server that a URL names. `close` ends them all."""

    def __init__(
        self,
        server: URL,
        *,
        tls: ssl.SSLContext,
        server_hostname: str | None,
        limit: int,
        connect: float,
        kept: float,
    ) -> None:
        """`tls` is used where the URL says https, `server_hostname` where the certificate has another name than the URL.

        `limit`: connections at a time; calls beyond wait for one. `connect`: seconds that one may take. `kept`: seconds for
        which one is kept for the next call.
        """
        host = server.raw_host or ""
        self._address = host, server.port or 0
        self._name = server.host_port_subcomponent or ""
        self._tls = tls if server.scheme == "https" else None
        self._server_hostname = (server_hostname or host).rstrip(".") if self._tls is not None else None
        self._limit = limit
        self._room = asyncio.Semaphore(limit)
        self._connect = connect
        self._kept = kept
        self._open: set[_Connection] = set()
        self._idle: deque[_Connection] = deque()
        """Those that were used last are last."""
        self._sweeping: asyncio.TimerHandle | None = None
        self._expiring: asyncio.Handle | None = None
        self._expires_at = math.inf
        """By the event loop's clock. uvloop's handle does not always know."""
        self._closed = False

    async def call(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes | None, *, timeout: float
    ) -> Answer:
        """Send a request, to its path and query, and wait for the whole answer, `timeout` seconds in all.

        Raises `NotConnected` where nothing was sent, else `ConnectionError`, and `TimeoutError`.
        """
        request = _head(method, target, self._name, tuple(headers.items()))
        request += b"Content-Length: %d\r\n\r\n%b" % (len(body), body) if body is not None else b"\r\n"
        deadline = asyncio.get_running_loop().time() + timeout
        await self._enter(deadline)
        try:
            connection = self._take()
            if connection is None:
                return await self._ask(await self._connected(deadline), request, deadline)
            try:
                return await self._ask(connection, request, deadline)
            except Closed:
                if method not in IDEMPOTENT:
                    raise
            return await self._again(request, deadline)
        finally:
            self._room.release()

    def close(self) -> None:
        """End them all; calls that are under way fail, and so do others from now on."""
        self._closed = True
        for timer in (self._sweeping, self._expiring):
            if timer is not None:
                timer.cancel()
        self._sweeping = self._expiring = None
        self._expires_at = math.inf
        self._idle.clear()
        while self._open:
            self._open.pop().end()

    async def _enter(self, deadline: float) -> None:
        if not self._room.locked():
            await self._room.acquire()  # there is room: it does not wait
            return
        try:
            async with asyncio.timeout_at(deadline):
                await self._room.acquire()
        except TimeoutError as error:
            raise NotConnectedInTime(f"{self._limit} calls to {self._name} are under way") from error

    async def _again(self, request: bytes, deadline: float) -> Answer:
        try:
            connection = await self._connected(deadline)
        except NotConnected as error:  # the first one may have been carried out
            if isinstance(error, TimeoutError):
                raise TimeoutError(str(error)) from error
            raise ConnectionError(str(error)) from error
        return await self._ask(connection, request, deadline)

    async def _ask(self, connection: _Connection, request: bytes, deadline: float) -> Answer:
        try:
            answer = connection.ask(request)
            connection.deadline = deadline
            if deadline < self._expires_at:
                self._expire_at(deadline)
            return await answer
        finally:
            connection.deadline = math.inf
            if connection.reusable:
                self._keep(connection)
            else:
                self._end(connection)

    def _expire_at(self, time: float) -> None:
        """One timer for all calls: to make and to cancel one for each would take a twentieth of a call."""
        if self._expiring is not None:
            self._expiring.cancel()
        self._expires_at = time
        self._expiring = asyncio.get_running_loop().call_at(time, self._expire)

    def _expire(self) -> None:
        """Give up the calls whose time is over."""
        self._expiring, self._expires_at = None, math.inf
        now = asyncio.get_running_loop().time()
        for connection in self._open:
            if connection.deadline <= now:
                connection.give_up()
        left = min((connection.deadline for connection in self._open if connection.deadline > now), default=math.inf)
        if left < math.inf:
            self._expire_at(left)

    async def _connected(self, deadline: float) -> _Connection:
        if self._closed:
            raise NotConnected(f"connections to {self._name} are closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect)):
                addresses = await loop.getaddrinfo(*self._address, type=socket.SOCK_STREAM)
                connected = await start_connection(addresses, happy_eyeballs_delay=NEXT_ADDRESS)
                _, connection = await loop.create_connection(
                    _Connection, sock=connected, ssl=self._tls, server_hostname=self._server_hostname
                )
        except TimeoutError as error:
            raise NotConnectedInTime(f"no connection to {self._name} in time") from error
        except OSError as error:  # `ssl.SSLError` is one
            raise NotConnected(f"Cannot connect to host {self._name}: {error}") from error
        return self._joined(connection)

    def _joined(self, connection: _Connection) -> _Connection:
        if self._closed:
            connection.end()
        self._open.add(connection)
        return connection

    def _take(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable and connection.since + self._kept > monotonic():
                return connection
            self._end(connection)
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.since = monotonic()
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(self._kept, self._sweep)

    def _sweep(self) -> None:
        """End those that nobody has needed for long."""
        while self._idle and self._idle[0].since + self._kept <= monotonic():
            self._end(self._idle.popleft())
        self._sweeping = None
        if self._idle:
            left = self._idle[0].since + self._kept - monotonic()
            self._sweeping = asyncio.get_running_loop().call_later(left, self._sweep)

    def _end(self, connection: _Connection) -> None:
        self._open.discard(connection)
        connection.end()


class _Connection(asyncio.Protocol):
    """One of them: at any time it is asked for one thing."""

    since = 0.0
    """When it was used last, by the monotonic clock."""
    deadline = math.inf
    """When its answer has to be there, by the event loop's clock."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Answer] | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._in_body = False
        self._heard = False
        self._whole = True
        self._to_the_end = False

    @property
    def reusable(self) -> bool:
        """It is there, and has nothing more to say."""
        return self._whole and self._transport is not None and not self._transport.is_closing()

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send this; what comes back. Raises `NotConnected`."""
        if self._transport is None or self._transport.is_closing():
            raise NotConnected("the server has closed the connection at once")
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
        asked, self._answer = self._answer, None  # what is kept does not hold it
        if asked is not None and not asked.done():
            asked.set_result(answer)

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
        except (HttpParserError, HttpParserUpgrade) as error:
            what = "speaks another protocol" if isinstance(error, HttpParserUpgrade) else f"is not HTTP: {error}"
            self._failed(ConnectionError(f"what came {what}"))
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._to_the_end and exc is None:
            self._answered()
            return
        why = f": {exc}" if exc is not None else ""
        if self._heard:
            self._failed(ConnectionError(f"the connection was cut in the middle of an answer{why}"))
        else:
            self._failed(Closed(f"the server has closed the connection{why}"))

    # --- what the parser tells ---

    def on_message_begin(self) -> None:
        """Where nothing more was asked for, it would be taken for the next answer."""
        if self._whole:
            self.end()
        self._in_body = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """See `httptools`. What comes after the body says nothing of it."""
        if not self._in_body:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Where it is not said how long the body is, it goes on until the connection ends (RFC 9112, 6.3)."""
        self._in_body = True
        self._to_the_end = not self._is_preliminary and not any(
            name.lower() == b"content-length" or (name.lower() == b"transfer-encoding" and b"chunked" in value.lower())
            for name, value in self._fields
        )

    def on_body(self, body: bytes) -> None:
        """See `httptools`."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Of what was asked, where it is not some word in between."""
        if self._is_preliminary:
            self._fields = []
            return
        self._to_the_end = False
        self._whole = self._parser.should_keep_alive()
        self._answered()

    @property
    def _is_preliminary(self) -> bool:
        return 100 <= self._parser.get_status_code() < 200


@lru_cache(maxsize=16)
def _head(method: str, target: str, host: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """What begins a request; most of them begin like others."""
    fields = {"Host": host, **dict(headers)}
    for name, value in fields.items():
        if _FORBIDDEN.search(value):
            raise ValueError(f"header {name} has a character that none has")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n").encode()
