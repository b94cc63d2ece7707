"""What every `Bus` does: each sentence of the port's docstrings, on each adapter.

A rig knows one adapter, and plays everybody at its other end: workers that say something and hear commands, loaders and
consumer groups at the data topics, and whoever follows the manager's events.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from queue_manager.server.adapters.inprocess.bus import EventListener, InProcessBus
from queue_manager.server.adapters.inprocess.topics import DataTopic
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.application.ports import Bus, Message, Publication, WorkerCommand
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import (
    Job,
    JobName,
    JobSpec,
    JobStatus,
    Lifetime,
    Queue,
    QueueId,
    QueueSpec,
    QueueStatus,
    Reads,
)
from tests.support.local_workers import PATIENCE, WallClock, until


class Rig(Protocol):
    """One adapter, and what is at its other end."""

    queue_id: str
    """Of a queue of the test's own. Topics of its data begin with it."""

    def open(self) -> AbstractAsyncContextManager[Bus]:
        """The bus. Nothing has been written yet."""

    async def say(self, *messages: bytes) -> None:
        """Workers send telemetry."""

    async def commands(self, queue_id: str, count: int) -> list[dict[str, object]]:
        """The first commands that a queue's workers have heard, once there are so many."""

    async def events(self, count: int) -> list[Publication]:
        """The first events that somebody who follows from the start has heard, once there are so many."""

    async def load(self, topic: str, *batches: int) -> None:
        """A loader writes batches of records."""

    async def consume(self, topic: str, group: str) -> int:
        """A consumer reads all there is from where its group has got to, and commits. Answers the records."""


class Workers:
    """What offers `CommandSink`, and remembers."""

    def __init__(self) -> None:
        self.lines: dict[str, list[bytes]] = {}

    def write(self, queue_id: str, line: bytes) -> int:
        """See `CommandSink`."""
        self.lines.setdefault(queue_id, []).append(line)
        return 1


class InProcessRig:
    """The embedded bus."""

    queue_id = "wf-a"

    def __init__(self, folder: Path) -> None:
        self._data_dir = folder
        self._bus = InProcessBus(folder, clock=WallClock())
        self._workers = Workers()
        self._bus.attach(self._workers)
        self._listener: EventListener
        self._position = 0

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bus]:
        """See `Rig`."""
        self._listener = self._bus.listen()
        async with self._bus:
            yield self._bus

    async def say(self, *messages: bytes) -> None:
        """See `Rig`."""
        self._position += len(messages)
        self._bus.deliver([Message(value, 1.0, "local/w", self._position) for value in messages])

    async def commands(self, queue_id: str, count: int) -> list[dict[str, object]]:
        """See `Rig`."""
        lines = self._workers.lines.get(queue_id, [])
        assert len(lines) >= count
        assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
        return [json.loads(line) for line in lines]

    async def events(self, count: int) -> list[Publication]:
        """See `Rig`."""
        async with asyncio.timeout(PATIENCE):
            return [await anext(self._listener) for _ in range(count)]

    async def load(self, topic: str, *batches: int) -> None:
        """See `Rig`."""
        for batch in batches:
            self._topic(topic).append(batch)

    async def consume(self, topic: str, group: str) -> int:
        """See `Rig`."""
        count, offset = self._topic(topic).read(self._topic(topic).committed(group))
        self._topic(topic).commit(group, offset)
        return count

    def _topic(self, name: str) -> DataTopic:
        return DataTopic(f"{self._data_dir}/topics", name)


class KafkaRig:
    """The real broker that KAFKA_BOOTSTRAP_SERVERS names; clients of the library are at the other end."""

    def __init__(self, folder: Path) -> None:
        del folder
        self._servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        unique = uuid.uuid4().hex[:8]
        self._topics = Topics(control=f"control-{unique}", events=f"events-{unique}", partitions=3, data_partitions=2)
        self._group = f"qm-{unique}"
        self.queue_id = f"wf-{unique}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Bus]:
        """See `Rig`."""
        bus = KafkaBus(
            Access(bootstrap_servers=self._servers), self._topics, group=self._group, clock=WallClock(), rng=Random(1)
        )
        async with bus, self._producer():
            await until(lambda: not bus.problem, within=60)
            yield bus
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        ours = (self._topics.control, self._topics.events, self.queue_id)
        await admin.delete_topics([name for name in await admin.list_topics() if name.startswith(ours)])
        await admin.close()

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[None]:
        self._sends = AIOKafkaProducer(bootstrap_servers=self._servers)
        async with self._sends:
            yield

    async def say(self, *messages: bytes) -> None:
        """See `Rig`. One worker, whose messages have a key."""
        for message in messages:
            await self._sends.send_and_wait(self._topics.events, message, key=b"worker")

    async def commands(self, queue_id: str, count: int) -> list[dict[str, object]]:
        """See `Rig`. As a worker that has a group of its own and every partition; a stop comes once on each."""
        found: list[dict[str, object]] = []
        async for record in self._followed(self._topics.control):
            command = json.loads(record.value)
            if command["queue_id"] == queue_id and command not in found:
                found.append(command)
            if len(found) == count:
                break
        return sorted(found, key=lambda command: ["start", "ping", "stop"].index(str(command["command"])))

    async def events(self, count: int) -> list[Publication]:
        """See `Rig`."""
        found: list[Publication] = []
        async for record in self._followed(self._topics.events):
            number = len(found)
            found.append(Publication(f"e{number}", record.key.decode(), json.loads(record.value)))
            if len(found) == count:
                break
        return found

    async def load(self, topic: str, *batches: int) -> None:
        """See `Rig`."""
        for batch in batches:
            await asyncio.gather(*[await self._sends.send(topic, b"{}") for _ in range(batch)])

    async def consume(self, topic: str, group: str) -> int:
        """See `Rig`. Alone in its group, at the latest once the member before it counts as gone."""
        reading = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self._servers,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        count = 0
        async with asyncio.timeout(60), reading as consumer:
            await until(lambda: {tp.partition for tp in consumer.assignment()} == consumer.partitions_for_topic(topic))
            ends = await consumer.end_offsets(consumer.assignment())
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                polled = await consumer.getmany(timeout_ms=500)
                count += sum(map(len, polled.values()))
            await consumer.commit()
        return count

    async def _followed(self, topic: str) -> AsyncIterator[Any]:
        async with (
            asyncio.timeout(PATIENCE),
            AIOKafkaConsumer(topic, bootstrap_servers=self._servers, auto_offset_reset="earliest") as consumer,
        ):
            async for record in consumer:
                yield record


needs_broker = pytest.mark.skipif(
    not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), reason="KAFKA_BOOTSTRAP_SERVERS names no broker"
)


@pytest.fixture(
    params=[
        pytest.param(InProcessRig, id="in-process"),
        pytest.param(KafkaRig, id="kafka", marks=[pytest.mark.integration, needs_broker]),
    ]
)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    """Each adapter."""
    return request.param(tmp_path)  # type: ignore[no-any-return]


@pytest.fixture
async def bus(rig: Rig) -> AsyncIterator[Bus]:
    """Each adapter, open."""
    async with rig.open() as opened:
        yield opened


class Receiver:
    """Remembers what came, and says when it is stored."""

    def __init__(self, stored: Callable[[], Awaitable[object]] | None = None) -> None:
        self.messages: list[Message] = []
        self.asked: list[Message] = []
        self._stored = stored

    def telemetry(self, messages: Sequence[Message]) -> Awaitable[object]:
        """See `ports.Receiver`."""
        self.messages.extend(messages)
        if self._stored is not None:
            return self._stored()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def commands(self, messages: Sequence[Message]) -> None:
        """See `ports.Receiver`."""
        self.asked.extend(messages)


def job(queue_id: str, target: str, type: str, *, feeds: bool = False, reads: Reads = Reads.NONE) -> Job:  # noqa: A002 - the field's name
    """A job of a queue."""
    return Job(
        spec=JobSpec(
            name=JobName(f"{target}-{type}"),
            target=target,
            type=type,
            telemetry_id=f"{target}__a1b2c3",
            kafka_topic=f"{queue_id}-{type}",
            image="image",
            lifetime=Lifetime.FINITE,
            feeds=feeds,
            reads=reads,
            consumer_group="" if reads is Reads.NONE else f"arango-connector-consumer-{queue_id}",
        ),
        status=JobStatus(create_time=1.0),
    )


def queue_of(queue_id: str) -> Queue:
    """A queue of two loaders, a connector for each, a builder that reads all that they load, and a trainer."""
    feeding = [job(queue_id, "loader", kind, feeds=True) for kind in ("candles", "trades")]
    reading = [job(queue_id, "connector", kind, reads=Reads.OWN) for kind in ("candles", "trades")]
    builder, trainer = job(queue_id, "builder", "graph", reads=Reads.ALL), job(queue_id, "trainer", "train")
    return Queue(
        spec=QueueSpec(queue_id=QueueId(queue_id), symbol="BTCUSDT", create_time=1.0, start_timeout=60.0),
        status=QueueStatus(update_time=1.0),
        jobs=(*feeding, *reading, builder, trainer),
    )


@pytest.fixture
def queue(rig: Rig) -> Queue:
    """A queue of the test's own."""
    return queue_of(rig.queue_id)


def named(queue: Queue, name: str) -> Job:
    """One of its jobs."""
    (found,) = (each for each in queue.jobs if each.spec.name == name)
    return found


# --- telemetry --------------------------------------------------------------------------------------------------------


async def test_what_workers_say_reaches_the_receiver_in_order_at_growing_positions(rig: Rig, bus: Bus) -> None:
    """Byte for byte, whatever it is."""
    receiver = Receiver()
    bus.subscribe(receiver)
    await rig.say(b'{"status":"started"}', b"\xff not JSON")
    await rig.say(b'{"status":"finished"}')
    await until(lambda: len(receiver.messages) == 3)
    assert [one.value for one in receiver.messages] == [
        b'{"status":"started"}',
        b"\xff not JSON",
        b'{"status":"finished"}',
    ]
    positions = [one.position for one in receiver.messages if one.position is not None]
    assert positions == sorted(positions)


@pytest.mark.parametrize("outcome", ["stored", "failed", "never"])
async def test_messages_keep_coming_whatever_becomes_of_their_storing(rig: Rig, bus: Bus, outcome: str) -> None:
    """A store that is down, or slow, ends nothing."""

    async def stored() -> None:
        if outcome == "failed":
            raise Unavailable("the store is down")
        if outcome == "never":
            await asyncio.Event().wait()

    receiver = Receiver(stored)
    bus.subscribe(receiver)
    for number in range(3):
        await rig.say(b'{"n":%d}' % number)
        await asyncio.sleep(0)
    expected = {b'{"n":%d}' % number for number in range(3)}
    await until(lambda: {one.value for one in receiver.messages} == expected)  # some may come again


# --- commands ---------------------------------------------------------------------------------------------------------


async def test_commands_reach_the_queues_workers_as_contracts_section_4_has_them(rig: Rig, bus: Bus) -> None:
    """One JSON object each, with the time that goes with it."""
    await bus.send(WorkerCommand("wf-a", "start", {"target": "loader-producer", "symbol": "BTCUSDT"}))
    await bus.send(WorkerCommand("wf-a", "ping", {"sent_at": 1722500000.123}))
    await bus.send(WorkerCommand("wf-a", "stop"))
    start, ping, stop = await rig.commands("wf-a", 3)
    assert isinstance(start.pop("timestamp"), float)
    assert start == {"command": "start", "queue_id": "wf-a", "target": "loader-producer", "symbol": "BTCUSDT"}
    assert ping == {"command": "ping", "queue_id": "wf-a", "sent_at": 1722500000.123}
    assert isinstance(stop.pop("timestamp"), float)
    assert stop == {"command": "stop", "queue_id": "wf-a"}


async def test_commands_of_one_queue_are_not_heard_by_another(rig: Rig, bus: Bus) -> None:
    """Each names its own."""
    await bus.send(WorkerCommand("wf-a", "stop"))
    await bus.send(WorkerCommand("wf-b", "stop"))
    assert [one["queue_id"] for one in await rig.commands("wf-a", 1)] == ["wf-a"]
    assert [one["queue_id"] for one in await rig.commands("wf-b", 1)] == ["wf-b"]


# --- events -----------------------------------------------------------------------------------------------------------


async def test_events_are_published_in_order(rig: Rig, bus: Bus) -> None:
    """And are safe when the call returns."""
    published = [Publication(f"e{number}", "wf-a", {"revision": number}) for number in range(5)]
    await bus.publish(published[:2])
    await bus.publish([])
    await bus.publish(published[2:])
    assert await rig.events(5) == published


# --- data topics ------------------------------------------------------------------------------------------------------


async def test_a_reader_lags_until_it_has_read_and_committed_all_of_its_topic(rig: Rig, bus: Bus, queue: Queue) -> None:
    """Its own topic, and its own group."""
    connector, other = named(queue, "connector-candles"), named(queue, "connector-trades")
    topic, group = connector.spec.kafka_topic, connector.spec.consumer_group
    await bus.prepare(queue)
    assert await bus.lag(queue, connector) == 0
    await rig.load(topic, 100, 50)
    assert (await bus.lag(queue, connector) or 0) > 0
    assert await bus.lag(queue, other) == 0
    assert await rig.consume(topic, f"another-{group}") == 150
    assert (await bus.lag(queue, connector) or 0) > 0
    assert await rig.consume(topic, group) == 150
    assert await bus.lag(queue, connector) == 0
    await rig.load(topic, 1)
    assert (await bus.lag(queue, connector) or 0) > 0
    assert await rig.consume(topic, group) == 1


async def test_a_reader_of_all_topics_lags_while_any_that_is_fed_has_something_for_it(
    rig: Rig, bus: Bus, queue: Queue
) -> None:
    """Those of the queue's feeding jobs."""
    builder = named(queue, "builder-graph")
    await bus.prepare(queue)
    assert await bus.lag(queue, builder) == 0
    for name in ("loader-candles", "loader-trades"):
        topic = named(queue, name).spec.kafka_topic
        await rig.load(topic, 10)
        assert (await bus.lag(queue, builder) or 0) > 0
        await rig.consume(topic, builder.spec.consumer_group)
        assert await bus.lag(queue, builder) == 0


async def test_a_job_that_reads_nothing_lags_behind_nothing(rig: Rig, bus: Bus, queue: Queue) -> None:
    """Whatever is written."""
    await bus.prepare(queue)
    await rig.load(named(queue, "loader-candles").spec.kafka_topic, 10)
    assert await bus.lag(queue, named(queue, "trainer-train")) == 0


async def test_groups_begin_at_the_start_and_preparing_again_takes_nothing_back(
    rig: Rig, bus: Bus, queue: Queue
) -> None:
    """What was loaded before the reader came is read; a retry's preparation keeps what was written and read."""
    connector = named(queue, "connector-candles")
    topic, group = connector.spec.kafka_topic, connector.spec.consumer_group
    await bus.prepare(queue)
    await rig.load(topic, 7)
    assert await rig.consume(topic, group) == 7
    await rig.load(topic, 5)
    await bus.prepare(queue)
    assert await rig.consume(topic, group) == 5


async def test_a_queue_that_is_deleted_leaves_no_data(rig: Rig, bus: Bus, queue: Queue) -> None:
    """Forgetting is idempotent, and others keep theirs."""
    connector = named(queue, "connector-candles")
    other = f"{rig.queue_id}-of-another"
    await bus.prepare(queue)
    await rig.load(connector.spec.kafka_topic, 10)
    await rig.load(other, 10)
    await bus.forget(queue)
    await bus.forget(queue)
    assert await bus.lag(queue, connector) in (0, None)
    assert await rig.consume(other, f"g-{rig.queue_id}") == 10


async def test_a_bus_that_works_passes_its_check(rig: Rig, bus: Bus) -> None:
    """Nothing is raised, and nothing of it deserves a look: what it has made is as it is wanted."""
    await bus.check()
    assert not await bus.warnings()
