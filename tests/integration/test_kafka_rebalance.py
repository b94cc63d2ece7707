"""Three servers that share the partitions, and come and go, some by `kill -9`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from contextlib import suppress
from itertools import count
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.test_kafka_server import PLAIN, ROOT, own_topics

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(180),
]

SERVERS = 3
CHANGES = 9
"""How often one of them goes and another comes."""
RATE = 500
"""Messages a second on either topic."""


class Servers:
    """The processes, all of which store in one file."""

    def __init__(self, file: Path, topics: dict[str, str]) -> None:
        self._file = file
        self._environment = {**os.environ, **topics, "KAFKA_BOOTSTRAP_SERVERS": PLAIN}
        self._running: list[asyncio.subprocess.Process] = []
        self._names = count()

    async def come(self) -> None:
        """One more."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.kafka_listener", str(self._file), f"server-{next(self._names)}"),
            cwd=ROOT,
            env=self._environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self._running.append(process)

    async def go(self, rng: Random) -> None:
        """One of them less, by a signal."""
        process = self._running.pop(rng.randrange(len(self._running)))
        process.send_signal(rng.choice([signal.SIGTERM, signal.SIGKILL]))
        await process.wait()

    async def end(self) -> None:
        """All of them."""
        for process in self._running:
            process.kill()
            await process.wait()


async def test_no_message_is_lost_or_known_by_two_names(tmp_path: Path) -> None:
    """Each is stored at least once, and what is stored again is told from what is new by where it stood."""
    topics, file, rng = own_topics(), tmp_path / "stored", Random(5)
    names = (topics["QUEUE_EVENTS_TOPIC"], topics["QUEUE_CONTROL_TOPIC"])
    admin = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
    await admin.start()
    await admin.create_topics([NewTopic(name, 6, 1) for name in names])
    await admin.close()
    servers, sent, over = Servers(file, topics), 0, asyncio.Event()

    async def speak() -> None:
        nonlocal sent
        async with AIOKafkaProducer(bootstrap_servers=PLAIN, linger_ms=5) as producer:
            while not over.is_set():
                for name in names:
                    for number in range(sent, sent + RATE // 10):
                        await producer.send(name, json.dumps(number).encode(), partition=number % 6)
                sent += RATE // 10
                await asyncio.sleep(0.1)

    try:
        for _ in range(SERVERS):
            await servers.come()
        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            for _ in range(CHANGES):
                # A real sleep: when in their work they go is what is tested.
                await asyncio.sleep(rng.uniform(0.5, 3.0))
                await servers.go(rng)
                await servers.come()
            over.set()
        wanted = {(name, number) for name in names for number in range(sent)}
        with suppress(TimeoutError):
            async with asyncio.timeout(90):  # whoever was killed is put out of the group after its session
                while not wanted <= set(_stored(file)):  # noqa: ASYNC110 - other processes
                    await asyncio.sleep(0.5)
    finally:
        await servers.end()
    stored = _stored(file)
    missing = wanted - set(stored)
    assert not missing, (
        f"within 90 s; of {len(wanted)}, by topic and partition: {Counter((name, n % 6) for name, n in missing)}"
    )
    assert set(stored) == wanted
    twice = {message: places for message, places in stored.items() if len(places) > 1}
    assert not twice, f"{len(twice)} messages are known by two names, among them {list(twice.items())[:5]}"
    assert len({place for places in stored.values() for place in places}) == len(wanted)


def _stored(file: Path) -> dict[tuple[str, int], set[tuple[str, int]]]:
    """By topic and message: under which names it was stored."""
    found: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        source, position, value = json.loads(line)
        found.setdefault((source.partition("/")[0], json.loads(value)), set()).add((source, position))
    return found
