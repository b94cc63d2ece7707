"""The connection to the server is closed, and there are calls: each is told that the gateway is shutting down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import Any

import grpc
import pytest

from queue_manager.gateway import health
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoint, Endpoints
from queue_manager.gateway.metrics import Metrics
from queue_manager.gateway.status import Failed
from queue_manager.gateway.streaming import Streams
from queue_manager.gateway.upstream import SHUTTING_DOWN, Upstream
from queue_manager.gateway.watching import Watches

CONTRACT = Contract.load()
ENDPOINT: Endpoint = Endpoints(CONTRACT, Encoder(CONTRACT.pool)).find("GET", "/v1/queues/q:watch")[0]

Call = Callable[[Upstream], Awaitable[object]]


async def unary(upstream: Upstream) -> object:
    """A call that is answered once."""
    return await upstream.unary("/p.S/M", b"", (), 60.0)


async def watch(upstream: Upstream) -> object:
    """A watch, which shares a stream."""
    watches = Watches(upstream, Metrics(), Random(1))
    request = ENDPOINT.method.request(queue_id="q")
    try:
        async with aclosing(watches.follow(ENDPOINT.method, ENDPOINT.writer, request, ())) as items:
            return await anext(items)
    finally:
        await watches.close()


async def stream(upstream: Upstream) -> object:
    """A stream that is not shared."""
    streams = Streams(upstream, Watches(upstream, Metrics(), Random(1)))
    async with aclosing(streams._alone(ENDPOINT.method, ENDPOINT.writer, ENDPOINT.method.request(), ())) as items:
        return [item async for item in items]


class Hanging(grpc.GenericRpcHandler):
    """A server that answers nothing."""

    def __init__(self) -> None:
        """Nobody has called yet."""
        self.called = asyncio.Event()

    def service(self, handler_call_details: object) -> grpc.RpcMethodHandler[Any, Any]:
        """Any method."""
        return grpc.unary_stream_rpc_method_handler(self._hang)

    async def _hang(self, _request: bytes, _context: object) -> AsyncIterator[bytes]:
        self.called.set()
        await asyncio.Event().wait()
        yield b""


@pytest.fixture
async def hanging() -> AsyncIterator[tuple[Upstream, Hanging]]:
    """A connection to a server that answers nothing."""
    server, handler = grpc.aio.server(), Hanging()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Upstream(f"127.0.0.1:{port}"), handler
    await server.stop(None)


@pytest.mark.parametrize("call", [unary, watch, stream])
async def test_a_call_that_comes_too_late(call: Call) -> None:
    """It is no misuse of grpc's, and nobody waits."""
    upstream = Upstream("127.0.0.1:1")
    await upstream.close()
    with pytest.raises(Failed) as told:
        await call(upstream)
    assert told.value.status == SHUTTING_DOWN


@pytest.mark.parametrize("call", [unary, watch, stream])
async def test_a_call_that_is_cut(hanging: tuple[Upstream, Hanging], call: Call) -> None:
    """It was cancelled, but not by whoever waits for it."""
    upstream, handler = hanging
    calling = asyncio.ensure_future(call(upstream))
    async with asyncio.timeout(10):
        await handler.called.wait()
        await upstream.close()
        with pytest.raises(Failed) as told:
            await calling
    assert told.value.status == SHUTTING_DOWN


@pytest.mark.parametrize("probe", ["ready", "startup"])
@pytest.mark.parametrize("late", [True, False], ids=["late", "cut"])
async def test_a_probe(hanging: tuple[Upstream, Hanging], probe: str, late: bool) -> None:
    """It is the gateway that is not well; nothing is known of the server."""
    upstream, handler = hanging
    if late:
        await upstream.close()
    looking = asyncio.create_task(health.look(probe, upstream))
    async with asyncio.timeout(10):
        if not late:
            await handler.called.wait()
            await upstream.close()
        well, text = await looking
    part = {"status": "NOT_SERVING", "message": "the gateway is shutting down"}
    assert not well
    assert json.loads(text) == {"status": "NOT_SERVING", "parts": {"gateway": part}}


async def test_who_goes_is_told_nothing(hanging: tuple[Upstream, Hanging]) -> None:
    """Its call is cancelled like any task."""
    upstream, handler = hanging
    calling = asyncio.ensure_future(unary(upstream))
    async with asyncio.timeout(10):
        await handler.called.wait()
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
    await upstream.close()
