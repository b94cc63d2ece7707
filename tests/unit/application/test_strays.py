"""Workers that nobody is in charge of are told of, or ended, and no others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from queue_manager.server.application.strays import INTERVAL, Strays
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import JobState
from queue_manager.server.domain.naming import worker_name
from queue_manager.server.domain.observation import Phase, WorkerStatus
from tests.unit.application import Parts, Q, Runner

pytestmark = pytest.mark.virtual_time


class Looking(Parts):
    """A queue whose first job has a worker, and what looks for strays."""

    def __init__(self, *, end_orphans: bool = False) -> None:
        super().__init__()
        self.runner = Runner()
        self.strays = Strays(self.records, self.runner, instruments=self.counters, grace=10.0, end_orphans=end_orphans)

    def put(self, queue_id: str, job: str, attempt: int = 1, name: str = "") -> WorkerKey:
        """A worker that runs."""
        key = WorkerKey(queue_id, job, attempt, name or worker_name(queue_id, job, attempt))
        self.runner.workers[key.name] = WorkerStatus(key=key, phase=Phase.RUNNING)
        return key

    async def twice(self) -> list[WorkerKey]:
        """The orphans after two looks."""
        await self.strays.look()
        await self.strays.look()
        return list(self.strays.orphans)


async def test_a_worker_of_a_job_that_runs_is_no_stray() -> None:
    """Nothing is told, nothing is ended."""
    parts = Looking(end_orphans=True)
    queue = await parts.begin()
    key = parts.put(Q, queue.jobs[0].name)
    assert not await parts.twice()
    assert key.name in parts.runner.workers


@pytest.mark.parametrize("end", [False, True])
async def test_one_that_no_record_knows_is_told_of_and_ended_only_where_that_is_wished(end: bool) -> None:
    """No such queue, no such job, an attempt that has not been made, a name that is none of ours."""
    parts = Looking(end_orphans=end)
    job = (await parts.begin()).jobs[0].name
    orphans = [
        parts.put("wf-nothing-000000", "loader-producer"),
        parts.put(Q, "nobody"),
        parts.put(Q, job, attempt=2),
        parts.put(Q, job, name="somebody-elses"),
    ]
    await parts.strays.look()
    assert not parts.strays.orphans  # a list may be a moment old
    assert not parts.counters.counts["orphans"]
    await parts.strays.look()
    assert parts.strays.orphans == sorted(orphans, key=lambda key: key.name)
    assert parts.counters.counts["orphans"] == 4
    assert not parts.runner.workers if end else len(parts.runner.workers) == 4


async def test_one_whose_job_is_over_is_ended_at_the_second_look() -> None:
    """Nobody else would."""
    parts = Looking()
    job = (await parts.begin()).jobs[0].name
    await parts.alter(job=JobState.LOST)
    parts.put(Q, job)
    await parts.strays.look()
    assert parts.runner.workers
    await parts.strays.look()
    assert not parts.runner.workers
    assert not parts.strays.orphans


async def test_one_that_cannot_be_ended_now_does_not_keep_the_others() -> None:
    """It is tried again at the next look."""
    parts = Looking(end_orphans=True)
    first, second = parts.put("wf-nothing-000000", "a"), parts.put("wf-nothing-000000", "b")
    delete = parts.runner.delete

    async def failing(worker: WorkerKey, *, grace: float) -> None:
        if worker == first:
            raise Unavailable("not this one")
        await delete(worker, grace=grace)

    parts.runner.delete = failing  # type: ignore[method-assign]
    await parts.twice()
    assert list(parts.runner.workers) == [first.name]
    assert second.name not in parts.runner.workers


async def test_a_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was wrong: the server is more than this."""
    parts, looks = Looking(), 0

    async def alive() -> Sequence[WorkerKey]:
        nonlocal looks
        looks += 1
        raise ValueError("a file that nobody can read")

    monkeypatch.setattr(parts.runner, "alive", alive)
    looking = asyncio.create_task(parts.strays.run())
    await asyncio.sleep(INTERVAL * 2.5)
    assert not looking.done()
    assert looks == 3
    looking.cancel()
    await asyncio.wait([looking])
