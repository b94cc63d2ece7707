"""Random walks over the whole state machine: observations of every kind, in any order, late and twice.

After each step the rules that hold for every queue are checked, and that what history keeps gives back the past. A second
walk plays a world that only does what it is told, from one `wake_at` to the next: every queue comes to its end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from queue_manager.server.domain.history import Entry, compact, record, replay
from queue_manager.server.domain.launch import worker_key
from queue_manager.server.domain.lifecycle import advance, reduce
from queue_manager.server.domain.model import (
    TERMINAL_JOB_STATES,
    TERMINAL_QUEUE_STATES,
    Dependency,
    DependencyCondition,
    FailurePolicy,
    Job,
    JobSpec,
    JobState,
    Lifetime,
    Queue,
    QueueState,
    Reads,
    Reason,
    RunnerRef,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.observation import (
    Delayed,
    Heard,
    Lag,
    Observation,
    Phase,
    Recovered,
    Refused,
    StopRequested,
    WorkerStatus,
)
from queue_manager.server.domain.planning import plan
from queue_manager.server.domain.telemetry import Telemetry
from queue_manager.server.domain.timings import Timings
from tests.unit.domain.play import NOW, QUEUE_ID, queue_of, spec, spec_hash

ORDER = [JobState.PENDING, JobState.LAUNCHING, JobState.STARTING, JobState.RUNNING]
QUEUE_ORDER = [QueueState.PENDING, QueueState.RUNNING, QueueState.STOPPING]
KEEP = 3


@st.composite
def job_specs(draw: st.DrawFn, *, timeouts: bool = False) -> list[JobSpec]:
    """Jobs with gates on each other, feeders and readers among them."""
    count = draw(st.integers(1, 4))
    specs: list[JobSpec] = []
    for number in range(count):
        lifetime = draw(st.sampled_from(Lifetime))
        others = draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True)) if number else []
        specs.append(
            spec(
                f"job-{number}",
                lifetime,
                after=[
                    Dependency(job=specs[other].name, condition=draw(st.sampled_from(DependencyCondition)))
                    for other in others
                ],
                type=draw(st.sampled_from(["api_trades", "gnn_train"])),
                feeds=draw(st.booleans()),
                reads=draw(st.sampled_from(Reads)) if lifetime is Lifetime.DRAINS else Reads.NONE,
                topic=draw(st.sampled_from(["x", "y"])),
                timeout=draw(st.sampled_from([20.0, 200.0] if timeouts else [None, 20.0])),
            )
        )
    return specs


ANY_JOB = st.integers(0, 3)
ANY_ATTEMPT = st.sampled_from([2, 2, 2, 2, 1, 3])
EXIT_CODES = st.sampled_from([0, 0, 0, 1])
REASONS = st.sampled_from([None, StateReason(code=Reason.UNSCHEDULABLE, message="no node")])


class AnyOrder(RuleBasedStateMachine):
    """Whatever is observed, and whenever."""

    @initialize(
        specs=job_specs(),
        policy=st.sampled_from(FailurePolicy),
        settle=st.sampled_from([0.0, 4.0]),
    )
    def start(self, specs: list[JobSpec], policy: FailurePolicy, settle: float) -> None:
        self.timings = Timings(launch_settle=settle)
        self.now = NOW
        self.positions = {"p": 0, "q": 0}
        self.kept: list[Queue] = []
        self.entries: list[Entry] = []
        self.compacted: list[Entry] = []
        self.published = self.checked = 0
        queue = queue_of(*specs, policy=policy, start_timeout=60.0, attempt=2)
        self._record(None, self._advance(queue))

    # --- what happens ---

    @rule(seconds=st.sampled_from([0.0, 0.5, 2.0, 2.0, 5.0, 30.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self._record(self.queue, self._advance(self.queue))

    @rule(
        job=ANY_JOB,
        attempt=ANY_ATTEMPT,
        phase=st.sampled_from(Phase),
        uid=st.sampled_from(["uid", "uid", "uid", "uid", "other"]),
        known=st.sampled_from([True, True, True, True, False]),
        code=st.sampled_from([0, 0, 1, 137, None]),
        ago=st.sampled_from([None, 0.0, 3.0, 100.0]),
        reason=REASONS,
        complete=st.booleans(),
    )
    def worker_is_seen(
        self,
        job: int,
        attempt: int,
        phase: Phase,
        uid: str,
        known: bool,
        code: int | None,
        ago: float | None,
        reason: StateReason | None,
        complete: bool,
    ) -> None:
        target = self._job(job)
        key = worker_key(self.queue, replace(target, status=replace(target.status, attempt=attempt)))
        ended = phase is Phase.ENDED
        self._observe(
            WorkerStatus(
                key=key,
                phase=phase,
                ref=None if phase is Phase.ABSENT else RunnerRef(runner="test", name=key.name, uid=uid),
                spec_hash=spec_hash(self.queue, target) if known else "another",
                exit_code=code if ended else None,
                reason=reason,
                start_time=None if ago is None else self.now - ago,
                end_time=None if ago is None or not ended else self.now - ago,
                telemetry_complete=ended and complete,
            )
        )

    @rule(jobs=st.sets(ANY_JOB, min_size=1), phase=st.sampled_from([Phase.RUNNING, Phase.ENDED]), code=EXIT_CODES)
    def workers_go_on(self, jobs: set[int], phase: Phase, code: int) -> None:
        """What mostly happens: without it hardly a walk would come far."""
        for job in map(self._job, sorted(jobs)):
            key = worker_key(self.queue, job)
            self._observe(
                WorkerStatus(
                    key=key,
                    phase=phase,
                    ref=RunnerRef(runner="test", name=key.name, uid="uid"),
                    spec_hash=spec_hash(self.queue, job),
                    exit_code=code if phase is Phase.ENDED else None,
                    telemetry_complete=phase is Phase.ENDED,
                )
            )

    @precondition(lambda self: self.now > NOW + 1)
    @rule(job=ANY_JOB, attempt=ANY_ATTEMPT)
    def launch_is_refused(self, job: int, attempt: int) -> None:
        reason = StateReason(code=Reason.CONFIG_ERROR, message="no")
        target = self._job(job)
        key = worker_key(self.queue, replace(target, status=replace(target.status, attempt=attempt)))
        self._observe(Refused(key, reason))

    @rule(job=ANY_JOB, attempt=ANY_ATTEMPT)
    def launch_is_delayed(self, job: int, attempt: int) -> None:
        target = self._job(job)
        key = worker_key(self.queue, replace(target, status=replace(target.status, attempt=attempt)))
        self._observe(Delayed(key, "later"))

    @rule()
    def manager_starts_anew(self) -> None:
        self._observe(Recovered())

    @rule(
        job=st.one_of(st.none(), ANY_JOB),
        status=st.sampled_from(["started", "loading", "finished", "interrupted", "error", "pong", "else", ""]),
        final=st.booleans(),
        records=st.one_of(st.none(), st.integers(0, 1000)),
        ago=st.sampled_from([0.0, 0.0, 1.0, 1000.0]),
        source=st.sampled_from(["p", "q"]),
        back=st.sampled_from([0, 0, 0, 1, 3]),
    )
    def worker_says(
        self,
        job: int | None,
        status: str,
        final: bool,
        records: int | None,
        ago: float,
        source: str,
        back: int,
    ) -> None:
        self.positions[source] += 1
        report = Telemetry(
            status=status,
            telemetry_id=None if job is None else self._job(job).spec.telemetry_id,
            queue_id=QUEUE_ID,
            time=self.now - ago,
            record_time=self.now - ago,
            final=final,
            type="gnn_train",
            records_written=records,
            progress=None if records is None else records / 1000,
            message=f"message {records}",
            error="broken" if status == "error" else None,
            source=source,
            position=self.positions[source] - back,
        )
        self._observe(Heard([report]))

    @rule(job=ANY_JOB, lag=st.sampled_from([0, 0, 0, 7, None]))
    def lag_is_known(self, job: int, lag: int | None) -> None:
        if self._job(job).spec.lifetime is Lifetime.DRAINS:
            self._observe(Lag(self._job(job).name, lag))

    @precondition(lambda self: self.now > NOW + 10)
    @rule(mode=st.sampled_from(StopMode), grace=st.sampled_from([0.0, 30.0]))
    def stop_is_wanted(self, mode: StopMode, grace: float) -> None:
        self._observe(StopRequested(mode=mode, grace_period=grace, reason="enough", by="alice"))

    @rule()
    def events_are_published(self) -> None:
        self.published = self.queue.revision

    # --- what holds ---

    @invariant()
    def a_queue_is_terminal_exactly_when_all_its_jobs_are(self) -> None:
        assert self.queue.ended == all(job.ended for job in self.queue.jobs)

    @invariant()
    def every_end_has_a_time_and_every_bad_end_a_reason(self) -> None:
        for job in self.queue.jobs:
            assert job.ended == (job.status.end_time is not None)
            if job.ended and job.status.state is not JobState.FINISHED:
                assert job.status.reason is not None
        if self.queue.status.state is QueueState.FAILED:
            assert self.queue.status.reason is not None
            assert any(job.name in self.queue.status.reason.message for job in self.queue.jobs)

    @invariant()
    def a_plan_calls_only_for_what_is_recorded(self) -> None:
        todo = plan(self.queue, now=self.now, timings=self.timings)
        assert all(job.status.state is JobState.LAUNCHING and job.status.spec_hash for job in todo.launch)
        assert all(not job.ended and job.status.ending for job, _ in todo.delete)
        assert not {job.name for job in todo.launch} & {job.name for job, _ in todo.delete}
        assert todo.wake_at is None or todo.wake_at > self.now
        assert not todo.send_stop or self.queue.status.stop is not None

    @invariant()
    def history_gives_back_every_kept_revision(self) -> None:
        if self.checked == self.queue.revision:
            return
        self.checked = self.queue.revision
        assert [_visible(past) for past, _ in replay(self.queue, self.entries)] == [_visible(q) for q in self.kept]
        revisions = [entry.revision for entry in self.compacted]
        assert revisions == [q.revision for q in self.kept][-len(revisions) :]
        newest = self.kept[-len(revisions) :]
        assert [_visible(past) for past, _ in replay(self.queue, self.compacted)] == [_visible(q) for q in newest]
        assert {e.revision for e in self.entries if e.revision > self.published} <= set(revisions)

    # --- how ---

    def _job(self, number: int) -> Job:
        return self.queue.jobs[number % len(self.queue.jobs)]

    def _advance(self, queue: Queue) -> Queue:
        once = advance(queue, now=self.now, timings=self.timings, spec_hash=spec_hash)
        assert advance(once, now=self.now, timings=self.timings, spec_hash=spec_hash) == once, "advanced twice"
        return once

    def _observe(self, observation: Observation) -> None:
        once = reduce(self.queue, observation, now=self.now, timings=self.timings)
        assert reduce(once, observation, now=self.now, timings=self.timings) == once, "observed twice"
        after = self._advance(once)
        self._record(self.queue, after)

    def _record(self, before: Queue | None, after: Queue) -> None:
        if before is not None:
            _check_step(before, after)
            if replace(after, applied=before.applied) == before:
                self.queue = after
                return
        queue, event, entry = record(before, after, now=self.now)
        assert event.revision == queue.revision == (before.revision if before else 0) + 1
        self.queue = queue
        if entry is not None:
            self.entries.append(entry)
            self.kept.append(queue)
            self.compacted = compact([*self.compacted, entry], KEEP, published=self.published)


def _visible(queue: Queue) -> tuple[Any, ...]:
    return queue.revision, queue.status, queue.jobs


def _check_step(before: Queue, after: Queue) -> None:
    was, now = before.status.state, after.status.state
    if was in TERMINAL_QUEUE_STATES:
        assert after.status == before.status
    elif now in QUEUE_ORDER:
        assert QUEUE_ORDER.index(now) >= QUEUE_ORDER.index(was)
    else:
        assert (now is QueueState.STOPPED) == (after.status.stop is not None)
    for old, new in zip(before.jobs, after.jobs, strict=True):
        where = f"{old.name}: {old.status.state} → {new.status.state}"
        assert new.spec is old.spec
        if old.ended:
            assert new.status == old.status, where
        elif new.status.state not in TERMINAL_JOB_STATES:
            assert ORDER.index(new.status.state) >= ORDER.index(old.status.state), where
        assert new.status.records_written >= old.status.records_written, where
        assert new.status.error_count >= old.status.error_count, where
        assert new.status.attempt == old.status.attempt, where
        assert old.status.runner is None or new.status.runner == old.status.runner, where
        assert old.status.start_time is None or new.status.start_time == old.status.start_time, where


AnyOrder.TestCase.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
TestAnyOrder = AnyOrder.TestCase


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    specs=job_specs(timeouts=True),
    policy=st.sampled_from(FailurePolicy),
    settle=st.sampled_from([0.0, 4.0]),
    deaf=st.booleans(),
    data=st.data(),
)
def test_from_one_wake_to_the_next_every_queue_comes_to_its_end(
    specs: list[JobSpec], policy: FailurePolicy, settle: float, deaf: bool, data: st.DataObject
) -> None:
    """Workers do nothing but start (or not even that) and end when they are deleted: time alone does the rest."""
    timings = Timings(launch_settle=settle)
    now, queue = NOW, queue_of(*specs, policy=policy, start_timeout=60.0)
    starts = {job.name: data.draw(st.booleans(), label=f"{job.name} starts") for job in queue.jobs}
    deleted: set[str] = set()
    stop_at = data.draw(st.sampled_from([None, 1, 3]), label="stopped at step")
    for step in range(200):
        observations: list[Observation] = []
        if step == stop_at:
            observations.append(StopRequested(mode=StopMode.GRACEFUL, grace_period=30.0, reason="", by=""))
        observations += [
            _look(queue, job, starts=starts[job.name], deleted=job.name in deleted)
            for job in queue.jobs
            if job.status.state in ORDER[1:]
        ]
        for observation in observations:
            queue = reduce(queue, observation, now=now, timings=timings)
        queue = advance(queue, now=now, timings=timings, spec_hash=spec_hash)
        todo = plan(queue, now=now, timings=timings)
        if queue.ended:
            assert todo.settle
            return
        deleted |= {job.name for job, _ in todo.delete}
        for job in todo.ask_lag:
            queue = reduce(queue, Lag(job.name, 0), now=now, timings=timings)
        wake_at = plan(queue, now=now, timings=timings).wake_at
        news = not deaf and any(
            starts[job.name] and (job.status.state is JobState.LAUNCHING or job.name in deleted)
            for job in queue.jobs
            if not job.ended
        )  # the runner has something to tell before the time comes
        assert wake_at is not None or news, f"nothing is due, but {[job.status.state for job in queue.jobs]}"
        now = now + 0.1 if wake_at is None or news else wake_at
    raise AssertionError(f"it does not come to its end: {[job.status.state for job in queue.jobs]}")


def _look(queue: Queue, job: Job, *, starts: bool, deleted: bool) -> WorkerStatus:
    key = worker_key(queue, job)
    if not starts:
        return WorkerStatus(key=key, phase=Phase.ABSENT)
    return WorkerStatus(
        key=key,
        phase=Phase.ENDED if deleted else Phase.RUNNING,
        ref=RunnerRef(runner="test", name=key.name, uid=key.name),
        spec_hash=spec_hash(queue, job),
        exit_code=143 if deleted else None,
        telemetry_complete=deleted,
    )
