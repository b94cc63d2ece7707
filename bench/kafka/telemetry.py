"""Telemetry: many messages that wait in the topic, and messages that come while somebody watches."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from time import monotonic, perf_counter

from aiokafka import AIOKafkaProducer

from bench.control import feed
from bench.figures import Figure, at_least, compared, no_more_than, percentile
from bench.kafka.broker import WORKERS, Bench, Queues, options, produce
from bench.kafka.scale import Scale
from bench.processes import ServerUnderTest
from queue_manager.v1 import service_pb2

WINDOW = 0.2
"""Seconds in which a queue is written once at most."""
WATCHED = 20
"""Queues that are watched while all are told of."""


async def drain(scale: Scale, folder: Path) -> list[Figure]:
    """Telemetry that has gathered while the server was away, beside a consumer that parses the same topic."""
    rates, writes, sizes, most = [], [], [], 0.0
    for _ in range(scale.rounds + 1):
        bench = Bench(folder)
        async with bench.serving() as (_, channel):
            queues = Queues(channel)
            await queues.start(scale.queues)
        times = scale.messages // (scale.queues * WORKERS)
        await produce(bench.events, (each for records in range(1, times + 1) for each in queues.telemetry(records)))
        async with ServerUnderTest("bench.kafka.bare") as bare:
            yardstick = await bare.ask("drain", topic=bench.events)
        async with bench.serving(reads=False) as (server, channel):
            began = server.resident
            await server.ask("read")
            draining = asyncio.create_task(server.ask("drained", count=scale.messages))
            while not draining.done():
                most = max(most, server.resident / 2**20)
                await asyncio.wait({draining}, timeout=0.05)
            found = draining.result()
            left = [job for queue in queues.all[:3] for job in (await Queues(channel).get(queue.queue_id)).jobs]
            assert {job.records_written for job in left} == {times}, "telemetry was lost"
        rates.append((scale.messages / found["seconds"], scale.messages / yardstick))
        writes.append(found["writes"] / scale.queues / max(1.0, found["seconds"] / WINDOW))
        sizes.append(began / 2**20)
    note = f"{scale.messages:,} messages of {scale.queues * WORKERS:,} workers in {scale.queues} queues, until stored"
    return [
        compared("telemetry, waiting", "messages/s", rates[1:], target=at_least(0.25), note=note),
        Figure("store writes a queue in 200 ms", max(writes), "", target=no_more_than(1)),
        Figure("server memory at most", most, "MiB", bare=max(sizes), note="bare: as it begins to read"),
    ]


async def fresh(scale: Scale, folder: Path) -> list[Figure]:
    """From when a message is sent to when a `WatchQueue` frame has it."""
    bench, delays = Bench(folder), []
    sent: dict[tuple[str, str], deque[tuple[int, float]]] = {}
    async with AsyncExitStack() as stack:
        server, channel = await stack.enter_async_context(bench.serving())
        queues = Queues(channel)
        await queues.start(scale.queues)
        watched = queues.all[:: max(1, scale.queues // WATCHED)]
        for queue in watched:
            sent |= {(queue.queue_id, job.name): deque() for job in queue.jobs}

        async def follow(queue_id: str) -> None:
            async for data in queues.frames(queue_id):
                now = monotonic()
                for job in service_pb2.WatchQueueResponse.FromString(data).queue.jobs:
                    waiting = sent[queue_id, job.name]
                    while waiting and waiting[0][0] <= job.records_written:
                        delays.append((now - waiting.popleft()[1]) * 1e3)

        following = [asyncio.create_task(follow(queue.queue_id)) for queue in watched]
        producer = await stack.enter_async_context(AIOKafkaProducer(**options()))
        places = [(queue.queue_id, job.name) for queue in queues.all for job in queue.jobs]
        messages = (each for records in range(1, 10**9) for each in enumerate(queues.telemetry(records)))

        async def say(number: int) -> None:
            place, (key, value) = next(messages)
            if (waiting := sent.get(places[place])) is not None:
                waiting.append((number // len(places) + 1, monotonic()))
            await producer.send(bench.events, value, key)

        cpu = server.cpu
        began = perf_counter()
        await feed(say, rate=scale.rate, seconds=scale.seconds)
        took = perf_counter() - began
        cpu = server.cpu - cpu
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                while any(sent.values()):  # noqa: ASYNC110 - what is waited for comes over streams
                    await asyncio.sleep(0.05)
        assert not any(sent.values()), "telemetry did not reach its watcher"
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
    note = f"{scale.rate:,} messages a second of {len(places):,} workers; {len(watched)} of their queues are watched"
    return [
        Figure("telemetry → frame, p50", percentile(delays, 50), "ms", target=no_more_than(300), note=note),
        Figure("telemetry → frame, p99", percentile(delays, 99), "ms"),
        Figure("server CPU meanwhile", cpu / took * 100, "%", note="of one core"),
    ]
