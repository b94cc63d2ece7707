"""The callers of the benchmark: what they send is understood, and a call that fails is seen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from bench.kubernetes.callers import calling

Context = grpc.aio.ServicerContext[Any, Any]


@pytest.fixture
async def heard() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server's address, and what it was sent. It refuses what is empty."""
    messages: list[bytes] = []

    async def answer(message: bytes, context: Context) -> bytes:
        messages.append(message)
        if not message:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "empty")
        return message * 1000

    server = grpc.aio.server()
    methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {"Take": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Taker", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}", messages
    await server.stop(0)


async def test_all_calls_are_made_and_answered_again_and_again(heard: tuple[str, list[bytes]]) -> None:
    """More is answered than a window of HTTP/2 holds at first."""
    address, messages = heard
    async with calling(address) as callers:
        for _ in range(3):
            await callers.prepare("/test.Taker/Take", b"twelve bytes", 40)
            await callers.send()
            await callers.answered()
    assert messages == [b"twelve bytes"] * 120


async def test_calls_that_fail_are_counted(heard: tuple[str, list[bytes]]) -> None:
    """Whether the server has begun to answer or not; and the callers go on after that."""
    address, _ = heard
    async with calling(address) as callers:
        for method, message in (("/test.Taker/Take", b""), ("/test.Taker/Unknown", b"x")):
            await callers.prepare(method, message, 3)
            await callers.send()
            with pytest.raises(RuntimeError, match="3 calls have failed"):
                await callers.answered()
        await callers.prepare("/test.Taker/Take", b"x", 1)
        await callers.send()
        await callers.answered()
