"""The whole core, where one of its parts does not answer."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Container, Sequence
from contextlib import asynccontextmanager

import pytest

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Message, WorkerCommand
from queue_manager.server.domain.errors import Declined, Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import JobState, Queue, QueueState, Reason, StateReason, StopMode
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus
from queue_manager.server.domain.request import JobRequest, StartRequest
from tests.unit.application import EPOCH, Bus, Runner, Store, core

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def running(
    bus: Bus, runner: Runner, *, jobs: int = 1, start_timeout: float | None = None
) -> AsyncIterator[tuple[Core, Queue]]:
    """A core at work, with a queue that was started five seconds ago."""
    found = core(Store(), runner, bus)
    task = asyncio.create_task(found.run())
    await found.ready.wait()
    request = StartRequest(
        symbol="BTCUSDT",
        time_range="2024-06-01:2024-06-01",
        requests=[JobRequest(target="loader-producer", type="api_trades")] * jobs,
        start_timeout=start_timeout,
    )
    queue = (await found.service.start(request, requested_by="ada")).queue
    await asyncio.sleep(5)
    try:
        yield found, queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_is_said_of_a_queue_that_has_ended_is_answered() -> None:
    """Its events are not out yet, so it is known still. A bus commits nothing that comes after what has no answer."""
    bus = Bus()
    async with running(bus, Runner()) as (found, queue):
        bus.down = True
        await found.service.stop(queue.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="ada")
        await asyncio.sleep(30)
        assert found.records.live[queue.queue_id].queue.ended
        said = {"queue_id": queue.queue_id, "status": "loading", "telemetry_id": queue.jobs[0].spec.telemetry_id}
        message = Message(json.dumps(said).encode(), EPOCH, "events/0@1", 7)
        assert bus.receiver is not None
        async with asyncio.timeout(5):
            await bus.receiver.telemetry([message])


async def test_workers_are_deleted_at_the_deadline_though_the_bus_hangs() -> None:
    """Telling them to stop is not waited for."""
    bus, runner = Bus(), Runner()

    async def send(*_: WorkerCommand) -> None:
        await asyncio.sleep(3600)

    async with running(bus, runner) as (found, queue):
        assert len(runner.workers) == 1
        bus.send = send  # type: ignore[method-assign]
        await found.service.stop(queue.queue_id, mode=StopMode.GRACEFUL, grace_period=10, reason="", by="ada")
        await asyncio.sleep(9)
        assert len(runner.workers) == 1
        await asyncio.sleep(5)
        assert runner.workers == {}


class Starting(Runner):
    """Workers wait until they are let run."""

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        status = await super().launch(spec)
        assert isinstance(status, WorkerStatus)
        return self.let(spec.key.name, Phase.WAITING)

    def let(self, name: str, phase: Phase) -> WorkerStatus:
        """It waits, or runs."""
        self.workers[name] = dataclasses.replace(self.workers[name], phase=phase, start_time=None)
        return self.workers[name]


@pytest.mark.parametrize("again", [False, True], ids=["an outage", "and a restart"])
async def test_a_worker_that_started_in_time_unseen_is_let_live(again: bool) -> None:
    """While its runner could not be asked its time to start went by; how it stands is seen before that is judged."""
    bus, runner = Bus(), Starting()
    async with running(bus, runner, start_timeout=30.0) as (found, queue):
        assert found.records.live[queue.queue_id].queue.jobs[0].status.state is JobState.STARTING
        (name,) = runner.workers
        runner.let(name, Phase.RUNNING)
        runner.down = True
        if again:
            found.controller.reloaded(found.records.live[queue.queue_id].queue)
        await asyncio.sleep(90)
        runner.down = False
        await asyncio.sleep(90)
        assert found.records.live[queue.queue_id].queue.jobs[0].status.state is JobState.RUNNING
        assert list(runner.workers) == [name]


async def test_a_worker_that_does_not_start_is_ended_once_its_runner_can_be_asked() -> None:
    """It was seen to wait still."""
    bus, runner = Bus(), Starting()
    async with running(bus, runner, start_timeout=30.0) as (found, queue):
        runner.down = True
        await asyncio.sleep(90)
        assert len(runner.workers) == 1
        runner.down = False
        await asyncio.sleep(90)
        (job,) = (await found.service.get(queue.queue_id)).jobs
        assert job.status.reason is not None
        assert (job.status.state, job.status.reason.code) == (JobState.FAILED, Reason.START_TIMEOUT)


async def test_a_stop_does_not_judge_a_worker_whose_last_word_cannot_be_read_yet() -> None:
    """It waits as it would have without the stop: the word decides."""
    bus, runner = Bus(), Runner()
    async with running(bus, runner) as (found, queue):
        bus.heard = 0.0
        (name,) = runner.workers
        now = EPOCH + asyncio.get_running_loop().time()
        runner.workers[name] = dataclasses.replace(runner.workers[name], phase=Phase.ENDED, exit_code=0, end_time=now)
        runner.wake(queue.queue_id)
        await asyncio.sleep(20)
        stop = found.service.stop(queue.queue_id, mode=StopMode.GRACEFUL, grace_period=60, reason="", by="ada")
        assert not (await stop).ended
        said = {"queue_id": queue.queue_id, "status": "error", "finished": True, "error_message": "disk full"}
        assert bus.receiver is not None
        await bus.receiver.telemetry([Message(json.dumps(said).encode(), now, "events/0@1", 7)])
        (job,) = (await found.service.get(queue.queue_id)).jobs
        assert job.status.reason is not None
        assert (job.status.state, job.status.reason.message) == (JobState.FAILED, "disk full")


class Throttling(Runner):
    """It says of the first calls of each kind when it wishes to be asked again."""

    def __init__(self) -> None:
        """Nothing was asked."""
        super().__init__()
        self.launched: list[float] = []
        self.deleted: list[float] = []

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        self.launched.append(asyncio.get_running_loop().time())
        if len(self.launched) == 1:
            raise Declined("too many requests", retry_after=30.0)
        return await super().launch(spec)

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        self.deleted.append(asyncio.get_running_loop().time())
        if len(self.deleted) == 1:
            raise Unavailable("too many requests", retry_after=40.0)
        await super().delete(worker, grace=grace)


async def test_a_runner_is_not_asked_again_before_it_wishes_to() -> None:
    """Whatever else wakes the queue meanwhile; and not much later either."""
    runner = Throttling()
    async with running(Bus(), runner) as (found, queue):
        for _ in range(60):
            found.controller.work.add(queue.queue_id)
            await asyncio.sleep(1)
        first, second = runner.launched
        assert 30 <= second - first < 31
        await found.service.stop(queue.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="ada")
        for _ in range(60):
            found.controller.work.add(queue.queue_id)
            await asyncio.sleep(1)
        first, second = runner.deleted
        assert 40 <= second - first < 46
        assert runner.workers == {}
        assert (await found.service.get(queue.queue_id)).ended


class Unhurried(Runner):
    """Each launch takes a little longer than the one before."""

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        await asyncio.sleep(0.001 + len(self.workers) * 0.0007)
        return await super().launch(spec)


@pytest.mark.parametrize(("queues", "moments"), [(1, 1), (3, 3), (100, 8)])
async def test_launches_of_many_queues_are_written_down_together(queues: int, moments: int) -> None:
    """One that is alone is written down at once."""
    store, runner, bus = Store(), Unhurried(), Bus()
    found = core(store, runner, bus)
    task = asyncio.create_task(found.run())
    await found.ready.wait()
    written: list[float] = []

    def note(call: str) -> None:
        if call == "replace":
            written.append(round(asyncio.get_running_loop().time(), 6))

    store.before = note
    jobs = [JobRequest(target="loader-producer", type="api_trades")]
    request = StartRequest(symbol="BTCUSDT", time_range="2024-06-01:2024-06-01", requests=jobs)
    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(found.service.start(request, requested_by="ada") for _ in range(queues)))
    await asyncio.sleep(1)
    assert len(written) == queues
    assert len(set(written)) <= moments
    if queues == 1:
        assert written[0] - began == pytest.approx(0.001, abs=0.0005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_those_that_started_are_announced_though_another_launch_was_a_bug() -> None:
    """Its step is made again; what it found then is not announced twice."""

    class Broken(Runner):
        failed = False

        async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
            """See `ports.Runner`."""
            if spec.key.job == "loader-producer" and not self.failed:
                self.failed = True
                raise KeyError(spec.key.name)
            return await super().launch(spec)

    bus = Bus()
    async with running(bus, Broken(), jobs=3):
        told = [str(command.fields["telemetry_id"]).rpartition("__")[0] for command in bus.sent]
        assert told == ["loader-producer-2", "loader-producer-3", "loader-producer"]


class Doubtful(Runner):
    """Nobody knows of a launch whether it was carried out."""

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        raise Unavailable("no answer")


@pytest.mark.parametrize("again", [False, True], ids=["all the while", "after a restart"])
@pytest.mark.parametrize("kind", [Runner, Doubtful])
async def test_a_queue_none_of_whose_launches_was_taken_is_stopped_at_once(kind: type[Runner], again: bool) -> None:
    """Its runner need not be asked, which may not answer for days; but a launch in doubt is waited for."""
    runner = kind()
    runner.down = True
    async with running(Bus(), runner) as (found, queue):
        if again:  # calls of before may have been on their way
            found.controller.reloaded(found.records.live[queue.queue_id].queue)
        await found.service.stop(queue.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="ada")
        await asyncio.sleep(20)
        certain = kind is Runner and not again
        assert (await found.service.get(queue.queue_id)).ended == certain
        runner.down = False
        await asyncio.sleep(60)
        (job,) = (await found.service.get(queue.queue_id)).jobs
        assert job.status.state is JobState.STOPPED
        assert runner.workers == {}


@pytest.mark.parametrize(
    ("ends", "state", "stopped"),
    [
        ("by itself", JobState.FINISHED, False),
        ("as it is told", JobState.STOPPED, True),
        ("when made to", JobState.STOPPED, True),
    ],
)
async def test_a_runner_is_told_which_workers_were_stopped(ends: str, state: JobState, stopped: bool) -> None:
    """Of these it need keep nothing."""
    runner = Runner()
    async with running(Bus(), runner) as (found, queue):
        (name,) = runner.workers
        if ends == "by itself":
            runner.exits(name)
            await asyncio.sleep(5)
        await found.service.stop(queue.queue_id, mode=StopMode.GRACEFUL, grace_period=30, reason="", by="ada")
        await asyncio.sleep(5)
        if ends == "as it is told":
            runner.exits(name)
        await asyncio.sleep(60)
        assert runner.released == {name: stopped}
        assert (await found.service.get(queue.queue_id)).jobs[0].status.state is state


class Guarded(Runner):
    """Its workers can be seen, and ended once that is allowed."""

    allowed = False

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        if not self.allowed:
            raise Unavailable("not allowed to end it")


@pytest.mark.parametrize("mode", StopMode)
async def test_a_worker_that_cannot_be_ended_says_why(mode: StopMode) -> None:
    """In the runner's words, once, and no longer than that is so."""
    runner = Guarded()
    async with running(Bus(), runner) as (found, queue):
        await found.service.stop(queue.queue_id, mode=mode, grace_period=None, reason="", by="ada")
        await asyncio.sleep(40)  # a graceful stop has a grace of 30 s
        waiting = await found.service.get(queue.queue_id)
        status = waiting.jobs[0].status
        expected = StateReason(code=Reason.WAITING_FOR_RUNNER, message="not allowed to end it")
        assert (status.state, status.reason) == (JobState.RUNNING, expected)
        await asyncio.sleep(60)
        assert (await found.service.get(queue.queue_id)).revision == waiting.revision
        runner.allowed = True  # it takes a while then
        await asyncio.sleep(6)
        assert (await found.service.get(queue.queue_id)).jobs[0].status.reason is None
        (name,) = runner.workers
        runner.exits(name, 143)
        await asyncio.sleep(1)
        assert (await found.service.get(queue.queue_id)).status.state is QueueState.STOPPED


async def test_a_stop_says_that_nobody_can_look_at_its_workers() -> None:
    """They were told to stop, and may have obeyed; it is not said any more once they can be seen."""
    runner = Runner()
    async with running(Bus(), runner, jobs=2) as (found, queue):
        runner.down = True
        await found.service.stop(queue.queue_id, mode=StopMode.GRACEFUL, grace_period=300, reason="", by="ada")
        await asyncio.sleep(20)
        jobs = (await found.service.get(queue.queue_id)).jobs
        reason = StateReason(code=Reason.WAITING_FOR_RUNNER, message="the runner is out of reach")
        assert [(job.status.state, job.status.reason) for job in jobs] == [(JobState.RUNNING, reason)] * 2
        runner.down = False
        await asyncio.sleep(20)
        jobs = (await found.service.get(queue.queue_id)).jobs
        assert [(job.status.state, job.status.reason) for job in jobs] == [(JobState.RUNNING, None)] * 2


class Late(Runner):
    """The first launch has no answer, and may still be carried out within `launch_settle`."""

    launch_settle = 60.0

    def __init__(self) -> None:
        """Nothing was asked."""
        super().__init__()
        self.calls = 0
        self.released_at: float | None = None

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        self.calls += 1
        if self.calls == 1:
            raise Unavailable("no answer")
        return await super().launch(spec)

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """See `ports.Runner`."""
        await super().release(workers, stopped=stopped)
        self.released_at = asyncio.get_running_loop().time()


@pytest.mark.parametrize("ending", [StopMode.GRACEFUL, StopMode.FORCE, None])
async def test_a_name_is_not_given_up_while_a_launch_of_it_may_be_under_way(ending: StopMode | None) -> None:
    """It would start the worker a second time. One that ended by itself keeps its name anyway."""
    runner = Late()
    async with running(Bus(), runner) as (found, queue):
        (name,) = runner.workers
        if ending is not None:
            await found.service.stop(queue.queue_id, mode=ending, grace_period=None, reason="", by="ada")
        runner.exits(name)
        await asyncio.sleep(5)
        ended = await found.service.get(queue.queue_id)
        assert ended.ended
        await asyncio.sleep(100)
        accepted = ended.jobs[0].status.accept_time
        assert accepted is not None
        assert runner.released_at is not None
        waited = runner.released_at - (accepted - EPOCH)
        assert 60 <= waited < 61 if ending else waited < 10
        assert found.records.live.get(queue.queue_id) is None


class Gone(Runner):
    """It takes one worker, and then nobody can reach it."""

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        self.down = bool(self.workers)
        return await super().launch(spec)


async def test_a_job_that_was_never_launched_is_over_though_another_cannot_be_looked_at() -> None:
    """The other one is waited for, and with it the queue."""
    async with running(Bus(), Gone(), jobs=2) as (found, queue):
        await found.service.stop(queue.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="ada")
        await asyncio.sleep(30)
        stopped = await found.service.get(queue.queue_id)
        assert [job.status.state for job in stopped.jobs] == [JobState.RUNNING, JobState.STOPPED]


class Counting(Runner):
    """It counts deletions."""

    deletions = 0

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        self.deletions += 1
        await super().delete(worker, grace=grace)


async def test_a_worker_that_was_never_launched_is_not_deleted_when_its_time_to_start_is_over() -> None:
    """There is none; the job has failed at once."""
    runner = Counting()
    runner.down = True
    async with running(Bus(), runner, start_timeout=60.0) as (found, queue):
        await asyncio.sleep(60)
        (job,) = (await found.service.get(queue.queue_id)).jobs
        assert job.status.reason is not None
        assert (job.status.state, job.status.reason.code) == (JobState.FAILED, Reason.START_TIMEOUT)
        assert runner.deletions == 0
