"""A `stop` command on the topic: when its workers have been told, and when the queue is STOPPING."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from bench.figures import Figure, compared, percentile
from bench.kafka.broker import Bench, Queues, options
from bench.kafka.scale import Scale
from queue_manager.server.adapters.kafka.producer import OWN, SOURCE
from queue_manager.v1 import queue_pb2, service_pb2


async def stop(scale: Scale, folder: Path) -> list[Figure]:
    """Queues that are stopped over Kafka, one by one; the yardstick is the command's own way over the broker."""
    bench = Bench(folder)
    told, stopping = [], []
    async with AsyncExitStack() as stack:
        _, channel = await stack.enter_async_context(bench.serving())
        queues = Queues(channel)
        await queues.start(scale.stops)
        producer = await stack.enter_async_context(AIOKafkaProducer(**options()))
        topic = await stack.enter_async_context(AIOKafkaConsumer(bench.control, **options()))
        await topic.seek_to_end()
        for tp in topic.assignment():
            await topic.position(tp)
        for queue in queues.all:
            frames = queues.frames(queue.queue_id)
            await anext(aiter(frames))
            began = monotonic()
            command = {"command": "stop", "queue_id": queue.queue_id}
            state = asyncio.create_task(_until_stopping(frames))
            heard = asyncio.create_task(_hear(topic, queue.queue_id))
            await producer.send(bench.control, msgspec.json.encode(command), queue.queue_id.encode())
            asked, workers = await heard
            stopping.append(((await state - began) * 1e3, (asked - began) * 1e3))
            told.append(((workers - began) * 1e3, (asked - began) * 1e3))
            frames.cancel()
    note = f"{scale.stops} queues one by one; bare: until another consumer has the command itself"
    return [
        _at("stop command → STOPPING, p50", stopping, 50, note),
        _at("stop command → STOPPING, p99", stopping, 99),
        _at("stop command → workers told, p50", told, 50),
        _at("stop command → workers told, p99", told, 99),
    ]


def _at(name: str, found: Sequence[tuple[float, float]], percent: float, note: str = "") -> Figure:
    ours, bare = (percentile(side, percent) for side in zip(*found, strict=True))
    return compared(name, "ms", [(ours, bare)], note=note)


async def _until_stopping(frames: AsyncIterable[bytes]) -> float:
    """When a frame says so."""
    async for data in frames:
        if service_pb2.WatchQueueResponse.FromString(data).queue.state == queue_pb2.QUEUE_STATE_STOPPING:
            return monotonic()
    raise AssertionError("the stream has ended")


async def _hear(topic: AIOKafkaConsumer, queue_id: str) -> tuple[float, float]:
    """When the command, and when the server's own to the workers of this queue, stood in the topic."""
    asked = None
    async for record in topic:
        value = msgspec.json.decode(record.value)
        if value.get("command") != "stop" or value["queue_id"] != queue_id:
            continue
        if (SOURCE, OWN) not in record.headers:
            asked = monotonic()
        elif asked is not None:
            return asked, monotonic()
    raise AssertionError("the topic has ended")
