"""`queue-manager serve` on a real broker, with workers in processes of their own that speak Kafka: the worker kit's.

KAFKA_SASL_BOOTSTRAP_SERVERS, KAFKA_USER, KAFKA_PASSWORD and CA_PATH lead there over SASL_SSL; where they are not set,
KAFKA_BOOTSTRAP_SERVERS does in plain text.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess

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


@pytest.fixture
def topics() -> dict[str, str]:
    """Topics of a test's own."""
    unique = uuid.uuid4().hex[:8]
    return {
        "QUEUE_CONTROL_TOPIC": f"control-{unique}",
        "QUEUE_EVENTS_TOPIC": f"events-{unique}",
        "QM_KAFKA_GROUP": f"qm-{unique}",
        "QM_KAFKA_PARTITIONS": "3",
    }


@pytest.fixture
async def server(tmp_path: Path, topics: dict[str, str]) -> AsyncIterator[ServerProcess]:
    """A server whose bus is the broker."""
    async with ServerProcess(tmp_path, **access(), **topics) as opened:
        yield opened


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    """A client of it, once it can hear its workers."""
    async with AsyncClient(server.address, timeout=60) as opened:
        await server.serving()
        yield opened


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
