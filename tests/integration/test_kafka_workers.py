"""Workers of one queue share a consumer group: each hears a stop, and none that was meant for an earlier attempt."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from msgspec.structs import replace

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.application.ports import Message, WorkerCommand
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import Queue
from tests.contract.test_bus import named, queue_of
from tests.integration.test_kafka_server import PLAIN, own_topics
from tests.support.local_workers import WallClock

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(180),
]

WORKERS = 3
RESEND = 1.0
"""Seconds between two stops; the server takes 5."""

PROGRAM = """
import asyncio
from queue_manager.worker import Worker, run

async def work(worker: Worker) -> None:
    await asyncio.sleep(600)

run(work)
"""


class Nobody:
    """Who subscribes and does nothing."""

    async def telemetry(self, messages: list[Message]) -> None:
        """Nothing."""

    commands = telemetry


@asynccontextmanager
async def opened(topics: dict[str, str], partitions: int) -> AsyncIterator[KafkaBus]:
    """A bus, once it can be used."""
    chosen = Topics(control=topics["QUEUE_CONTROL_TOPIC"], events=topics["QUEUE_EVENTS_TOPIC"], partitions=partitions)
    access, rng = Access(bootstrap_servers=PLAIN), Random(1)
    async with KafkaBus(access, chosen, group=topics["QM_KAFKA_GROUP"], clock=WallClock(), rng=rng) as bus:
        bus.subscribe(Nobody())  # type: ignore[arg-type]
        async with asyncio.timeout(30):
            while True:
                try:
                    await bus.check()
                except Unavailable:
                    await asyncio.sleep(0.1)
                else:
                    break
        yield bus


async def prepared(bus: KafkaBus, queue: Queue) -> None:
    """Prepare, again and again, as the server does: a worker that could not leave its group is in it for some seconds."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await bus.prepare(queue)
            except Unavailable:
                await asyncio.sleep(0.5)


class Attempt:
    """Three workers in processes of their own, and what they say."""

    def __init__(self, topics: dict[str, str], queue: Queue) -> None:
        self._topics = topics
        self._queue = queue
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    async def __aenter__(self) -> Attempt:
        """Start them."""
        for number in range(WORKERS):
            name = f"worker-{number}__{self._queue.queue_id[-6:]}"
            self._processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM),
                env={
                    **os.environ,
                    **self._topics,
                    "KAFKA_BOOTSTRAP_SERVERS": PLAIN,
                    "KAFKA_USER": "",
                    "CA_PATH": "",
                    "QUEUE_ID": self._queue.queue_id,
                    "TELEMETRY_PRODUCER_ID": name,
                    "SYMBOL": "BTCUSDT",
                    "TYPE": "run",
                },
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        return self

    async def __aexit__(self, *_: object) -> None:
        """None is left."""
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    @property
    def running(self) -> int:
        """How many there are."""
        return sum(process.returncode is None for process in self._processes.values())

    async def answer(self, bus: KafkaBus, count: int) -> None:
        """Ping until so many of those that run have answered twice: these have heard all that was said before, and go on.

        The second answer is to a ping that was sent after the first: by then one that had been told to stop is gone.
        """
        first: dict[str, float] = {}
        again: set[str] = set()
        events = AIOKafkaConsumer(self._topics["QUEUE_EVENTS_TOPIC"], bootstrap_servers=PLAIN)
        async with asyncio.timeout(90), events:
            await events.seek_to_end()
            while len(again) < min(count, self.running):
                await bus.send(WorkerCommand(self._queue.queue_id, "ping"))
                for records in (await events.getmany(timeout_ms=1000)).values():
                    said: list[dict[str, Any]] = [json.loads(record.value) for record in records]
                    for pong in (each for each in said if each.get("event") == "pong"):
                        if pong["ping_ts"] > first.setdefault(pong["telemetry_id"], pong["ponged_at"]):
                            again.add(pong["telemetry_id"])

    async def stop(self, bus: KafkaBus) -> set[int | None]:
        """Tell them to stop, again and again, as the server does; their exit codes."""
        async with asyncio.timeout(90):
            while self.running:
                await bus.send(WorkerCommand(self._queue.queue_id, "stop"))
                ending = [asyncio.create_task(process.wait()) for process in self._processes.values()]
                await asyncio.wait(ending, timeout=RESEND)
                for task in ending:
                    task.cancel()
        return {process.returncode for process in self._processes.values()}


@pytest.mark.parametrize("partitions", [3, 1])
async def test_all_hear_the_stop_and_a_second_attempt_none_that_was_left_over(partitions: int) -> None:
    """On one partition only one worker at a time hears anything, so stops are repeated, and some are left in the end."""
    topics = own_topics()
    whole = queue_of(f"wf-{topics['QM_KAFKA_GROUP']}")
    queue = replace(whole, jobs=(named(whole, "trainer-train"),))
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(opened(topics, partitions))
        await prepared(bus, queue)
        async with Attempt(topics, queue) as first:
            if partitions >= WORKERS:  # else two of them hear nothing as long as the third is there
                await first.answer(bus, WORKERS)
            assert await first.stop(bus) == {0}
        for _ in range(5):
            await bus.send(WorkerCommand(queue.queue_id, "stop"))
        await prepared(bus, queue)
        async with Attempt(topics, queue) as second:
            await _said_that_they_started(topics, 2 * WORKERS)
            await second.answer(bus, min(partitions, WORKERS))  # a stop that was left over stands before their pings
            assert second.running == WORKERS
            assert await second.stop(bus) == {0}


async def _said_that_they_started(topics: dict[str, str], count: int) -> None:
    """Wait until workers have said so that often, from the start of the topic; each says it once."""
    events = AIOKafkaConsumer(topics["QUEUE_EVENTS_TOPIC"], bootstrap_servers=PLAIN, auto_offset_reset="earliest")
    async with asyncio.timeout(60), events:
        async for record in events:
            count -= json.loads(record.value).get("status") == "started"
            if not count:
                return
