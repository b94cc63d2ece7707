"""Making the world match the records: one reconcile step at a time per queue.

A step looks at the queue's workers, takes in what they have said, writes what follows (one compare-and-set), then makes
the calls that the plan asks for and writes what they answered. Nothing else launches, tells or ends a worker. A step may
be cut off anywhere, or be made twice; the next one goes on from the record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from random import Random
from typing import Final, TypeVar

import structlog
from msgspec.structs import replace

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.intake import Batch, Intake
from queue_manager.server.application.outbox import Outbox
from queue_manager.server.application.ports import Bus, Clock, Runner, WorkerCommand
from queue_manager.server.application.records import Records, Transition
from queue_manager.server.application.workqueue import Backoff, WorkQueue
from queue_manager.server.domain.errors import Declined, NotFound, Unavailable
from queue_manager.server.domain.history import Entry, Event
from queue_manager.server.domain.launch import LaunchSpecs, WorkerKey, worker_key
from queue_manager.server.domain.lifecycle import advance, reduce
from queue_manager.server.domain.model import Job, JobState, Queue
from queue_manager.server.domain.observation import (
    Answered,
    Delayed,
    Heard,
    Lag,
    Observation,
    Phase,
    Recovered,
    Refused,
    WorkerStatus,
)
from queue_manager.server.domain.planning import Plan, called_off, is_due, live, may_have_worker, plan
from queue_manager.server.domain.rules import waits_for_runner
from queue_manager.server.domain.timings import Timings

log = structlog.get_logger(__name__)

MANY: Final = 8
"""Other queues whose workers are being launched that are many."""
GATHERING: Final = 0.025
"""Seconds between the moments at which launches are written down where there are many."""

T = TypeVar("T")


class Controller:
    """Reconciles queues. `work.run()` runs it; `work.add(queue_id)` has a queue looked at."""

    def __init__(
        self,
        records: Records,
        runner: Runner,
        bus: Bus,
        *,
        clock: Clock,
        rng: Random,
        timings: Timings,
        launch_specs: LaunchSpecs,
        instruments: Instruments,
        sweep: float = 60.0,
    ) -> None:
        """`launch_specs` say what jobs are launched with; `sweep`: every live queue is looked at this often, in seconds."""
        self._records = records
        self._runner = runner
        self._bus = bus
        self._clock = clock
        self._timings = timings
        self._launch_specs = launch_specs
        self._instruments = instruments
        self._sweep = sweep
        self._stop_sent: dict[str, float] = {}
        self._delete_after: dict[str, float] = {}
        """By queue: when the runner wishes to be asked again to end workers, by the event loop's clock."""
        self._recovered: set[str] = set()
        self._launches = Backoff(rng)
        self._launching = 0
        """Queues whose workers are being launched at this moment."""
        self._intake: Intake | None = None
        self._outbox: Outbox | None = None
        self.work = WorkQueue("reconcile", self._timed_step, rng=rng)
        records.subscribe(self)

    def connect(self, *, intake: Intake, outbox: Outbox) -> None:
        """Give it its neighbours, which need it in turn."""
        self._intake, self._outbox = intake, outbox

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:
        """A change that this process made: nothing to learn from it."""

    def reloaded(self, queue: Queue) -> None:
        """A queue that another process wrote, or this one in an earlier life: launches of it may be under way."""
        self._recovered.add(queue.queue_id)
        self.work.add(queue.queue_id)

    async def sweep(self) -> None:
        """Have every live queue looked at now and then, for ever: the net under every hint that was lost."""
        while True:
            await asyncio.sleep(self._sweep)
            for queue_id in self._records.to_sweep:
                self.work.add(queue_id)

    async def _timed_step(self, queue_id: str) -> float | None:
        began, outcome = self._instruments.clock(), "error"
        try:
            again = await self._step(queue_id)
            outcome = "ok"
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            self._instruments.step(outcome, self._instruments.clock() - began)
        return again

    async def _step(self, queue_id: str) -> float | None:
        record = await self._records.find(queue_id)
        if record is None or record.queue.ended:
            self._answer(queue_id)
        if record is None or record.queue.settled:
            self._forget(queue_id)
            return None
        queue, todo, applied = record.queue, Plan(), self._clock.now()
        if not queue.ended:
            if queue_id in self._recovered:
                queue = await self._apply(queue_id, [Recovered()], looked=False)
                self._recovered.discard(queue_id)
            try:
                seen = await self._observe(queue)
            except Unavailable as error:
                waiting = [job for job in live(queue) if is_due(job) or job.status.ending is not None]
                answers = [*_never_launched(queue), *_delayed(queue, waiting, error.message)]
                await self._apply(queue_id, answers, looked=False)
                raise
            applied = self._clock.now()
            queue = await self._apply(queue_id, seen)
            if absent := _never_launched(queue):
                queue = await self._apply(queue_id, absent)
            todo = plan(queue, now=self._clock.now(), timings=self._timings)
            try:
                answers = await self._execute(queue, todo)
                if answers:
                    applied = self._clock.now()
                    queue = await self._apply(queue_id, answers)
            except BaseException:
                if todo.launch:  # what was answered is not on record: calls may have been carried out
                    self._recovered.add(queue_id)
                raise
        # What became due after the record was last looked at, while calls were made, is due still.
        after = plan(queue, now=applied, timings=self._timings)
        if after.settle:
            return await self._settle(queue)
        waits = [self._launches.wait(queue_id)] if after.launch else []
        if {job.name for job, _ in after.delete} - {job.name for job, _ in todo.delete}:
            waits.append(0.0)  # decided by what this step's calls answered
        if after.wake_at is not None:
            waits.append(max(0.0, after.wake_at - self._clock.now()))
        return min(waits, default=None)

    def _answer(self, queue_id: str) -> None:
        """Whatever was said of a queue that has ended changes nothing; its bus waits for that to be said."""
        assert self._intake is not None
        self._intake.stored(self._intake.take(queue_id))

    async def _observe(self, queue: Queue) -> Sequence[WorkerStatus]:
        keys = [worker_key(queue, job) for job in live(queue) if may_have_worker(job)]
        return await self._runner.observe(keys) if keys else ()

    async def _apply(self, queue_id: str, observations: Sequence[Observation], *, looked: bool = True) -> Queue:
        """Write what was observed, with all that was said meanwhile and all that follows from both.

        `looked`: see `lifecycle.advance`.
        """
        assert self._intake is not None
        heard = self._bus.heard_until()  # first, so that the batch has what was said until then
        batch = self._intake.take(queue_id)
        try:
            record = await self._records.change(queue_id, self._transition(observations, batch, heard, looked))
        except NotFound:
            self._intake.stored(batch)
            raise
        except BaseException:
            self._intake.restore(queue_id, batch)
            raise
        self._intake.stored(batch)
        return record.queue

    def _transition(
        self, observations: Sequence[Observation], batch: Batch | None, heard: float, looked: bool
    ) -> Transition:
        assert self._outbox is not None
        outbox = self._outbox

        def transition(before: Queue) -> Queue:
            now, timings, queue = self._clock.now(), self._timings, before
            if batch is not None:
                queue = reduce(queue, Heard(batch.reports), now=now, timings=timings)
            for observation in observations:
                queue = reduce(queue, observation, now=now, timings=timings)
            queue = advance(
                queue, now=now, timings=timings, spec_hash=self._launch_specs.hash_of, heard=heard, looked=looked
            )
            if queue is before or queue == before:
                return before
            return replace(queue, published_revision=outbox.published(queue))  # costs no write of its own

        return transition

    async def _execute(self, queue: Queue, todo: Plan) -> list[Observation]:
        """Make the calls of a plan, side by side where they do not depend on each other; answer what they said."""
        calls: list[Awaitable[Sequence[Observation]]] = []
        if asyncio.get_running_loop().time() >= self._delete_after.get(queue.queue_id, 0.0):
            calls += [self._delete(queue, job, grace) for job, grace in todo.delete]
        if todo.send_stop:
            calls.append(self._tell_to_stop(queue))
        calls += [self._ask_lag(queue, job) for job in todo.ask_lag]
        if todo.launch and not self._launches.wait(queue.queue_id):
            calls.append(self._launch_all(queue, todo.launch, prepare=todo.prepare))
        answers = [answer for answers in await _all(calls) for answer in answers]
        told = {job.name for job, _ in todo.delete}
        relieved = [job for job in live(queue) if _is_held_up(job) and job.name not in told]
        return [*answers, *(Answered(worker_key(queue, job)) for job in relieved)]

    async def _launch_all(self, queue: Queue, jobs: Sequence[Job], *, prepare: bool) -> Sequence[Observation]:
        """Launch jobs side by side. What cannot be had now is tried again with backoff, whatever else wakes the queue."""
        try:
            if prepare:
                await self._bus.prepare(queue)
        except Unavailable as error:
            answers = _delayed(queue, jobs, f"the bus is not ready: {error.message}")
        else:
            answers = await self._launch(queue, jobs)
        delays = [answer.retry_after for answer in answers if isinstance(answer, Delayed)]
        if delays:
            self._launches.failed(queue.queue_id, at_least=max(delays))
        else:
            self._launches.clear(queue.queue_id)
        return answers

    async def _launch(self, queue: Queue, jobs: Sequence[Job]) -> list[Observation]:
        specs = [self._launch_specs(queue, job) for job in jobs]
        self._launching += 1
        try:
            outcomes = await asyncio.gather(*map(self._runner.launch, specs), return_exceptions=True)
        finally:
            self._launching -= 1
        started = [job for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, WorkerStatus)]
        if started:
            await self._announce(queue, started)
        await self._gather()
        return _without_failures(
            [self._launched(spec.key, outcome) for spec, outcome in zip(specs, outcomes, strict=True)]
        )

    def _launched(self, key: WorkerKey, outcome: WorkerStatus | Refused | BaseException) -> Observation | BaseException:
        """What a launch call has answered or raised, as what was observed; a bug is no observation."""
        if isinstance(outcome, Unavailable):
            self._instruments.launched("unavailable")
            unsure = not isinstance(outcome, Declined)
            return Delayed(key, outcome.message, unsure=unsure, retry_after=outcome.retry_after or 0.0)
        if not isinstance(outcome, BaseException):
            self._instruments.launched("refused" if isinstance(outcome, Refused) else "started")
        return outcome

    async def _gather(self) -> None:
        """Where many queues are launched at once, have them written down together, not each when its last answer comes.

        Every commit takes the event loop's time, which the calls that are under way wait for.
        """
        if self._launching >= MANY:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(GATHERING - now % GATHERING)

    async def _announce(self, queue: Queue, jobs: Iterable[Job]) -> None:
        """The per-job `start` records of contracts section 4, once the launches of a step are over.

        They are informative: a bus that is down does not matter, nor a server that ends before they are sent.
        """
        try:
            await self._bus.send(*[WorkerCommand(queue.queue_id, "start", _told_of_start(queue, job)) for job in jobs])
        except Unavailable as error:
            log.info("launches not announced", queue_id=queue.queue_id, error=error.message)

    async def _delete(self, queue: Queue, job: Job, grace: float) -> Sequence[Observation]:
        key = worker_key(queue, job)
        try:
            await self._runner.delete(key, grace=grace)
        except Unavailable as error:
            log.warning("deletion will be repeated", queue_id=queue.queue_id, job=job.name, error=error.message)
            if error.retry_after:
                self._delete_after[queue.queue_id] = asyncio.get_running_loop().time() + error.retry_after
            return (Delayed(key, error.message, unsure=False),)
        return (Answered(key),) if _is_held_up(job) else ()

    async def _ask_lag(self, queue: Queue, job: Job) -> Sequence[Observation]:
        try:
            lag = await self._bus.lag(queue, job)
        except Unavailable as error:
            log.info("lag not known", queue_id=queue.queue_id, job=job.name, error=error.message)
            lag = None
        return (Lag(job.name, lag),)

    async def _tell_to_stop(self, queue: Queue) -> Sequence[Observation]:
        loop = asyncio.get_running_loop()
        last = self._stop_sent.get(queue.queue_id)
        if last is not None and loop.time() < last + self._timings.stop_resend:
            return ()
        try:
            async with asyncio.timeout(self._timings.stop_resend):  # no longer: the step has more to do at the deadline
                await self._bus.send(WorkerCommand(queue.queue_id, "stop"))
            self._stop_sent[queue.queue_id] = loop.time()
        except (Unavailable, TimeoutError) as error:
            why = error.message if isinstance(error, Unavailable) else "the bus does not answer"
            log.warning("stop not sent; the deadline will end the workers", queue_id=queue.queue_id, error=why)
        return ()

    async def _settle(self, queue: Queue) -> float | None:
        """The queue has ended: once the runner and the outbox have no more to do for it, its record is closed."""
        assert self._outbox is not None
        launched = [job for job in queue.jobs if job.status.runner is not None]
        if launched:
            stopped = {worker_key(queue, job) for job in launched if job.status.ending is not None}
            await self._runner.release([worker_key(queue, job) for job in launched], stopped=stopped)
        published = self._outbox.published(queue)
        if published < queue.history_revision:
            return None  # the outbox wakes this queue when it is done

        def settle(current: Queue) -> Queue:
            if not current.ended or published < current.history_revision:
                return current
            return replace(current, settled=True, published_revision=published)

        record = await self._records.change(queue.queue_id, settle)
        if record.queue.settled:
            self._outbox.forget(queue.queue_id)
            self._forget(queue.queue_id)
        return None

    def _forget(self, queue_id: str) -> None:
        self._stop_sent.pop(queue_id, None)
        self._delete_after.pop(queue_id, None)
        self._launches.clear(queue_id)
        self._recovered.discard(queue_id)


async def _all(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all, also where one fails: then that failure is raised once none is under way any more."""
    return _without_failures(await asyncio.gather(*calls, return_exceptions=True))


def _without_failures(results: Iterable[T | BaseException]) -> list[T]:
    """The results; raises the first one that is a failure."""
    found: list[T] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


def _told_of_start(queue: Queue, job: Job) -> dict[str, str]:
    spec = job.spec
    return {
        "target": spec.target,
        "symbol": queue.spec.symbol,
        "type": spec.type,
        "time_range": queue.spec.time_range,
        "kafka_topic": spec.kafka_topic,
        "collection_name": spec.collection_name,
        "telemetry_id": spec.telemetry_id,
        "image": spec.image,
    }


def _delayed(queue: Queue, jobs: Iterable[Job], message: str) -> list[Observation]:
    """What these jobs wait for, for whose workers nothing was asked."""
    return [Delayed(worker_key(queue, job), message, unsure=False) for job in jobs]


def _is_held_up(job: Job) -> bool:
    """Whether it is said of a job that its worker, which there is, could not be looked at, or ended."""
    return job.status.state is not JobState.LAUNCHING and waits_for_runner(job.status)


def _never_launched(queue: Queue) -> list[Observation]:
    """The workers that are known not to be there, nor to come, while no launch is under way: a step may say so."""
    return [WorkerStatus(key=worker_key(queue, job), phase=Phase.ABSENT) for job in live(queue) if called_off(job)]
