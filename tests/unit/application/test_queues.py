"""The use cases, on the whole core: starting once whatever happens, stopping confirmed, paging."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.errors import InvalidRequest, NotFound, RequestIdReused, Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey, worker_key
from queue_manager.server.domain.model import (
    DependencyCondition,
    FailurePolicy,
    JobState,
    Queue,
    QueueState,
    Reason,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest
from tests.unit.application import EPOCH, Bus, Runner, Store, core
from tests.unit.domain.samples import job, start

pytestmark = pytest.mark.virtual_time


class Server:
    """A core at work, on parts that can be made to fail."""

    def __init__(self) -> None:
        self.store, self.runner, self.bus = Store(), Runner(), Bus()
        self.core: Core = core(self.store, self.runner, self.bus)

    async def start(self, request: StartRequest) -> tuple[Queue, bool]:
        """Start a queue: it, and whether it was created."""
        started = await self.core.service.start(request, requested_by="alice")
        return started.queue, started.created

    async def stop(
        self,
        queue_id: str,
        mode: StopMode = StopMode.GRACEFUL,
        *,
        grace: float | None = None,
        wait: float | None = None,
    ) -> Queue:
        """Stop a queue."""
        return await self.core.service.stop(
            queue_id, mode=mode, grace_period=grace, reason="enough", by="bob", wait=wait
        )

    async def state(self, queue_id: str) -> QueueState:
        """A queue's state."""
        return (await self.core.service.get(queue_id)).status.state

    def workers(self) -> int:
        """How many workers run."""
        return len(self.runner.workers)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """A server that works."""
    server = Server()
    task = asyncio.create_task(server.core.run())
    await server.core.ready.wait()
    try:
        yield server
    finally:
        await server.core.service.drain()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- Starting ---------------------------------------------------------------------------------------------------------


async def test_a_start_is_stored_before_it_is_answered_and_launched_after() -> None:
    """The intent is durable when the caller is told; launching goes on afterwards."""
    async with serving() as server:
        queue, created = await server.start(start())
        stored = await server.store.get(queue.queue_id)
        assert (created, stored is not None, server.workers()) == (True, True, 0)
        assert queue.status.state is QueueState.PENDING
        assert queue.jobs[0].status.state is JobState.LAUNCHING
        await asyncio.sleep(5)
        assert (server.workers(), await server.state(queue.queue_id)) == (1, QueueState.RUNNING)


async def test_a_start_that_cannot_be_stored_is_not_answered() -> None:
    """Unavailable, and nothing half-done."""
    async with serving() as server:
        server.store.fail["create"] = 1
        with pytest.raises(Unavailable):
            await server.start(start())
        await asyncio.sleep(100)
        assert (server.workers(), server.store._records) == (0, {})


async def test_the_same_request_id_with_the_same_body_is_the_first_queue() -> None:
    """`created` is false, and nothing is launched twice."""
    async with serving() as server:
        first, _ = await server.start(start(request_id="r-1"))
        await asyncio.sleep(5)
        again, created = await server.start(start(request_id="r-1", symbol="btcusdt"))
        assert (again.queue_id, created) == (first.queue_id, False)
        assert again.status.state is QueueState.RUNNING
        await asyncio.sleep(5)
        assert (server.workers(), len(server.store._records)) == (1, 1)


async def test_the_same_request_id_with_another_body_names_the_first_queue() -> None:
    """ALREADY_EXISTS."""
    async with serving() as server:
        first, _ = await server.start(start(request_id="r-1"))
        with pytest.raises(RequestIdReused) as refused:
            await server.start(start(request_id="r-1", symbol="ETHUSDT"))
        assert refused.value.metadata["resource"] == first.queue_id
        assert len(server.store._records) == 1


async def test_a_repeated_start_is_answered_also_after_its_queue_has_ended() -> None:
    """The record is what decides, not what runs."""
    async with serving() as server:
        first, _ = await server.start(start(request_id="r-1"))
        await server.stop(first.queue_id, StopMode.FORCE, wait=60.0)
        again, created = await server.start(start(request_id="r-1"))
        assert (again.queue_id, created, again.status.state) == (first.queue_id, False, QueueState.STOPPED)


async def test_many_starts_with_one_request_id_at_once_make_one_queue() -> None:
    """However slow the store is."""
    async with serving() as server:
        server.store.slow = 0.3
        answers = await asyncio.gather(*(server.start(start(request_id="r-1")) for _ in range(20)))
        assert len({queue.queue_id for queue, _ in answers}) == 1
        assert sum(created for _, created in answers) == 1
        await asyncio.sleep(60)
        assert (server.workers(), len(server.store._records)) == (1, 1)


async def test_a_start_whose_answer_from_the_store_was_lost_is_launched_once_it_is_repeated() -> None:
    """The caller was told UNAVAILABLE and repeats it, as it should: the queue that is recorded must run."""
    async with serving() as server:
        server.store.lose["create"] = 1
        with pytest.raises(Unavailable):
            await server.start(start(request_id="r-1"))
        await server.start(start(request_id="r-1"))
        await asyncio.sleep(600)
        assert (server.workers(), len(server.store._records)) == (1, 1)


async def test_a_queue_that_is_recorded_is_never_forgotten_though_nobody_asks_again() -> None:
    """A periodic sweep over all non-terminal queues: also over one whose creation had no answer."""
    async with serving() as server:
        server.store.lose["create"] = 1
        with pytest.raises(Unavailable):
            await server.start(start())
        await asyncio.sleep(7200)
        assert (server.workers(), len(server.store._records)) == (1, 1)


async def test_validate_only_answers_the_plan_and_writes_nothing() -> None:
    """Names, images, environment of every job."""
    async with serving() as server:
        calls = dict(server.store.calls)
        started = await server.core.service.start(
            start(job(), job(type="ws_depth"), validate_only=True, request_id="r-1"), requested_by="alice"
        )
        await asyncio.sleep(60)
        assert started.created is False
        assert [spec.key.job for spec in started.plan] == ["loader-producer", "loader-producer-2"]
        assert all(spec.environment["QUEUE_ID"] == started.queue.queue_id for spec in started.plan)
        assert (dict(server.store.calls), server.store._records, server.workers()) == (calls, {}, 0)


async def test_validate_only_tells_what_the_runner_would_refuse() -> None:
    """Each job at its place in the request; and nothing is written."""
    async with serving() as server:
        why = StateReason(code=Reason.CONFIG_ERROR, message="no such namespace")
        server.runner.would_refuse["visualizer"] = lambda key: Refused(key, why)
        wish = start(job(), job(target="visualizer", type="graph_metrics_stream", source="x"), validate_only=True)
        with pytest.raises(InvalidRequest) as caught:
            await server.core.service.start(wish, requested_by="alice")
        assert [(each.field, each.description) for each in caught.value.violations] == [
            ("requests[1]", "no such namespace")
        ]
        assert not server.store._records


async def test_a_caller_that_hangs_up_does_not_undo_its_start() -> None:
    """Its call is cancelled while the store is slow: the queue is stored, and launched."""
    async with serving() as server:
        server.store.slow = 1.0
        call = asyncio.create_task(server.start(start()))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert server.store._records == {}
        await asyncio.sleep(60)
        assert (server.workers(), len(server.store._records)) == (1, 1)


async def test_a_caller_that_hangs_up_does_not_undo_its_stop() -> None:
    """Neither the wish nor what follows from it."""
    async with serving() as server:
        queue, _ = await server.start(start())
        await asyncio.sleep(5)
        server.store.slow = 1.0
        call = asyncio.create_task(server.stop(queue.queue_id, StopMode.FORCE, wait=100.0))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(60)
        assert (server.workers(), await server.state(queue.queue_id)) == (0, QueueState.STOPPED)


async def test_what_a_caller_that_hung_up_would_have_been_told_is_no_error_in_the_log() -> None:
    """Its start is refused when it has gone: nobody is told, and asyncio has nothing to complain of."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    async with serving() as server:
        await server.start(start(request_id="once"))
        server.store.slow = 1.0
        call = asyncio.create_task(server.start(start(symbol="ETHUSDT", request_id="once")))
        await asyncio.sleep(0.5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(60)
        gc.collect()
    assert complaints == []


async def test_drain_waits_for_what_is_being_written() -> None:
    """A shutdown does not cut a caller's wish off."""
    async with serving() as server:
        server.store.slow = 1.0
        call = asyncio.create_task(server.start(start()))
        await asyncio.sleep(0.5)
        await server.core.service.drain()
        assert len(server.store._records) == 1
        await call


async def test_all_violations_are_told_at_once_and_nothing_is_stored() -> None:
    """In the order of the request."""
    async with serving() as server:
        with pytest.raises(InvalidRequest) as refused:
            await server.start(start(job("loadr"), symbol="?", request_id="a b"))
        fields = [violation.field for violation in refused.value.violations]
        assert fields == ["symbol", "requests[0].target", "request_id"]
        assert server.store._records == {}


async def test_two_queues_never_share_an_id() -> None:
    """An id that is taken is drawn again."""
    async with serving() as server:
        suffixes = iter(["aaaaaa", "aaaaaa", "bbbbbb"])
        server.core.service._new_suffix = lambda: next(suffixes)
        first, _ = await server.start(start())
        second, _ = await server.start(start())
        assert first.queue_id.endswith("aaaaaa")
        assert second.queue_id.endswith("bbbbbb")


async def test_what_a_step_decides_at_its_end_is_done_at_once() -> None:
    """A launch is refused, so by the policy the other worker is to go: not only when deletions are repeated."""
    gate = DependencyRequest(job="loader-producer", condition=DependencyCondition.STARTED)
    second = JobRequest(target="visualizer", type="graph_metrics_stream", source="graph", depends_on=[gate])
    async with serving() as server:
        launch = server.runner.launch

        async def refusing(spec: LaunchSpec) -> WorkerStatus | Refused:
            if spec.target == "visualizer":
                return Refused(spec.key, StateReason(code=Reason.CONFIG_ERROR, message="no"))
            return await launch(spec)

        server.runner.launch = refusing  # type: ignore[method-assign]
        queue, _ = await server.start(start(job(), second, failure_policy=FailurePolicy.STOP_ALL))
        await server.core.hub.until_ended(queue.queue_id)
        ended = await server.core.service.get(queue.queue_id)
        assert [j.status.state for j in ended.jobs] == [JobState.STOPPED, JobState.FAILED]
        assert ended.status.end_time is not None
        assert ended.status.end_time - ended.spec.create_time < 1.0


async def test_a_job_says_what_it_waits_for_also_where_nothing_can_be_seen() -> None:
    """Its worker is to be launched, and the runner cannot even be asked to: so it certainly was not launched."""
    async with serving() as server:
        server.runner.down = True
        queue, _ = await server.start(start())
        await asyncio.sleep(0.01)
        waiting = await server.core.service.get(queue.queue_id)
        assert waiting.jobs[0].status.reason is not None
        assert waiting.jobs[0].status.reason.code is Reason.WAITING_FOR_RUNNER
        assert not waiting.jobs[0].status.launch_unsure
        server.runner.down = False
        await asyncio.sleep(20)
        assert (await server.core.service.get(queue.queue_id)).jobs[0].status.state is JobState.RUNNING


async def test_what_becomes_due_while_a_call_is_made_is_done_after_it() -> None:
    """One worker's last word has been waited for long enough while the other's deletion takes its time."""
    async with serving() as server:

        async def slowly(worker: WorkerKey, *, grace: float) -> None:
            await asyncio.sleep(4)
            server.runner.workers.pop(worker.name)

        server.runner.delete = slowly  # type: ignore[method-assign]
        queue, _ = await server.start(start(job(), job(timeout=3.0)))
        await asyncio.sleep(0.1)
        first = worker_key(queue, queue.jobs[0]).name
        server.runner.workers[first] = dataclasses.replace(
            server.runner.workers[first], phase=Phase.ENDED, exit_code=0, end_time=EPOCH
        )
        server.runner.wake(queue.queue_id)
        await server.core.hub.until_ended(queue.queue_id)
        ended = await server.core.service.get(queue.queue_id)
        assert ended.jobs[0].status.exit_code == 0
        assert ended.jobs[0].status.end_time is not None
        assert ended.jobs[0].status.end_time - ended.spec.create_time < 7.1, "deleting took from 3 to 7"


# --- Stopping ---------------------------------------------------------------------------------------------------------


async def test_a_stop_is_answered_once_it_is_recorded() -> None:
    """STOPPING with the caller's name and reason; the workers are told, and deleted at the deadline."""
    async with serving() as server:
        queue, _ = await server.start(start())
        await asyncio.sleep(5)
        queue = await server.stop(queue.queue_id)
        assert queue.status.state is QueueState.STOPPING
        assert queue.status.stop is not None
        assert (queue.status.stop.by, queue.status.stop.reason) == ("bob", "enough")
        assert queue.status.stop.deadline == queue.status.stop.time + 30.0
        await asyncio.sleep(29)
        assert [command.command for command in server.bus.sent].count("stop") >= 9
        assert server.workers() == 1
        await asyncio.sleep(5)
        assert (server.workers(), await server.state(queue.queue_id)) == (0, QueueState.STOPPED)


async def test_a_stop_that_waits_is_answered_when_it_is_confirmed() -> None:
    """With the final queue, and not before no worker is left."""
    async with serving() as server:
        loop = asyncio.get_running_loop()
        queue, _ = await server.start(start())
        await asyncio.sleep(5)
        began = loop.time()
        queue = await server.stop(queue.queue_id, grace=10.0, wait=60.0)
        assert (queue.status.state, server.workers()) == (QueueState.STOPPED, 0)
        assert began + 10.0 <= loop.time() <= began + 12.0


async def test_a_stop_that_waits_in_vain_is_answered_in_time() -> None:
    """With the queue as it then is; the wish stands."""
    async with serving() as server:
        loop = asyncio.get_running_loop()
        queue, _ = await server.start(start())
        await asyncio.sleep(5)
        server.runner.down = True
        began = loop.time()
        queue = await server.stop(queue.queue_id, StopMode.FORCE, wait=7.0)
        assert queue.status.state is QueueState.STOPPING
        assert loop.time() == pytest.approx(began + 7.0)
        server.runner.down = False
        await asyncio.sleep(60)
        assert await server.state(queue.queue_id) is QueueState.STOPPED


async def test_stopping_twice_is_stopping_once() -> None:
    """And a queue that has ended is answered unchanged."""
    async with serving() as server:
        queue, _ = await server.start(start())
        await asyncio.sleep(5)
        first = await server.stop(queue.queue_id, grace=5.0)
        second = await server.stop(queue.queue_id, grace=30.0)
        assert second.status == first.status
        final = await server.stop(queue.queue_id, grace=5.0, wait=60.0)
        assert final.status.state is QueueState.STOPPED
        again = await server.stop(queue.queue_id, StopMode.FORCE, wait=60.0)
        assert (again.status, again.revision) == (final.status, final.revision)


async def test_stopping_a_queue_that_there_is_not_is_not_found() -> None:
    """And leaves nothing behind."""
    async with serving() as server:
        with pytest.raises(NotFound):
            await server.stop("wf-nothing", wait=10.0)


# --- Listing ----------------------------------------------------------------------------------------------------------


async def test_pages_follow_each_other_without_a_gap_newest_first() -> None:
    """Also while new queues come; the last page says that it is the last."""
    async with serving() as server:
        ids = []
        for _ in range(7):
            queue, _ = await server.start(start())
            ids.append(queue.queue_id)
            await asyncio.sleep(1)
        service, found, after = server.core.service, list[str](), None
        for size in (3, 3, 3):
            page, after = await service.list(QueueFilter(created_before=EPOCH + 100), after=after, limit=size)
            found += [queue.queue_id for queue in page]
            await server.start(start())
            if after is None:
                break
        assert found[:7] == ids[::-1]
        assert len(found) == len(set(found))


async def test_a_page_that_holds_exactly_the_rest_is_the_last() -> None:
    """No empty page follows."""
    async with serving() as server:
        for _ in range(2):
            await server.start(start())
        page, after = await server.core.service.list(QueueFilter(), after=None, limit=2)
        assert (len(page), after) == (2, None)


async def test_one_request_object_can_be_used_again() -> None:
    """Starting does not change it."""
    async with serving() as server:
        request = start(request_id="r-1")
        before = replace(request)
        await server.start(request)
        assert request == before
