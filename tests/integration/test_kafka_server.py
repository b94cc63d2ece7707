"""`queue-manager serve` on a real broker, with workers in processes of their own that speak Kafka: the worker kit's.

KAFKA_SASL_BOOTSTRAP_SERVERS, KAFKA_USER, KAFKA_PASSWORD and CA_PATH lead there over SASL_SSL; where they are not set,
KAFKA_BOOTSTRAP_SERVERS does in plain text.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from queue_manager.client import AsyncClient
from queue_manager.server.domain.telemetry import is_own
from queue_manager.server.probe import probe
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess
from tests.support.event_schema import fault

ROOT = Path(__file__).resolve().parents[2]
PLAIN = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
SECURE = os.environ.get("KAFKA_SASL_BOOTSTRAP_SERVERS", "")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(180),
]


def access() -> dict[str, str]:
    """The variables that lead to the broker."""
    if not SECURE:
        return {"KAFKA_BOOTSTRAP_SERVERS": PLAIN}
    credentials = {name: os.environ[name] for name in ("KAFKA_USER", "KAFKA_PASSWORD", "CA_PATH")}
    return {"KAFKA_BOOTSTRAP_SERVERS": SECURE, **credentials}


def own_topics() -> dict[str, str]:
    """Topics of a test's own."""
    unique = uuid.uuid4().hex[:8]
    return {
        "QUEUE_CONTROL_TOPIC": f"control-{unique}",
        "QUEUE_EVENTS_TOPIC": f"events-{unique}",
        "QM_KAFKA_GROUP": f"qm-{unique}",
        "QM_KAFKA_PARTITIONS": "3",
    }


@pytest.fixture
async def topics() -> AsyncIterator[dict[str, str]]:
    """Topics of a test's own. Every event that the server has put there keeps to docs/events.schema.json."""
    made = own_topics()
    yield made
    values = [record.value for record in await read_all(made["QUEUE_EVENTS_TOPIC"]) if record.value]
    own = [json.loads(value) for value in values if is_own(value)]
    assert own, "the server has said nothing"
    faults = [found for event in own if (found := fault(event))]
    assert not faults, f"{len(faults)} of {len(own)} events: {faults[0]}"


@pytest.fixture
async def server(tmp_path: Path, topics: dict[str, str]) -> AsyncIterator[ServerProcess]:
    """A server whose bus is the broker."""
    async with ServerProcess(tmp_path, **access(), **topics) as opened:
        yield opened


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    """A client of it, once it can hear its workers."""
    async with AsyncClient(server.address, timeout=60) as opened:
        await until_ready(server)
        yield opened


async def until_ready(server: ServerProcess) -> None:
    """Wait until it reads its topics. Before that somebody else may make them, with as many partitions as brokers like."""
    said: tuple[bool, str] = False, "nothing"
    try:
        async with asyncio.timeout(45):
            while not said[0]:
                said = await asyncio.to_thread(probe, server.address, "readiness", timeout=3.0)
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"it is not ready; it says: {said[1]}")


def payload(name: str) -> dict[str, Any]:
    """One of the examples."""
    loaded: dict[str, Any] = json.loads((ROOT / "examples" / f"{name}-pipeline.json").read_text())
    return loaded


async def replayed(topics: dict[str, str], queue_id: str, until: str) -> dict[str, str]:
    """The states of its jobs that somebody arrives at who reads only the events, once the queue's is `until`."""
    jobs: dict[str, str] = {}
    seen: set[str] = set()
    revision, state = 0, ""
    topic = topics["QUEUE_EVENTS_TOPIC"]
    reading = AIOKafkaConsumer(topic, bootstrap_servers=PLAIN, auto_offset_reset="earliest")
    async with asyncio.timeout(30), reading as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while state != until or any([await consumer.position(tp) < end for tp, end in ends.items()]):
            polled = await consumer.getmany(timeout_ms=500)
            ends = await consumer.end_offsets(consumer.assignment())
            for record in (record for records in polled.values() for record in records):
                event = json.loads(record.value)
                if event.get("producer") != "queue-manager" or event["queue_id"] != queue_id:
                    continue
                if event["event_id"] in seen:
                    continue
                seen.add(event["event_id"])
                assert record.key == queue_id.encode()
                assert event["revision"] >= revision, "events of a queue are out of order"
                revision = event["revision"]
                if "job" in event:
                    jobs[event["job"]] = event["status"]
                else:
                    state = event["status"]
    return jobs


async def test_the_historical_pipeline_finishes_and_its_events_say_so(
    client: AsyncClient, server: ServerProcess, topics: dict[str, str]
) -> None:
    """Telemetry of every job has arrived; what drains is ended because its group has no lag; nobody reports too little."""
    queue_id = (await client.start_queue(payload("historical"))).queue.queue_id
    async for frame in client.watch(queue_id):
        last = frame.queue
    assert last.state == queue_pb2.QUEUE_STATE_FINISHED, last
    assert {job.state for job in last.jobs} == {queue_pb2.JOB_STATE_FINISHED}
    loaded = {job.kafka_topic: job.records_written for job in last.jobs if job.target == "loader-producer"}
    saved = {job.kafka_topic: job.records_written for job in last.jobs if job.target == "arango-connector"}
    assert loaded == saved
    assert {job.state_reason.code for job in last.jobs} <= {0, queue_pb2.REASON_DRAINED}
    assert await server.terminate() == 0
    jobs = await replayed(topics, queue_id, "finished")
    assert jobs == {job.name: "finished" for job in last.jobs}


async def test_the_realtime_pipeline_runs_until_a_stop_that_each_of_its_workers_hears(
    client: AsyncClient, topics: dict[str, str]
) -> None:
    """They share one consumer group, and end by themselves before the deadline that would delete them."""
    queue_id = (await client.start_queue(payload("realtime"))).queue.queue_id

    async for frame in client.watch(queue_id):
        if all(job.records_written for job in frame.queue.jobs):
            break
    began = asyncio.get_running_loop().time()
    stopped = await client.stop_queue(queue_id, grace_period=60, wait=True, timeout=90)
    assert asyncio.get_running_loop().time() < began + 50
    assert stopped.state == queue_pb2.QUEUE_STATE_STOPPED
    assert {job.exit_code for job in stopped.jobs} == {0}
    assert set((await replayed(topics, queue_id, "stopped")).values()) == {"stopped"}


class Console:
    """Somebody who has nothing but a console producer and a console consumer."""

    def __init__(self, topics: dict[str, str], **options: Any) -> None:
        """`options`: of the producer."""
        self._topics = topics
        self._options = {"bootstrap_servers": PLAIN, **options}
        self.events: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        """Follow the events from the start."""
        options = {"bootstrap_servers": PLAIN, "auto_offset_reset": "earliest"}
        self._producer = AIOKafkaProducer(**self._options)
        self._consumer = AIOKafkaConsumer(self._topics["QUEUE_EVENTS_TOPIC"], **options)
        await self._producer.start()
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave."""
        await self._producer.stop()
        await self._consumer.stop()

    async def say(
        self, value: bytes | None, *, topic: str = "QUEUE_CONTROL_TOPIC", partition: int | None = None
    ) -> None:
        """Write a record."""
        key = b"somebody" if value is None else None
        await self._producer.send_and_wait(self._topics[topic], value, key=key, partition=partition)

    async def until(self, heard: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Read on until the manager says something that is so."""
        async with asyncio.timeout(60):
            while True:
                record = await self._consumer.getone()
                with suppress(ValueError, TypeError, RecursionError):
                    event = json.loads(record.value)
                    if isinstance(event, dict) and event.get("producer") == "queue-manager":
                        self.events.append(event)
                        if heard(event):
                            return event


async def test_a_queue_is_started_followed_and_stopped_by_messages_alone(
    server: ServerProcess, topics: dict[str, str]
) -> None:
    """With what a console producer writes and a console consumer reads."""
    await until_ready(server)
    async with Console(topics) as console:
        await console.say(json.dumps({"command": "start", "symbol": "?", "requests": []}).encode())
        rejected = await console.until(lambda event: event.get("command") == "start")
        assert rejected["event"] == "command_rejected"
        assert {violation["field"] for violation in rejected["violations"]} >= {"symbol"}
        await console.say(json.dumps({"command": "start", **payload("realtime")}).encode())
        accepted = await console.until(lambda event: event["event"] == "command_accepted")
        queue_id = accepted["queue_id"]
        running: set[str] = set()
        while len(running) < 7:
            event = await console.until(lambda event: event.get("status") == "running" and "job" in event)
            assert event["queue_id"] == queue_id
            running.add(event["job"])
        await console.say(json.dumps({"command": "stop", "queue_id": queue_id, "reason": "seen enough"}).encode())
        ended = await console.until(lambda event: event["status"] == "stopped" and "job" not in event)
    assert ended["queue_id"] == queue_id
    started = [event for event in console.events if event.get("created")]
    assert len(started) == 1


POISON = (b"\xff\xfe", b"no json", b"[1, 2]", b"x" * 900_000, b"[" * 50_000, b'{"queue_id": 5, "status": []}', b"")


async def test_poison_on_every_partition_stops_nobody_and_is_kept(
    server: ServerProcess, topics: dict[str, str]
) -> None:
    """Not UTF-8, not JSON, no object, large, nested deeply, wrong types, null; on both topics."""
    await until_ready(server)
    async with Console(topics) as console:
        for topic in ("QUEUE_CONTROL_TOPIC", "QUEUE_EVENTS_TOPIC"):
            for partition in range(3):
                for value in (*POISON, None):
                    await console.say(value, topic=topic, partition=partition)
        await console.say(json.dumps({"command": "start", **payload("historical")}).encode())
        finished = await console.until(lambda event: event["status"] == "finished" and "job" not in event)
        assert finished["event"] != "command_rejected"
    for topic, kinds in (("QUEUE_CONTROL_TOPIC", 7), ("QUEUE_EVENTS_TOPIC", 8)):
        letters = await read_all(f"{topics[topic]}.dlq")
        assert len(letters) == 3 * kinds
        for letter in letters:
            headers = dict(letter.headers)
            assert headers["x-topic"].decode() == topics[topic]
            assert headers["x-error"]
        places = {(dict(letter.headers)["x-partition"], dict(letter.headers)["x-offset"]) for letter in letters}
        assert len(places) == len(letters)


async def test_poison_without_a_topic_to_keep_it_in_stops_nobody(tmp_path: Path, topics: dict[str, str]) -> None:
    """Where the server may make none, and nobody has: doctor says so, and it is lost."""
    admin = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
    await admin.start()
    await admin.create_topics([NewTopic(topics[name], 3, 1) for name in ("QUEUE_CONTROL_TOPIC", "QUEUE_EVENTS_TOPIC")])
    await admin.close()
    variables = {**access(), **topics, "QM_KAFKA_CREATE_TOPICS": "false"}
    async with ServerProcess(tmp_path, **variables) as server, Console(topics) as console:
        for topic in ("QUEUE_CONTROL_TOPIC", "QUEUE_EVENTS_TOPIC"):
            for partition in range(3):
                await console.say(b"no json", topic=topic, partition=partition)
        await console.say(json.dumps({"command": "start", **payload("historical")}).encode())
        await console.until(lambda event: event["status"] == "finished" and "job" not in event)
        async with AsyncClient(server.address) as client:
            (found,) = [each for each in (await client.diagnose()).findings if "nobody can read" in each.message]
        assert f"{topics['QUEUE_EVENTS_TOPIC']}.dlq" in found.subjects
        lost = [line for line in server.log if line["event"] == "a message cannot be read, nor be kept"]
        assert len(lost) == 6


async def test_what_is_larger_than_topics_take_by_default_stops_nobody(tmp_path: Path, topics: dict[str, str]) -> None:
    """Its beginning is kept, and how large it was."""
    admin = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
    await admin.start()
    large, size = {"max.message.bytes": str(6 * 2**20)}, 5 * 2**20
    names = [topics["QUEUE_CONTROL_TOPIC"], topics["QUEUE_EVENTS_TOPIC"]]
    await admin.create_topics([NewTopic(name, 3, 1, topic_configs=large) for name in names])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=PLAIN, max_request_size=6 * 2**20, max_batch_size=6 * 2**20) as sends:
        for name in names:
            for partition in range(3):
                await sends.send_and_wait(name, b"x" * size, partition=partition)
    async with ServerProcess(tmp_path, **access(), **topics), Console(topics) as console:
        await console.say(json.dumps({"command": "start", **payload("historical")}).encode())
        await console.until(lambda event: event["status"] == "finished" and "job" not in event)
    for name in names:
        letters = await read_all(f"{name}.dlq")
        assert [dict(letter.headers)["x-size"].decode() for letter in letters] == [str(size)] * 3
        assert all(0 < len(letter.value) < 2**20 for letter in letters)


async def read_all(topic: str) -> list[Any]:
    """Every record of a topic."""
    found: list[Any] = []
    async with AIOKafkaConsumer(topic, bootstrap_servers=PLAIN, auto_offset_reset="earliest") as consumer:
        while not consumer.assignment():  # noqa: ASYNC110 - the topic may have been made just now
            await asyncio.sleep(0.05)
        ends = await consumer.end_offsets(consumer.assignment())
        while len(found) < sum(ends.values()):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += records
    return found
