"""What to do next for a queue: the only place that decides it.

`plan` is pure: from the record and the time it says which calls would bring the world closer to the record, and when to
look again at the latest. Every call may be repeated, so a plan made twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from queue_manager.server.domain.model import EndIntent, Job, JobState, Queue, QueueState, StopMode
from queue_manager.server.domain.rules import LIVE, drains_now
from queue_manager.server.domain.timings import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The calls to make now, and when to look again."""

    prepare: bool = False
    """The bus is to be made ready first: a launch is due and none of the queue's workers run."""
    launch: tuple[Job, ...] = ()
    delete: tuple[tuple[Job, float], ...] = ()
    """Workers to end, each with its grace in seconds."""
    send_stop: bool = False
    """The stop command is to be sent, at most once every `stop_resend`."""
    ask_lag: tuple[Job, ...] = ()
    settle: bool = False
    """It has ended: results are to be released at the runner, and the record closed once its events are out."""
    wake_at: float | None = None
    """When something is due by time alone, UTC epoch seconds."""


def live(queue: Queue) -> list[Job]:
    """The jobs that may have a worker."""
    return [job for job in queue.jobs if job.status.state in LIVE]


def is_due(job: Job) -> bool:
    """Whether its worker is to be launched; where it was launched before without that we know, launching finds it."""
    return job.status.state is JobState.LAUNCHING and job.status.ending is None


def may_have_worker(job: Job) -> bool:
    """Whether a live job's worker may be there: a launch of it was answered, or may have been carried out all the same.

    Such a one is looked for before it is launched again, which may be refused by now.
    """
    return job.status.state is not JobState.LAUNCHING or job.status.launch_unsure


def called_off(job: Job) -> bool:
    """Whether a live job's launch was given up before one can have taken effect: it is over, and nobody need be asked."""
    return not may_have_worker(job) and not is_due(job)


def delete_at(job: Job, ending: EndIntent, timings: Timings) -> float:
    """When a worker that is to be ended is deleted.

    At once where it is not known to exist: then nobody can tell it to stop. Not before its name can be given up. What is
    due at once is so at any time: the clock may have been put back since.
    """
    at_once = job.status.accept_time is None or ending.delete_at <= ending.time
    return max(0.0 if at_once else ending.delete_at, name_kept_until(job, timings))


def name_kept_until(job: Job, timings: Timings) -> float:
    """When its worker may be removed: a launch call that is still under way (`launch_unsure`) would start it once more."""
    status = job.status
    if not status.launch_unsure or status.accept_time is None:
        return 0.0
    return status.accept_time + timings.launch_settle


def plan(queue: Queue, *, now: float, timings: Timings) -> Plan:
    """The plan for a queue as it stands."""
    if queue.settled:
        return Plan()
    if queue.ended:  # with that go those that were ended, as far as they are there still
        at = max((name_kept_until(job, timings) for job in queue.jobs if job.status.ending is not None), default=0.0)
        return Plan(settle=at <= now, wake_at=at if at > now else None)
    alive = live(queue)
    launch = tuple(job for job in alive if is_due(job))
    delete = tuple(
        (job, ending.grace)
        for job in alive
        if (ending := job.status.ending) is not None and delete_at(job, ending, timings) <= now
    )
    stop = queue.status.stop
    telling = queue.status.state is QueueState.STOPPING and stop is not None and stop.mode is StopMode.GRACEFUL
    ask_lag = tuple(job for job in alive if drains_now(queue, job))
    times = [time for job in alive for time in _due(queue, job, timings)]
    if telling and alive:
        times.append(now + timings.stop_resend)
    if ask_lag:
        times.append(now + timings.lag_poll)
    if delete:
        times.append(now + timings.delete_retry)
    if any(_is_late(job, now, timings) for job in alive):
        times.append(now + timings.verdict_poll)
    return Plan(
        prepare=bool(launch) and all(job.status.state is JobState.LAUNCHING for job in alive),
        launch=launch,
        delete=delete,
        send_stop=telling and bool(alive),
        ask_lag=ask_lag,
        wake_at=min((time for time in times if time > now), default=None),
    )


def _is_late(job: Job, now: float, timings: Timings) -> bool:
    """Whether the last word of its worker, which has ended, can only not be read yet."""
    ended_at = job.status.worker_end_time
    return ended_at is not None and now >= ended_at + timings.verdict_grace


def _due(queue: Queue, job: Job, timings: Timings) -> Iterator[float]:
    """When something about this job is due by time alone."""
    status = job.status
    if status.worker_end_time is not None:
        yield status.worker_end_time + timings.verdict_grace
        return
    if status.ending is not None:
        yield delete_at(job, status.ending, timings)
        if status.state is JobState.LAUNCHING and status.launch_unsure:
            yield status.ending.time + timings.launch_settle
        return
    if status.state in {JobState.LAUNCHING, JobState.STARTING} and status.launch_time is not None:
        yield status.launch_time + queue.spec.start_timeout
    if status.state is JobState.RUNNING:
        if job.spec.timeout is not None and status.start_time is not None:
            yield status.start_time + job.spec.timeout
        if status.words.final_time is not None:
            yield status.words.final_time + timings.linger_grace
        if status.no_lag_since is not None:
            yield status.no_lag_since + timings.drain_settle
