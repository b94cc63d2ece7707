"""Where states change, and nowhere else.

`reduce` takes in one observation. `advance` then does what follows from the record and the time alone: verdicts that are
due, timeouts, the failure policy, gates, the queue's own state. Both are pure and idempotent: the same observation again,
or one that comes late, changes nothing. Terminal job states are never left. What to do about a state is `planning`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

from msgspec.structs import replace

from queue_manager.server.domain.model import (
    Ending,
    EndIntent,
    Job,
    JobState,
    JobStatus,
    Queue,
    QueueState,
    Reason,
    StateReason,
    Stop,
    StopMode,
    cut,
)
from queue_manager.server.domain.observation import (
    Answered,
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
from queue_manager.server.domain.rules import (
    apply_gates,
    apply_limits,
    apply_policy,
    derive_state,
    feeders_ended,
    waits_for_runner,
    with_jobs,
)
from queue_manager.server.domain.telemetry import Telemetry, resolve
from queue_manager.server.domain.timings import Timings
from queue_manager.server.domain.verdict import conclude, hear

SpecHash = Callable[[Queue, Job], str]

LATE: Final = "it is not there, but a launch call that had no answer may still start it; it is over once none can"
"""What is said of a job that is to be ended, while it waits for `launch_settle`."""


def reduce(queue: Queue, observation: Observation, *, now: float, timings: Timings) -> Queue:
    """The queue after one observation."""
    match observation:
        case WorkerStatus(key=key):
            return _update(queue, key.job, lambda job: _seen(job, observation, now, timings))
        case Refused(key=key, reason=reason):
            return _update(queue, key.job, lambda job: _refused(job, key.attempt, reason, now, timings))
        case Delayed(key=key):
            return _update(queue, key.job, lambda job: _delayed(job, observation))
        case Answered(key=key):
            return _update(queue, key.job, lambda job: _answered(job, key.attempt))
        case Recovered():
            return replace(queue, jobs=tuple(_unsure(job) for job in queue.jobs))
        case Heard(reports=reports):
            return _heard(queue, reports, now)
        case Lag(job=name, lag=lag):
            return _update(queue, name, lambda job: _lag(queue, job, lag, now))
        case StopRequested():
            return _stop_requested(queue, observation, now, timings)


def advance(
    queue: Queue,
    *,
    now: float,
    timings: Timings,
    spec_hash: SpecHash,
    heard: float = math.inf,
    looked: bool = True,
) -> Queue:
    """The queue after everything that follows from its record and the time. `spec_hash` names what would be launched.

    `heard`: what workers have said up to then has been taken in. `looked`: how they stand has just been seen; else one of
    them may have got further than its record, also in time.
    """
    if queue.ended:
        return queue
    patience = math.inf if queue.status.stop is None else queue.status.stop.deadline
    queue = with_jobs(queue, [_conclude_if_due(job, now, timings, heard, patience) for job in queue.jobs])
    queue = apply_limits(queue, now=now, timings=timings, looked=looked)
    queue = apply_policy(queue, now=now, timings=timings)
    queue = apply_gates(queue, now=now, spec_hash=spec_hash)
    return derive_state(queue, now=now)


def _update(queue: Queue, name: str, change: Callable[[Job], JobStatus]) -> Queue:
    """The queue with one job's status changed; a job that has ended, or that there is not, is left alone."""
    for index, job in enumerate(queue.jobs):
        if job.spec.name == name:
            if job.ended or (status := change(job)) is job.status:
                return queue
            jobs = (*queue.jobs[:index], replace(job, status=status), *queue.jobs[index + 1 :])
            return replace(queue, jobs=jobs)
    return queue


def _end(job: Job, status: JobStatus, now: float) -> JobStatus:
    """The status of a job whose worker is over: with its verdict."""
    state, reason = conclude(replace(job, status=status))
    return replace(status, state=state, reason=reason, end_time=now)


def _seen(job: Job, seen: WorkerStatus, now: float, timings: Timings) -> JobStatus:
    status = job.status
    if seen.key.attempt != status.attempt or status.state is JobState.PENDING:
        return status
    other = seen.ref is not None and status.runner is not None and seen.ref.uid != status.runner.uid
    if seen.phase is Phase.ABSENT or other:
        return _gone(job, now, timings)
    if status.state is JobState.LAUNCHING:
        if seen.spec_hash != status.spec_hash:
            if status.ending is not None:
                return _end(job, status, now)
            text = (
                f"a worker named {seen.key.name} exists with another specification; remove it, then start a new queue"
            )
            reason = StateReason(code=Reason.CONFIG_ERROR, message=text)
            return replace(status, state=JobState.FAILED, reason=reason, end_time=now)
        status = replace(status, state=JobState.STARTING, reason=None, runner=seen.ref, accept_time=now)
    if seen.phase is Phase.WAITING:
        return _waits(status, seen, now)
    if status.state is JobState.STARTING:
        start = seen.start_time if seen.start_time is not None else now
        runner = seen.ref or status.runner
        status = replace(status, state=JobState.RUNNING, reason=None, start_time=start, runner=runner)
    if seen.phase is Phase.ENDED:
        if status.ending is not None and seen.end_time is not None and seen.end_time < status.ending.since:
            status = replace(status, ending=None)  # it had ended by itself before that was decided
        if status.worker_end_time is None:
            status = replace(status, worker_end_time=now, exit_code=seen.exit_code, exit_reason=seen.reason)
        if seen.telemetry_complete:
            return _end(job, status, now)
    return status


def _waits(status: JobStatus, seen: WorkerStatus, now: float) -> JobStatus:
    if status.state is not JobState.STARTING:
        return status
    if seen.reason != status.reason and (seen.reason is not None or status.ending is None):
        status = replace(status, reason=seen.reason)  # what it is ended for stands until it is over
    if seen.hopeless and seen.reason is not None and status.ending is None:
        why, reason = Ending.REFUSED, seen.reason
        ending = EndIntent(why=why, time=now, delete_at=now, grace=0.0, message=reason.message, code=reason.code)
        status = replace(status, ending=ending)
    return status


def _gone(job: Job, now: float, timings: Timings) -> JobStatus:
    """There is no worker of that name. Before its launch was confirmed that says nothing, unless it can no more come."""
    status = job.status
    if status.state is JobState.LAUNCHING:
        if (ending := status.ending) is None:
            return status
        settled = not status.launch_unsure or now >= ending.time + timings.launch_settle
        return _end(job, status, now) if settled else _waiting(status, LATE)
    return _end(job, status, now)


def _conclude_if_due(job: Job, now: float, timings: Timings, heard: float, patience: float) -> Job:
    """A worker has ended, but what it said comes another way: its last word is waited for, up to a grace.

    The grace is for a word that is on its way; one that cannot be read yet is waited for longer, not beyond `patience`.
    """
    status = job.status
    if job.ended or status.worker_end_time is None:
        return job
    unexplained = status.words.interrupted and status.ending is None  # a stop that it has heard may be on its way to us
    nothing_to_wait_for = status.exit_code != 0 or (bool(status.words.final) and not unexplained)
    due = status.worker_end_time + timings.verdict_grace
    if heard < status.worker_end_time:
        due = max(due, min(patience, status.worker_end_time + timings.verdict_patience))
    if nothing_to_wait_for or now >= due:
        return replace(job, status=_end(job, status, now))
    return job


def _refused(job: Job, attempt: int, reason: StateReason, now: float, timings: Timings) -> JobStatus:
    """It will not be launched; but an earlier call may have been, so its absence is confirmed before it is FAILED."""
    status = job.status
    if attempt != status.attempt or status.state is not JobState.LAUNCHING or status.ending is not None:
        return status
    ending = EndIntent(
        why=Ending.REFUSED,
        time=now,
        delete_at=now,
        grace=timings.delete_grace,
        message=reason.message,
        code=reason.code,
    )
    status = replace(status, reason=reason, ending=ending)
    return status if status.launch_unsure else _end(job, status, now)


def _unsure(job: Job) -> Job:
    if job.status.state is not JobState.LAUNCHING or job.status.launch_unsure:
        return job
    return replace(job, status=replace(job.status, launch_unsure=True))


def _delayed(job: Job, delayed: Delayed) -> JobStatus:
    status = job.status
    launching = status.state is JobState.LAUNCHING
    if delayed.key.attempt != status.attempt or not (launching or status.ending is not None):
        return status
    if launching and delayed.unsure and not status.launch_unsure:
        status = replace(status, launch_unsure=True)
    return _waiting(status, delayed.message)


def _waiting(status: JobStatus, message: str) -> JobStatus:
    """It waits for the runner, for this. What a worker is ended for stands until it is over."""
    if status.ending is not None and status.reason is not None and not waits_for_runner(status):
        return status
    return replace(status, reason=StateReason(code=Reason.WAITING_FOR_RUNNER, message=cut(message)))


def _answered(job: Job, attempt: int) -> JobStatus:
    status = job.status
    return replace(status, reason=None) if attempt == status.attempt and waits_for_runner(status) else status


def _lag(queue: Queue, job: Job, lag: int | None, now: float) -> JobStatus:
    status = job.status
    idle = lag == 0 and feeders_ended(queue, job)
    since = (status.no_lag_since if status.no_lag_since is not None else now) if idle else None
    return status if since == status.no_lag_since else replace(status, no_lag_since=since)


def _heard(queue: Queue, reports: Sequence[Telemetry], now: float) -> Queue:
    """Telemetry in the order in which it came. There may be thousands of messages, so the queue is made anew once."""
    applied = dict(queue.applied)
    places = {job.spec.telemetry_id: place for place, job in enumerate(queue.jobs)}
    statuses = [job.status for job in queue.jobs]
    text = ""
    for report in reports:
        if report.position is not None:
            if report.position <= applied.get(report.source, -1):
                continue
            applied[report.source] = report.position
        place = places.get(report.telemetry_id) if report.telemetry_id is not None else _only(queue, report)
        if place is None:
            text = report.error or report.message or text
        elif not queue.jobs[place].ended:
            statuses[place] = _said(statuses[place], report, now)
    jobs = tuple(
        job if new is job.status else replace(job, status=new) for new, job in zip(statuses, queue.jobs, strict=True)
    )
    status = replace(queue.status, message=cut(text)) if text and not queue.ended else queue.status
    return replace(queue, applied=applied, jobs=jobs, status=status)


def _only(queue: Queue, report: Telemetry) -> int | None:
    """The place of the job that a message is about which does not say who it is from."""
    name = resolve(queue, report)
    return next((place for place, job in enumerate(queue.jobs) if job.name == name), None)


def _said(status: JobStatus, report: Telemetry, now: float) -> JobStatus:
    if status.state is JobState.PENDING or (status.attempt > 1 and report.time < status.create_time):
        return (
            status  # an earlier attempt's; the first has no earlier one, so there an older time is a clock that is off
        )
    last = status.last_telemetry_time
    newest = last is None or report.time >= last
    is_error = report.status == "error"
    return replace(
        status,
        words=hear(status.words, report, now),
        records_written=max(status.records_written, report.records_written or 0),
        progress=report.progress if newest and report.progress is not None else status.progress,
        message=cut(report.message) if newest and report.message else status.message,
        last_error=cut(report.error or report.message or status.last_error) if is_error else status.last_error,
        error_count=status.error_count + is_error,
        last_telemetry_time=report.time if newest else last,
    )


def _stop_requested(queue: Queue, wish: StopRequested, now: float, timings: Timings) -> Queue:
    if queue.ended:
        return queue
    force = wish.mode is StopMode.FORCE
    deadline = now if force else now + wish.grace_period
    stop = queue.status.stop
    if stop is None:
        stop = Stop(mode=wish.mode, time=now, deadline=deadline, reason=cut(wish.reason), by=wish.by)
    elif force and stop.mode is not StopMode.FORCE:
        stop = replace(stop, mode=StopMode.FORCE, deadline=min(deadline, stop.deadline))
    elif deadline < stop.deadline:
        stop = replace(stop, deadline=deadline)
    grace = 0.0 if stop.mode is StopMode.FORCE else timings.delete_grace
    text = f"stopped by {stop.by}" + (f": {stop.reason}" if stop.reason else "")
    asked_at = math.inf if wish.asked_at is None else wish.asked_at

    def intend(job: Job) -> Job:
        status = job.status
        ended_at = status.worker_end_time
        if job.ended or (ended_at is not None and ended_at < asked_at):
            return job  # by itself; only its last word is awaited
        ending = status.ending or EndIntent(
            why=Ending.STOP, time=now, delete_at=stop.deadline, grace=grace, message=text, asked_at=wish.asked_at
        )
        ending = replace(ending, delete_at=min(ending.delete_at, stop.deadline), grace=min(ending.grace, grace))
        status = status if ending == status.ending else replace(status, ending=ending)
        if status.state is JobState.PENDING:
            return replace(job, status=_end(job, status, now))
        return job if status is job.status else replace(job, status=status)

    state = replace(
        queue.status,
        state=QueueState.STOPPING,
        reason=StateReason(code=Reason.STOPPED_BY_USER, message=text),
        stop=stop,
    )
    return replace(queue, status=state, jobs=tuple(intend(job) for job in queue.jobs))
