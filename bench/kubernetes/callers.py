"""A hundred callers that cost this machine next to nothing, as callers on machines of their own do.

What they send is put into HTTP/2 frames before it is measured, and what they are answered is read afterwards. A hundred
calls of `grpc.aio` take 20 ms of the processors that are measured, which is as long as a server takes to accept them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, cast

from h2.connection import H2Connection
from h2.events import DataReceived, RemoteSettingsChanged, StreamEnded, StreamReset, TrailersReceived
from h2.settings import SettingCodes

WINDOW: Final = 2**24
"""Bytes of answers that a server may send before they are read."""
PATIENCE: Final = 60.0
"""Seconds."""


class Callers(asyncio.Protocol):
    """They share a connection. Made by `calling`."""

    def __init__(self, address: str) -> None:
        """`address` is what the requests are addressed to."""
        self.connected = asyncio.Event()
        self._address = address
        self._http = H2Connection()
        self._transport: asyncio.Transport | None = None
        self._request = b""
        self._unread: list[bytes] = []
        self._reading = True
        self._waiting: set[int] = set()
        self._succeeded = 0
        """Calls, less those that were to be made."""
        self._all_answered = asyncio.Event()

    async def prepare(self, method: str, message: bytes, count: int) -> None:
        """What is to be sent for so many calls of a method with a serialised message."""
        headers = [
            *((":method", "POST"), (":scheme", "http"), (":path", method), (":authority", self._address)),
            *(("content-type", "application/grpc"), ("te", "trailers")),
        ]
        self._all_answered.clear()
        self._succeeded = -count
        for _ in range(count):
            stream = self._http.get_next_available_stream_id()
            self._http.send_headers(stream, headers)
            self._http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message, end_stream=True)
            self._waiting.add(stream)
        self._request = self._http.data_to_send()

    async def send(self) -> None:
        """Make the calls; their answers are left for later."""
        assert self._transport is not None
        self._reading = False
        self._transport.write(self._request)

    async def answered(self) -> None:
        """Once every call is answered. Raises `RuntimeError` where one has failed."""
        self._reading = True
        for data in self._unread:
            self._read(data)
        self._unread.clear()
        async with asyncio.timeout(PATIENCE):
            await self._all_answered.wait()
        if self._succeeded:
            raise RuntimeError(f"{-self._succeeded} calls have failed")

    def _read(self, data: bytes) -> None:
        assert self._transport is not None
        for event in self._http.receive_data(data):
            match event:
                case RemoteSettingsChanged():
                    self.connected.set()
                case DataReceived(flow_controlled_length=length, stream_id=stream):
                    self._http.acknowledge_received_data(length, stream)
                case TrailersReceived(headers=trailers):
                    self._succeeded += (b"grpc-status", b"0") in trailers
                case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                    self._waiting.discard(stream)
                    if not self._waiting:
                        self._all_answered.set()
        self._transport.write(self._http.data_to_send())

    # --- what the transport tells ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._http.initiate_connection()
        self._http.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: WINDOW})
        self._http.increment_flow_control_window(WINDOW)
        self._transport.write(self._http.data_to_send())

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if self._reading:
            self._read(data)
        else:
            self._unread.append(data)


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Callers]:
    """Callers of the server at `HOST:PORT`."""
    host, _, port = address.rpartition(":")
    transport, callers = await asyncio.get_running_loop().create_connection(lambda: Callers(address), host, int(port))
    try:
        async with asyncio.timeout(PATIENCE):
            await callers.connected.wait()
        yield callers
    finally:
        transport.abort()
