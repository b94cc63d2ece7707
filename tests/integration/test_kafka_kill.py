"""`kill -9` of a server at random moments between intake and outbox, while queues start, run and stop over Kafka.

KILLS says how often (default 8; 100 take about five minutes).
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from queue_manager.client import AsyncClient
from queue_manager.server.adapters.sqlite.store import SqliteStore
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.publication import publications
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_server import PLAIN, access, own_topics

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
]

KILLS = int(os.environ.get("KILLS", "8"))
RECORDS = 40
"""What each worker that comes to its end has written: one an epoch."""
QUEUES_AT_ONCE = 6


def start(*, endless: bool) -> dict[str, Any]:
    """A command that starts two trainers, who tell of themselves ten times a second."""
    parameters = {"telemetry_interval": "0.1", "epochs": str(RECORDS)}
    parameters["simulate_duration"] = "600" if endless else "4"
    job = {
        "target": "gnn-trainer",
        "type": "gnn_train",
        "graph_collection": "graph",
        "model_output": "model",
        "parameters": parameters,
    }
    return {"command": "start", "symbol": "BTCUSDT", "requests": [job, job]}


def told(event: dict[str, Any]) -> dict[str, Any]:
    """An event, less what may differ where it is told again: a command may be done again after a crash."""
    differs = {"timestamp", "created"} if "command" in event else set()
    return {name: value for name, value in event.items() if name not in differs}


class Story:
    """Somebody who has only Kafka: starts queues, stops some, and keeps every event that the manager says."""

    def __init__(self, topics: dict[str, str], rng: Random) -> None:
        self._control, self._events = topics["QUEUE_CONTROL_TOPIC"], topics["QUEUE_EVENTS_TOPIC"]
        self._rng = rng
        self._heard = asyncio.Event()
        self.over = False
        self.sent: dict[tuple[int, int], bool] = {}
        """Partition and offset of each `start` → whether its queue is stopped."""
        self.events: dict[str, dict[str, Any]] = {}
        """By id, in the order in which they came first."""

    async def follow(self) -> None:
        """Read the events for ever."""
        options = {"bootstrap_servers": PLAIN, "auto_offset_reset": "earliest", "metadata_max_age_ms": 500}
        async with AIOKafkaConsumer(self._events, **options) as consumer:
            async for record in consumer:
                event = json.loads(record.value)
                if event.get("producer") != "queue-manager":
                    continue
                known = self.events.setdefault(event["event_id"], event)
                assert told(known) == told(event), "the same event is told in two ways"
                self._heard.set()

    async def run(self) -> None:
        """One queue after the other, until it is over and all have ended."""
        async with AIOKafkaProducer(bootstrap_servers=PLAIN) as producer:
            number = 0
            while not self.over:
                running = [asyncio.create_task(self._one(producer, number + i)) for i in range(QUEUES_AT_ONCE)]
                number += QUEUES_AT_ONCE
                await asyncio.gather(*running)

    async def _one(self, producer: AIOKafkaProducer, number: int) -> None:
        await asyncio.sleep(self._rng.uniform(0, 3))
        stopped = self._rng.random() < 0.4
        command = start(endless=stopped)
        if number % 3 == 0:  # a cautious one sends it twice
            command["request_id"] = f"order-{number}"
            await producer.send_and_wait(self._control, json.dumps(command).encode())
        sent = await producer.send_and_wait(self._control, json.dumps(command).encode())
        self.sent[sent.partition, sent.offset] = stopped
        accepted = await self.until(lambda event: self.place(event) == (sent.partition, sent.offset))
        queue_id = accepted["queue_id"]
        if stopped:
            await asyncio.sleep(self._rng.uniform(0, 3))
            stop = {"command": "stop", "queue_id": queue_id, "reason": "enough"}
            await producer.send_and_wait(self._control, json.dumps(stop).encode())
        ended = {"finished", "stopped", "failed"}
        await self.until(
            lambda event: event["queue_id"] == queue_id and "job" not in event and event["status"] in ended
        )

    async def until(self, found: Any) -> dict[str, Any]:
        """Wait until there is such an event."""
        while True:
            self._heard.clear()
            for event in self.events.values():
                if found(event):
                    return event
            await self._heard.wait()

    def place(self, event: dict[str, Any]) -> tuple[int, int] | None:
        """Where the `start` stands that an event accepts."""
        if event["event"] != "command_accepted" or event["command"] != "start":
            return None
        partition, offset, _ = event["command_id"].removeprefix(f"{self._control}:").split(":")
        return int(partition), int(offset)


@pytest.mark.timeout(240 + 6 * KILLS)
async def test_kill_9_between_intake_and_outbox(tmp_path: Path) -> None:
    """No command is lost or done twice, no telemetry is lost, and the events tell what the records say."""
    rng, topics = Random(7), own_topics()
    story = Story(topics, rng)
    server = ServerProcess(tmp_path, **access(), **topics, QM_SWEEP="5")
    async with server, AsyncClient(server.address, timeout=60) as client, asyncio.TaskGroup() as group:
        following = group.create_task(story.follow())
        running = group.create_task(story.run())
        for _ in range(KILLS):
            # Real sleeps: the moment of the kill is what is tested; most are when it has caught up.
            if rng.random() < 0.8:
                await server.serving()
            await asyncio.sleep(rng.uniform(0.0, 2.5))
            await server.kill()
            await server.start(wait=False)
        story.over = True
        await server.serving()
        await asyncio.wait_for(running, 180)
        stored = {queue.queue_id: queue async for queue in client.list_queues(page_size=500)}
        assert await server.terminate() == 0
        await _until_published(story, server.data)
        following.cancel()
    _check_commands(story, stored)
    for queue in stored.values():
        _check_queue(story, queue)


async def _until_published(story: Story, data: Path) -> None:
    """Wait for what is still on its way; every event that there is is one of a record's, and all of these are there."""
    expected: set[str] = set()
    async with SqliteStore(data) as store:
        for queue in await store.list(QueueFilter(), after=None, limit=10_000):
            entries = await store.history(queue.queue_id)
            expected |= {event_id for entry in entries for event_id, _ in publications(queue, entry)}
    async with asyncio.timeout(20):
        await story.until(lambda _: expected <= set(story.events))
    assert {event_id for event_id in story.events if not event_id.startswith("command:")} == expected


def _check_commands(story: Story, stored: dict[str, queue_pb2.Queue]) -> None:
    accepted = [event for event in story.events.values() if story.place(event) is not None]
    queues = {place: event["queue_id"] for event in accepted if (place := story.place(event)) is not None}
    assert set(story.sent) <= set(queues), "a command is lost"
    assert set(stored) == set(queues.values()), "a command was done twice, or without a word"
    assert len({queues[place] for place in story.sent}) == len(story.sent)
    for place, stopped in story.sent.items():
        state = stored[queues[place]].state
        assert state == (queue_pb2.QUEUE_STATE_STOPPED if stopped else queue_pb2.QUEUE_STATE_FINISHED)


def _check_queue(story: Story, queue: queue_pb2.Queue) -> None:
    events = [event for event in story.events.values() if event["queue_id"] == queue.queue_id and "revision" in event]
    revisions = [event["revision"] for event in events]
    assert revisions == sorted(revisions), "events of a queue are out of order"
    state = next(event["status"] for event in reversed(events) if "job" not in event)
    assert f"QUEUE_STATE_{state.upper()}" == queue_pb2.QueueState.Name(queue.state)
    for job in queue.jobs:
        status = next(event["status"] for event in reversed(events) if event.get("job") == job.name)
        assert f"JOB_STATE_{status.upper()}" == queue_pb2.JobState.Name(job.state)
        if queue.state == queue_pb2.QUEUE_STATE_FINISHED:
            assert job.records_written == RECORDS, "telemetry is lost"
            assert job.attempt == 1
