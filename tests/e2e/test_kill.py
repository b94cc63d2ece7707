"""`kill -9` at random moments, 200 times, with real processes: no worker twice, none forgotten, watchers miss nothing."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from queue_manager.client import AsyncClient, Backoff, QueueManagerError
from queue_manager.v1 import queue_pb2, service_pb2
from tests.e2e.server_process import ServerProcess

KILLS = 50
"""In each of the four tests, so that they can run side by side."""
LIVE_QUEUES = 3

TERMINAL = {queue_pb2.QUEUE_STATE_FINISHED, queue_pb2.QUEUE_STATE_FAILED, queue_pb2.QUEUE_STATE_STOPPED}


class Story:
    """Callers who start, watch and stop queues all the while, and remember what they were told."""

    def __init__(self, server: ServerProcess, client: AsyncClient, rng: Random) -> None:
        self.server = server
        self.client = client
        self.rng = rng
        self.acknowledged: list[str] = []
        self.endless: set[str] = set()
        self.final: dict[str, service_pb2.WatchQueueResponse] = {}
        self.over = False

    async def run(self, number: int) -> None:
        """One caller: queue after queue."""
        count = 0
        while not self.over:
            count += 1
            await self.one_queue(f"caller-{number}-{count}")

    async def one_queue(self, request_id: str) -> None:
        """Start a queue, watch it to its end, stop it on the way if it has none."""
        endless = self.rng.random() < 0.4
        queue_id = await self._start(request_id, endless)
        self.acknowledged.append(queue_id)
        if endless:
            self.endless.add(queue_id)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch(queue_id))
            if endless:
                await asyncio.sleep(self.rng.uniform(0, 3))
                await self._stop(queue_id)

    async def _start(self, request_id: str, endless: bool) -> str:
        short = {"simulate_duration": f"{self.rng.uniform(0.1, 3):.2f}", "telemetry_interval": "0.1"}
        kind = "ws_trades" if endless else "api_trades"
        payload = {
            "symbol": "BTCUSDT",
            "time_range": "2024-06-01:2024-06-30",
            "requests": [
                {"target": "loader-producer", "type": kind, "parameters": {} if endless else short},
                {"target": "arango-connector", "type": kind},
            ],
        }
        while True:
            with suppress(QueueManagerError):
                started = await self.client.start_queue(payload, request_id=request_id)
                return started.queue.queue_id

    async def _stop(self, queue_id: str) -> None:
        force = self.rng.random() < 0.3
        while True:
            with suppress(QueueManagerError):
                if force:
                    await self.client.stop_queue(queue_id, mode=service_pb2.STOP_MODE_FORCE, reason="enough")
                else:
                    await self.client.stop_queue(queue_id, grace_period=2, reason="enough")
                return

    async def _watch(self, queue_id: str) -> None:
        seen = 0
        async for frame in self.client.watch(queue_id, give_up_after=120):
            assert seen + frame.revisions_merged == frame.revision, f"{queue_id}: {seen} → {frame.revision}"
            seen = frame.revision
            if frame.kind == service_pb2.FRAME_KIND_END:
                self.final[queue_id] = frame


@pytest.mark.timeout(280)
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
async def test_kill_9_at_random_moments(seed: int, tmp_path: Path) -> None:
    """50 kills each: afterwards every promise that was made to a caller has been kept."""
    rng = Random(seed)
    server = ServerProcess(tmp_path, QM_SWEEP="5")
    async with server, AsyncClient(server.address, timeout=60, backoff=Backoff(initial=0.05, maximum=0.2)) as client:
        story = Story(server, client, rng)
        callers = [asyncio.create_task(story.run(number)) for number in range(LIVE_QUEUES)]
        for _ in range(KILLS):
            # Sometimes while it starts, mostly while it works, now and then with time for something to get done. Real
            # sleeps: the moment of the kill is what is tested.
            if rng.random() < 0.25:
                await asyncio.sleep(rng.uniform(0.0, 0.5))
            else:
                await server.serving()
                await asyncio.sleep(rng.uniform(1.0, 2.5) if rng.random() < 0.15 else rng.uniform(0.0, 0.5))
            await server.kill()
            twice = {who: pids for who, pids in server.worker_pids().items() if len(pids) > 1}
            assert not twice, f"workers that run twice: {twice}"
            await server.start(wait=False)
        story.over = True
        await server.serving()
        await asyncio.wait_for(asyncio.gather(*callers), 90)
        await check_everything(server, client, story)
        assert await server.terminate() == 0


async def check_everything(server: ServerProcess, client: AsyncClient, story: Story) -> None:
    """What callers were told, what the server says, and what was really run agree."""
    assert len(story.acknowledged) > KILLS / 20, "hardly anything was going on"
    assert len(set(story.acknowledged)) == len(story.acknowledged)
    assert not server.worker_pids(), "workers are left"
    stored = {queue.queue_id: queue async for queue in client.list_queues(page_size=500)}
    assert set(story.acknowledged) <= set(stored), "an acknowledged queue is not there"
    for queue_id, queue in stored.items():
        assert queue.state in TERMINAL, f"{queue_id} is forgotten"
        if queue_id in story.final:
            assert story.final[queue_id].revision == queue.revision
            assert story.final[queue_id].queue == queue
        expected = queue_pb2.QUEUE_STATE_STOPPED if queue_id in story.endless else queue_pb2.QUEUE_STATE_FINISHED
        assert queue.state == expected, f"{queue_id}: {queue}"
        for job in queue.jobs:
            starts = starts_of(server, job)
            launched = bool(job.runner.name)
            assert starts <= 1, f"{queue_id}/{job.name} was started {starts} times"
            assert starts == 1 or not launched or queue_id in story.endless, f"{queue_id}/{job.name} never ran"


def starts_of(server: ServerProcess, job: queue_pb2.Job) -> int:
    """How often the worker itself says that it was started, in all that it ever wrote."""
    if not job.runner.name:
        return 0
    count = 0
    for file in sorted((server.data / "workers" / job.runner.name).glob("stdout*")):
        for line in file.read_text().splitlines():
            with suppress(ValueError):
                count += json.loads(line).get("status") == "started"
    return count
