"""A queue's life played by hand, as the controller would: one observation, then what follows from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from queue_manager.server.domain.launch import WorkerKey, worker_key
from queue_manager.server.domain.lifecycle import advance, reduce
from queue_manager.server.domain.model import (
    Dependency,
    FailurePolicy,
    Job,
    JobName,
    JobSpec,
    JobState,
    JobStatus,
    Lifetime,
    Queue,
    QueueId,
    QueueSpec,
    QueueState,
    QueueStatus,
    Reads,
    Reason,
    RunnerRef,
    StopMode,
)
from queue_manager.server.domain.observation import (
    Heard,
    Observation,
    Phase,
    StopRequested,
    WorkerStatus,
)
from queue_manager.server.domain.planning import Plan, plan
from queue_manager.server.domain.telemetry import Telemetry
from queue_manager.server.domain.timings import Timings

NOW = 1_722_500_000.0
QUEUE_ID = "wf-btcusdt-api-candles-5m-20240601-a1b2c3"
TIMINGS = Timings(launch_settle=4.0)


def spec(
    name: str,
    lifetime: Lifetime = Lifetime.FINITE,
    *,
    after: Sequence[Dependency] = (),
    type: str = "api_candles_5m",  # noqa: A002 - its name
    feeds: bool = False,
    reads: Reads = Reads.NONE,
    topic: str = "topic",
    timeout: float | None = None,
) -> JobSpec:
    """A job's specification."""
    return JobSpec(
        name=JobName(name),
        target=name,
        type=type,
        telemetry_id=f"{name}__a1b2c3",
        kafka_topic=topic,
        image="image",
        lifetime=lifetime,
        depends_on=tuple(after),
        timeout=timeout,
        feeds=feeds,
        reads=reads,
    )


def queue_of(
    *jobs: JobSpec,
    attempt: int = 1,
    policy: FailurePolicy = FailurePolicy.KEEP_GOING,
    start_timeout: float = 600.0,
) -> Queue:
    """A queue of these jobs, not yet advanced."""
    return Queue(
        spec=QueueSpec(
            queue_id=QueueId(QUEUE_ID),
            symbol="BTCUSDT",
            create_time=NOW,
            start_timeout=start_timeout,
            failure_policy=policy,
        ),
        status=QueueStatus(update_time=NOW),
        jobs=tuple(Job(spec=job, status=JobStatus(create_time=NOW, attempt=attempt)) for job in jobs),
    )


def spec_hash(queue: Queue, job: Job) -> str:
    """Stands for the hash of what is launched."""
    return f"hash of {job.name}"


class Play:
    """A queue, a clock, and what happens."""

    def __init__(self, *jobs: JobSpec, timings: Timings = TIMINGS, **fields: Any) -> None:
        self.timings = timings
        self.now = NOW
        self.heard = math.inf
        self.queue = queue_of(*jobs, **fields)
        self.advance()

    def __getitem__(self, name: str) -> JobStatus:
        """How a job stands."""
        job = self.queue.job(name)
        assert job is not None
        return job.status

    @property
    def state(self) -> QueueState:
        """The queue's own."""
        return self.queue.status.state

    def states(self) -> list[JobState]:
        """All jobs'."""
        return [job.status.state for job in self.queue.jobs]

    def plan(self) -> Plan:
        """What is to be done now."""
        return plan(self.queue, now=self.now, timings=self.timings)

    def advance(self) -> None:
        """Draw the consequences."""
        self.queue = advance(self.queue, now=self.now, timings=self.timings, spec_hash=spec_hash, heard=self.heard)

    def observe(self, *observations: Observation) -> None:
        """Take something in, and draw the consequences."""
        for observation in observations:
            self.queue = reduce(self.queue, observation, now=self.now, timings=self.timings)
        self.advance()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
        self.advance()

    def key(self, name: str, attempt: int | None = None) -> WorkerKey:
        """A job's worker."""
        job = self.queue.job(name)
        assert job is not None
        if attempt is not None:
            job = replace(job, status=replace(job.status, attempt=attempt))
        return worker_key(self.queue, job)

    def seen(self, name: str, phase: Phase, *, attempt: int | None = None, uid: str = "uid", **fields: Any) -> None:
        """The runner says how a job's worker stands."""
        key = self.key(name, attempt)
        ref = None if phase is Phase.ABSENT else RunnerRef(runner="test", name=key.name, uid=uid)
        fields.setdefault("spec_hash", f"hash of {name}")
        self.observe(WorkerStatus(key=key, phase=phase, ref=ref, **fields))

    def runs(self, *names: str) -> None:
        """Workers are launched and run."""
        for name in names:
            self.seen(name, Phase.RUNNING)

    def exits(self, name: str, code: int | None = 0, **fields: Any) -> None:
        """A worker has ended, and all that it said was heard before."""
        fields = {"end_time": self.now, "telemetry_complete": True, **fields}
        self.seen(name, Phase.ENDED, exit_code=code, **fields)

    def gone(self, name: str) -> None:
        """There is no worker of that name."""
        self.seen(name, Phase.ABSENT)

    def says(self, name: str | None, status: str, *, final: bool = False, **fields: Any) -> None:
        """A worker says something."""
        who = None if name is None else f"{name}__a1b2c3"
        fields = {"time": self.now, "record_time": self.now, **fields}
        self.observe(Heard([Telemetry(status=status, telemetry_id=who, queue_id=QUEUE_ID, final=final, **fields)]))

    def stop(self, mode: StopMode = StopMode.GRACEFUL, grace: float = 30.0, reason: str = "enough") -> None:
        """Somebody wants it stopped."""
        self.observe(StopRequested(mode=mode, grace_period=grace, reason=reason, by="alice"))

    def code(self, name: str) -> Reason | None:
        """The reason of a job's state."""
        reason = self[name].reason
        return reason.code if reason else None


def running(*jobs: JobSpec, **fields: Any) -> Play:
    """A queue whose jobs all run."""
    play = Play(*jobs, **fields)
    play.runs(*(job.name for job in jobs))
    return play
