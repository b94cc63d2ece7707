"""The yardstick: a bare `grpc.aio` service that does as little as such a service can.

`Echo` answers fixed bytes. `Watch` is a coalescing fan-out: a stream is sent the newest frame of its topic whenever that
is not the one it had, so a slow reader skips frames. No metrics, no errors, no store. Frames are `WatchQueueResponse`s,
so that the client that reads them is the same.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import grpc

from bench.control import feed, obey, run
from queue_manager.v1 import service_pb2

SERVICE = "bench.Bare"
Context = grpc.aio.ServicerContext[Any, Any]


class Topic:
    """What is watched: its newest frame."""

    def __init__(self, body: bytes) -> None:
        """`body`: what follows the head in every frame."""
        self.revision = 0
        self.frame = b""
        self.changed = asyncio.Event()
        self._body = body
        self.change()

    def change(self) -> None:
        """The next revision."""
        self.revision += 1
        head = service_pb2.WatchQueueResponse(kind=service_pb2.FRAME_KIND_UPDATE, revision=self.revision)
        self.frame = head.SerializeToString() + self._body
        self.changed.set()
        self.changed = asyncio.Event()


class Bare:
    """The service and what the driver can have it do."""

    def __init__(self) -> None:
        """Nothing to answer yet."""
        self._answer = b""
        self._topics: dict[str, Topic] = {}

    async def echo(self, _request: bytes, _context: Context) -> bytes:
        """The fixed bytes."""
        return self._answer

    async def watch(self, request: bytes, _context: Context) -> AsyncIterator[bytes]:
        """The newest frame, whenever it is another one."""
        topic, seen = self._topics[service_pb2.WatchQueueRequest.FromString(request).queue_id], 0
        while True:
            if topic.revision == seen:
                await topic.changed.wait()
            seen = topic.revision
            yield topic.frame

    async def answer(self, body: str) -> None:
        """Echo answers these bytes (base64) from now on."""
        self._answer = base64.b64decode(body)

    async def topics(self, count: int, body: str) -> list[str]:
        """Make topics whose frames end in these bytes (base64). Answers their names."""
        raw = base64.b64decode(body)
        self._topics = {f"topic-{number}": Topic(raw) for number in range(count)}
        return list(self._topics)

    async def prepare(self, count: int) -> None:
        """Nothing: a change is a number and some fixed bytes."""

    async def feed(self, rate: float, seconds: float) -> dict[str, Any]:
        """Change the topics in turn."""
        topics, times = list(self._topics.items()), []

        async def change(number: int) -> None:
            name, topic = topics[number % len(topics)]
            topic.change()
            times.append((name, topic.revision, monotonic()))

        return {**await feed(change, rate=rate, seconds=seconds), "times": times}


async def serve() -> None:
    """Serve until standard input ends."""
    bare = Bare()
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handlers: dict[str, Any] = {
        "Echo": grpc.unary_unary_rpc_method_handler(bare.echo),
        "Watch": grpc.unary_stream_rpc_method_handler(bare.watch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    await obey(port, {"answer": bare.answer, "topics": bare.topics, "prepare": bare.prepare, "feed": bare.feed})
    await server.stop(0)


if __name__ == "__main__":
    run(serve)
