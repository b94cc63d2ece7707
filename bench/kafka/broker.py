"""The broker, and the server under test on topics of its own."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import time
from typing import Any, Final

import grpc
import msgspec
from aiokafka import AIOKafkaProducer

from bench.load import SERVICE, payload
from bench.processes import ServerUnderTest
from queue_manager.server.app import kafka_access
from queue_manager.server.settings import load_settings
from queue_manager.v1 import queue_pb2, service_pb2

WORKERS: Final = 5
"""Of a queue: graph builders, which have no data topics."""


def options() -> dict[str, Any]:
    """What a client of the broker is made with."""
    settings = load_settings(Path(os.devnull)).kafka
    if not settings.bootstrap_servers:
        raise SystemExit("KAFKA_BOOTSTRAP_SERVERS must name the broker to measure on")
    return kafka_access(settings).options()


class Queues:
    """Queues of a server, whose workers are nothing but names; `start` starts them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Of the server at the other end."""
        self._start: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/StartQueue")
        self._get: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/GetQueue")
        self._watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"{SERVICE}/WatchQueue")
        self.all: list[queue_pb2.Queue] = []

    async def start(self, count: int) -> None:
        """Start queues, and wait until all of their workers run."""
        builder = next(job for job in payload().requests if job.target == "graph-builder")
        request = service_pb2.StartQueueRequest(symbol="BTCUSDT", requests=[builder] * WORKERS).SerializeToString()
        for _ in range(count):
            self.all.append(service_pb2.StartQueueResponse.FromString(await self._start(request)).queue)
        for queue in self.all[-count:]:
            while (await self.get(queue.queue_id)).state != queue_pb2.QUEUE_STATE_RUNNING:  # noqa: ASYNC110 - not measured
                await asyncio.sleep(0.05)

    async def get(self, queue_id: str) -> queue_pb2.Queue:
        """A queue as it stands."""
        request = service_pb2.GetQueueRequest(queue_id=queue_id).SerializeToString()
        return service_pb2.GetQueueResponse.FromString(await self._get(request)).queue

    def frames(self, queue_id: str) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        """A stream of the queue's frames."""
        return self._watch(service_pb2.WatchQueueRequest(queue_id=queue_id).SerializeToString())

    def telemetry(self, records: int) -> Iterator[tuple[bytes, bytes]]:
        """A message of every worker, with its key: it has written so many records."""
        for queue in self.all:
            for job in queue.jobs:
                message = {
                    "telemetry_id": job.telemetry_id,
                    "queue_id": queue.queue_id,
                    "symbol": queue.symbol,
                    "type": job.type,
                    "status": "loading",
                    "records_written": records,
                    "message": f"{records} nodes and edges written",
                    "finished": False,
                    "timestamp": time(),
                }
                yield queue.queue_id.encode(), msgspec.json.encode(message)


class Bench:
    """A server on topics of its own, which outlive it."""

    def __init__(self, folder: Path) -> None:
        """Its state is in this folder."""
        unique = uuid.uuid4().hex[:8]
        self._folder = folder / unique
        self._folder.mkdir()
        self.control, self.events = f"bench-control-{unique}", f"bench-events-{unique}"
        self._environment: Mapping[str, str] = {
            "QUEUE_CONTROL_TOPIC": self.control,
            "QUEUE_EVENTS_TOPIC": self.events,
            "QM_KAFKA_GROUP": f"bench-{unique}",
        }

    @asynccontextmanager
    async def serving(self, *, reads: bool = True) -> AsyncIterator[tuple[ServerUnderTest, grpc.aio.Channel]]:
        """The server, and a way to it; with `reads`, once it reads."""
        arguments = ("sqlite", str(self._folder), "kafka")
        async with AsyncExitStack() as stack:
            server = ServerUnderTest("bench.manager", *arguments, environment=self._environment)
            await stack.enter_async_context(server)
            if reads:
                await server.ask("read")
            yield server, await stack.enter_async_context(grpc.aio.insecure_channel(server.address))


async def produce(topic: str, messages: Iterator[tuple[bytes, bytes]]) -> None:
    """Put all of these on a topic."""
    async with AIOKafkaProducer(**options(), linger_ms=20, max_batch_size=2**18) as producer:
        sent: list[asyncio.Future[Any]] = []
        for key, value in messages:
            sent.append(await producer.send(topic, value, key))
        await asyncio.gather(*sent)
