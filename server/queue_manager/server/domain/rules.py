"""What follows from a queue's record and the time: limits, failure policy, gates, and the queue's own state.

The steps of `lifecycle.advance`, each pure. They decide that a worker is to be ended (`EndIntent`) or launched
(LAUNCHING); the doing, and the verdict once it is over, are elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec.structs import replace

from queue_manager.server.domain.model import (
    Dependency,
    DependencyCondition,
    Ending,
    EndIntent,
    FailurePolicy,
    Job,
    JobState,
    JobStatus,
    Lifetime,
    Queue,
    QueueState,
    Reads,
    Reason,
    StateReason,
    cut,
)
from queue_manager.server.domain.timings import Timings
from queue_manager.server.domain.verdict import conclude

BAD_ENDS = frozenset({JobState.FAILED, JobState.LOST, JobState.SKIPPED})
LIVE = frozenset({JobState.LAUNCHING, JobState.STARTING, JobState.RUNNING})


def with_jobs(queue: Queue, jobs: Sequence[Job]) -> Queue:
    """The queue with these jobs; itself, where they are those that it has."""
    for job, old in zip(jobs, queue.jobs, strict=True):
        if job is not old:
            return replace(queue, jobs=tuple(jobs))
    return queue


def feeders(queue: Queue, job: Job) -> list[Job]:
    """The jobs that write what this one reads."""
    if job.spec.reads is Reads.NONE:
        return []
    every = job.spec.reads is Reads.ALL
    return [
        other
        for other in queue.jobs
        if other.spec.feeds and other is not job and (every or other.spec.kafka_topic == job.spec.kafka_topic)
    ]


def feeders_ended(queue: Queue, job: Job) -> bool:
    """Whether nothing more will be written of what this job reads."""
    return all(other.ended for other in feeders(queue, job))


def drains_now(queue: Queue, job: Job) -> bool:
    """Whether this job's lag decides when it ends: it drains, it runs, and all that feed it have ended."""
    return (
        job.spec.lifetime is Lifetime.DRAINS
        and job.status.state is JobState.RUNNING
        and job.status.ending is None
        and job.status.worker_end_time is None
        and feeders_ended(queue, job)
    )


def apply_limits(queue: Queue, *, now: float, timings: Timings, looked: bool) -> Queue:
    """Decide to end workers that did not start in time, ran too long, linger, or have drained.

    `looked`: see `lifecycle.advance`.
    """

    def limit(job: Job) -> Job:
        if not looked and (job.status.state is JobState.STARTING or job.status.launch_unsure):
            return job  # it may run by now
        if job.ended or job.status.ending is not None or job.status.worker_end_time is not None:
            return job
        ending = _limit_reached(queue, job, now, timings)
        return job if ending is None else replace(job, status=replace(job.status, ending=ending))

    return with_jobs(queue, [limit(job) for job in queue.jobs])


def apply_policy(queue: Queue, *, now: float, timings: Timings) -> Queue:
    """With STOP_ALL, once a job has failed: end the others, but let those that drain read to the end."""
    if queue.spec.failure_policy is not FailurePolicy.STOP_ALL or queue.status.stop is not None:
        return queue
    culprit = _culprit(queue)
    if culprit is None:
        return queue
    text = f"{culprit.name} is {culprit.status.state}, and the failure policy is STOP_ALL"
    ending = EndIntent(why=Ending.POLICY, time=now, delete_at=now, grace=timings.delete_grace, message=text)

    def stop(job: Job) -> Job:
        status = job.status
        draining = job.spec.lifetime is Lifetime.DRAINS and status.state in LIVE
        if job.ended or status.worker_end_time is not None or status.ending is not None or draining:
            return job
        status = replace(status, ending=ending)
        if status.state is JobState.PENDING:
            state, reason = conclude(replace(job, status=status))
            status = replace(status, state=state, reason=reason, end_time=now)
        return replace(job, status=status)

    return with_jobs(queue, [stop(job) for job in queue.jobs])


def apply_gates(queue: Queue, *, now: float, spec_hash: Callable[[Queue, Job], str]) -> Queue:
    """Launch the jobs whose gates are open, skip those whose gates never will be, and say what the others wait for."""
    while True:
        jobs = [_gated(queue, job, now, spec_hash) for job in queue.jobs]
        skipped = any(a.ended and not b.ended for a, b in zip(jobs, queue.jobs, strict=True))
        queue = with_jobs(queue, jobs)
        if not skipped:
            return queue


def derive_state(queue: Queue, *, now: float) -> Queue:
    """The queue's own state, from its jobs'."""
    status = queue.status
    started = [job.status.start_time for job in queue.jobs if job.status.start_time is not None]
    if started and status.start_time is None:
        status = replace(status, start_time=min(started))
    if all(job.ended for job in queue.jobs):
        if status.state is QueueState.STOPPING:
            status = replace(status, state=QueueState.STOPPED, end_time=now)
        else:
            culprit = _culprit(queue)
            state = QueueState.FINISHED if culprit is None else QueueState.FAILED
            status = replace(status, state=state, reason=_reason(queue), end_time=now)
    elif status.state is not QueueState.STOPPING:
        state = QueueState.RUNNING if started else QueueState.PENDING
        status = replace(status, state=state, reason=_reason(queue))
    return queue if status == queue.status else replace(queue, status=status)


def _limit_reached(queue: Queue, job: Job, now: float, timings: Timings) -> EndIntent | None:
    status = job.status
    if status.state in {JobState.LAUNCHING, JobState.STARTING} and status.launch_time is not None:
        if now >= status.launch_time + queue.spec.start_timeout:
            waited = f": {status.reason.code}: {status.reason.message}" if status.reason else ""
            return _end_at(
                now, timings, Ending.START_TIMEOUT, f"it did not run within {queue.spec.start_timeout:g} s{waited}"
            )
        return None
    if status.state is not JobState.RUNNING:
        return None
    if job.spec.timeout is not None and status.start_time is not None and now >= status.start_time + job.spec.timeout:
        return _end_at(now, timings, Ending.DEADLINE, f"it ran longer than its timeout of {job.spec.timeout:g} s")
    if status.words.final_time is not None and now >= status.words.final_time + timings.linger_grace:
        said = f"it said '{status.words.final}' and did not exit within {timings.linger_grace:g} s"
        return _end_at(now, timings, Ending.LINGERED, said)
    if status.no_lag_since is not None and now >= status.no_lag_since + timings.drain_settle:
        return _end_at(now, timings, Ending.DRAINED, "everything that it reads has been read")
    return None


def _end_at(now: float, timings: Timings, why: Ending, message: str) -> EndIntent:
    return EndIntent(why=why, time=now, delete_at=now, grace=timings.delete_grace, message=cut(message))


def _gated(queue: Queue, job: Job, now: float, spec_hash: Callable[[Queue, Job], str]) -> Job:
    status = job.status
    if status.state is not JobState.PENDING:
        return job
    waiting = []
    for gate in job.spec.depends_on:
        other = queue.job(gate.job)
        if other is None or _is_open(gate, other.status):
            continue
        if other.ended:
            text = f"{gate.job} is {other.status.state}, and this job needs it to have {_verb(gate)}"
            reason = StateReason(code=Reason.DEPENDENCY_FAILED, message=text)
            return replace(job, status=replace(status, state=JobState.SKIPPED, reason=reason, end_time=now))
        waiting.append(f"{gate.job} to have {_verb(gate)}")
    if waiting:
        reason = StateReason(code=Reason.WAITING_FOR_DEPENDENCY, message=cut("waits for " + ", ".join(waiting)))
        return job if reason == status.reason else replace(job, status=replace(status, reason=reason))
    launching = replace(status, state=JobState.LAUNCHING, reason=None, launch_time=now, spec_hash=spec_hash(queue, job))
    return replace(job, status=launching)


def _is_open(gate: Dependency, status: JobStatus) -> bool:
    if gate.condition is DependencyCondition.STARTED:
        return status.start_time is not None
    return status.state is JobState.FINISHED


def _verb(gate: Dependency) -> str:
    return "started" if gate.condition is DependencyCondition.STARTED else "finished"


def _culprit(queue: Queue) -> Job | None:
    """The job whose bad end decides the queue's: the first to fail, skipped ones only where nothing else did."""
    bad = [job for job in queue.jobs if job.status.state in BAD_ENDS]
    return min(bad, key=lambda job: (job.status.state is JobState.SKIPPED, job.status.end_time or 0.0), default=None)


def _reason(queue: Queue) -> StateReason | None:
    culprit = _culprit(queue)
    if culprit is not None:
        reason = culprit.status.reason
        why = f": {reason.code}{': ' + reason.message if reason.message else ''}" if reason else ""
        return StateReason(code=Reason.JOB_FAILED, message=cut(f"{culprit.name} is {culprit.status.state}{why}"))
    for job in queue.jobs:
        reason = job.status.reason
        if reason is not None and waits_for_runner(job.status):
            return StateReason(code=reason.code, message=cut(f"{job.name}: {reason.message}"))
    return None


def waits_for_runner(status: JobStatus) -> bool:
    """Whether it is said of a job that its runner cannot be asked to launch it, or to end it."""
    return status.reason is not None and status.reason.code is Reason.WAITING_FOR_RUNNER
