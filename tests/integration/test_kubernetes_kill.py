"""`kill -9` of a server at random moments while queues of real pods start and stop: none twice, none forgotten.

KILLS says how often (default 8), CALLERS how many queues there are at a time (default 6). Ten kills among fifty queues
take a minute and a half on two cores; a hundred:

    KILLS=100 CALLERS=50 .venv/bin/pytest -rP tests/integration/test_kubernetes_kill.py
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from queue_manager.client import AsyncClient, Backoff, QueueManagerError
from queue_manager.server.adapters.kubernetes.manifest import SELECTOR
from queue_manager.server.adapters.kubernetes.runner import LAUNCH_SETTLE
from queue_manager.v1 import queue_pb2, service_pb2
from tests.e2e.server_process import ServerProcess
from tests.support.jobs_seen import Attempt, JobsSeen, jobs_seen
from tests.support.kubernetes import BUSYBOX, needs_cluster, until_none_runs
from tests.support.local_workers import until

pytestmark = [pytest.mark.integration, needs_cluster]

T = TypeVar("T")

KILLS = int(os.environ.get("KILLS", "8"))
CALLERS = int(os.environ.get("CALLERS", "6"))

CATALOGUE = """
targets:
  {name}:
    image: {image}
    command: [/bin/sh, -c, 'echo started >> {shared}/$TELEMETRY_PRODUCER_ID; {then}']
    types: {{run: {{lifetime: {lifetime}}}}}
    kubernetes:
      requests: {{cpu: 1m, memory: 8Mi}}
      volumes: [{{name: shared, hostPath: {{path: "{shared}"}}}}]
      volume_mounts: [{{name: shared, mountPath: "{shared}"}}]
"""


class Story:
    """Callers who start and stop queues all the while, and remember what they were told."""

    def __init__(self, client: AsyncClient, rng: Random) -> None:
        self.client = client
        self.rng = rng
        self.acknowledged: dict[str, bool] = {}
        """Queue → whether it was stopped."""
        self.over = False

    async def run(self, number: int) -> None:
        """One caller: queue after queue."""
        count = 0
        while not self.over:
            count += 1
            await self._one_queue(f"caller-{number}-{count}", stop=self.rng.random() < 0.5)

    async def _one_queue(self, request_id: str, *, stop: bool) -> None:
        target = "stays" if stop else "ends"
        payload = {"symbol": "BTCUSDT", "requests": [{"target": target, "type": "run"}] * 2}
        started = await self._until_answered(lambda: self.client.start_queue(payload, request_id=request_id))
        queue_id = started.queue.queue_id
        self.acknowledged[queue_id] = stop
        if stop:
            await asyncio.sleep(self.rng.uniform(0, 3))  # wherever its workers are by then
            mode = self.rng.choice([service_pb2.STOP_MODE_FORCE, service_pb2.STOP_MODE_GRACEFUL])
            grace = 1 if mode == service_pb2.STOP_MODE_GRACEFUL else None
            await self._until_answered(lambda: self.client.stop_queue(queue_id, mode=mode, grace_period=grace))
        async for _ in self.client.watch(queue_id, give_up_after=120):
            pass

    @staticmethod
    async def _until_answered(call: Callable[[], Awaitable[T]]) -> T:
        while True:
            with suppress(QueueManagerError):
                return await call()


@pytest.mark.timeout(200 + 10 * KILLS + 6 * CALLERS)
async def test_kill_9_at_random_moments(namespace: str, tmp_path: Path) -> None:
    """Afterwards one Job for each job that was launched, none of a queue that was stopped, and every queue has ended.

    Of each attempt at a job there was never a second Job, neither beside the first nor after it.
    """
    rng = Random(6)
    shared = _prepare(tmp_path)
    server = ServerProcess(
        tmp_path,
        QM_RUNNER="kubernetes",
        K8S_NAMESPACE=namespace,
        QM_CATALOGUE=str(tmp_path / "targets.yaml"),
        QM_SWEEP="5",
    )
    async with jobs_seen(namespace) as seen:
        async with server, _client(server) as client:
            story = Story(client, rng)
            callers = [asyncio.create_task(story.run(number)) for number in range(CALLERS)]
            for _ in range(KILLS):
                await _kill(server, rng)
            story.over = True
            await server.serving()
            await asyncio.wait_for(asyncio.gather(*callers), 150 + 4 * CALLERS)
            await _check(client, story, shared)
            # What was stopped is removed after its result is recorded, and not while a launch of it may be under way.
            await until(lambda: not _left(seen, story), within=LAUNCH_SETTLE + 30)
            assert await server.terminate() == 0
        await until_none_runs(namespace, SELECTOR)
    _check_jobs(seen, story)


def _client(server: ServerProcess) -> AsyncClient:
    return AsyncClient(server.address, timeout=60, backoff=Backoff(initial=0.05, maximum=0.2))


async def _kill(server: ServerProcess, rng: Random) -> None:
    """Sometimes while it starts, mostly while it works. Real sleeps: the moment of the kill is what is tested."""
    if rng.random() < 0.2:
        await asyncio.sleep(rng.uniform(0.0, 1.5))
    else:
        await server.serving()
        await asyncio.sleep(rng.uniform(0.0, 2.5))
    await server.kill()
    await server.start(wait=False)


def _prepare(folder: Path) -> Path:
    """Write the catalogue, and make a folder that workers, who run as nobody, can write to."""
    shared = folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for parent in (folder, *folder.parents):
        if parent.stat().st_uid == os.getuid() and parent.is_relative_to("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    ends = CATALOGUE.format(name="ends", image=BUSYBOX, shared=shared, then="sleep 1", lifetime="finite")
    stays = CATALOGUE.format(name="stays", image=BUSYBOX, shared=shared, then="exec sleep 300", lifetime="endless")
    (folder / "targets.yaml").write_text(ends + stays.replace("\ntargets:\n", ""))
    return shared


async def _check(client: AsyncClient, story: Story, shared: Path) -> None:
    """Fail where a queue has not ended as its caller was told, or a worker was started twice."""
    stored = {queue.queue_id: queue async for queue in client.list_queues(page_size=500)}
    assert len(story.acknowledged) >= CALLERS
    assert set(stored) == set(story.acknowledged), "a queue is there that nobody was told of, or the other way round"
    for queue_id, stopped in story.acknowledged.items():
        queue = stored[queue_id]
        expected = queue_pb2.QUEUE_STATE_STOPPED if stopped else queue_pb2.QUEUE_STATE_FINISHED
        assert queue.state == expected, queue
        for job in queue.jobs:
            mark = shared / job.telemetry_id
            starts = mark.read_text().count("started") if mark.exists() else 0
            assert starts <= 1, f"{queue_id}/{job.name} ran {starts} times"
            assert starts == 1 or stopped, f"{queue_id}/{job.name} never ran"


def _check_jobs(seen: JobsSeen, story: Story) -> None:
    """Fail where the API had a Job too many, or too few."""
    assert {attempt: uids for attempt, uids in seen.uids.items() if len(uids) > 1} == {}
    made = {(queue_id, job) for queue_id, job, _ in seen.uids}
    assert len(made) == len(seen.uids), "a job was attempted twice"
    assert {queue_id for queue_id, _ in made} <= set(story.acknowledged)
    finished = {queue_id for queue_id, stopped in story.acknowledged.items() if not stopped}
    assert dict.fromkeys(finished, 2) == Counter(queue_id for queue_id, _ in made if queue_id in finished)
    print(f"{len(story.acknowledged)} queues, {len(seen.uids)} Jobs")
    assert not _left(seen, story)


def _left(seen: JobsSeen, story: Story) -> list[Attempt]:
    """The Jobs of stopped queues that are there still."""
    return [attempt for attempt in seen.left.values() if story.acknowledged[attempt[0]]]
