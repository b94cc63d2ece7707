"""What is kept of a queue's past: an entry for each change that a person would call one.

`record` turns a change into the next revision and, unless only progress changed, into an `Entry`: the event, and the
statuses of all jobs that changed since the entry before. So folding entries over the queue's specification gives back
the whole queue as it was at each of their revisions (`replay`), at a few hundred bytes an entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum

from msgspec.structs import replace

from queue_manager.server.domain.model import (
    Job,
    JobName,
    JobState,
    JobStatus,
    Queue,
    QueueState,
    QueueStatus,
    StateReason,
    Value,
)


class EventType(StrEnum):
    """What kind of change an event stands for; `queue.proto` explains each."""

    QUEUE_CREATED = "QUEUE_CREATED"
    QUEUE_STATE_CHANGED = "QUEUE_STATE_CHANGED"
    JOB_STATE_CHANGED = "JOB_STATE_CHANGED"
    PROGRESS = "PROGRESS"
    STOP_REQUESTED = "STOP_REQUESTED"


class JobChange(Value, frozen=True, kw_only=True):
    """A job's change of state, or of the reason for it."""

    job: JobName
    attempt: int
    before: JobState | None
    after: JobState
    reason: StateReason | None = None


class Event(Value, frozen=True, kw_only=True):
    """One accepted change of a queue."""

    revision: int
    time: float
    type: EventType
    before: QueueState | None
    after: QueueState
    job_changes: tuple[JobChange, ...] = ()
    actor: str = ""
    message: str = ""


class Entry(Value, frozen=True, kw_only=True):
    """What history keeps of a change."""

    event: Event
    status: QueueStatus
    """The queue's after the change."""
    jobs: dict[JobName, JobStatus] = {}
    """Those that changed since the entry before."""

    @property
    def revision(self) -> int:
        """The revision that the change made."""
        return self.event.revision


SYSTEM_ACTOR = "queue-manager"


def record(
    before: Queue | None, after: Queue, *, now: float, actor: str = SYSTEM_ACTOR, message: str = ""
) -> tuple[Queue, Event, Entry | None]:
    """Make `after` the next revision of `before`: the queue to store, its event, and the entry to keep, if any."""
    revision = (before.revision if before else 0) + 1
    olds = before.jobs if before else (None,) * len(after.jobs)  # a queue's jobs stay what they are, in their order
    jobs = tuple([_stamp(job, old, revision) for job, old in zip(after.jobs, olds, strict=True)])
    changed = [(job, old) for job, old in zip(jobs, olds, strict=True) if job is not old]
    changes = tuple([change for job, old in changed if (change := _change(job, old))])
    kind = _kind(before, after, changes)
    event = Event(
        revision=revision,
        time=now,
        type=kind,
        before=before.status.state if before else None,
        after=after.status.state,
        job_changes=changes,
        actor=actor,
        message=message or describe(kind, after, changes),
    )
    kept = kind is not EventType.PROGRESS
    queue = replace(
        after,
        jobs=jobs,
        revision=revision,
        history_revision=revision if kept else after.history_revision,
        status=replace(after.status, update_time=now),
    )
    if not kept:
        return queue, event, None
    since = before.history_revision if before else 0
    return (
        queue,
        event,
        Entry(
            event=event,
            status=queue.status,
            jobs={job.name: job.status for job in jobs if job.status.revision > since},
        ),
    )


def replay(queue: Queue, entries: Iterable[Entry]) -> Iterator[tuple[Queue, Event]]:
    """The queue as it was after each of these entries, which begin at the first one kept.

    The first entry that is kept has the statuses of all jobs (see `compact`), so nothing else is needed than the
    queue's specification.
    """
    statuses: dict[JobName, JobStatus] = {}
    for entry in entries:
        statuses.update(entry.jobs)
        jobs = tuple(Job(spec=job.spec, status=statuses[job.name]) for job in queue.jobs)
        past = replace(queue, status=entry.status, jobs=jobs, revision=entry.revision, history_revision=entry.revision)
        yield past, entry.event


def compact(entries: Sequence[Entry], keep: int, *, published: int) -> list[Entry]:
    """The newest `keep` entries, the first of which takes over the statuses of those before it.

    Entries whose events are not out yet (after revision `published`) are kept in any case: history is the outbox.
    """
    waiting = sum(entry.revision > published for entry in entries)
    keep = max(keep, waiting, 1)
    if len(entries) <= keep:
        return list(entries)
    statuses: dict[JobName, JobStatus] = {}
    for entry in entries[: len(entries) - keep + 1]:
        statuses.update(entry.jobs)
    kept = list(entries[-keep:])
    kept[0] = replace(kept[0], jobs=statuses)
    return kept


def describe(kind: EventType, queue: Queue, changes: Sequence[JobChange]) -> str:
    """The change in a sentence; nothing of mere progress."""
    if kind is EventType.PROGRESS:
        return ""
    if kind is EventType.QUEUE_CREATED:
        return f"queue created with {len(queue.jobs)} job{'s' if len(queue.jobs) != 1 else ''}"
    parts = []
    if kind is EventType.QUEUE_STATE_CHANGED:
        reason = queue.status.reason
        parts.append(f"queue is {queue.status.state}" + (f": {reason.message}" if reason and reason.message else ""))
    for change in changes[:8]:
        text = f"{change.job} is {change.after}"
        if change.reason:
            text += f" ({change.reason.code}{': ' + change.reason.message if change.reason.message else ''})"
        parts.append(text)
    if len(changes) > 8:
        parts.append(f"and {len(changes) - 8} more jobs")
    return "; ".join(parts)


def _stamp(job: Job, old: Job | None, revision: int) -> Job:
    if old is not None and (job is old or old.status == job.status):
        return old
    return replace(job, status=replace(job.status, revision=revision))


def _change(job: Job, old: Job | None) -> JobChange | None:
    status = job.status
    if old is not None:
        was = old.status
        same_code = (was.reason and was.reason.code) == (status.reason and status.reason.code)
        if was.state == status.state and was.attempt == status.attempt and same_code:
            return None
    return JobChange(
        job=job.name,
        attempt=status.attempt,
        before=old.status.state if old else None,
        after=status.state,
        reason=status.reason,
    )


def _kind(before: Queue | None, after: Queue, changes: Sequence[JobChange]) -> EventType:
    if before is None:
        return EventType.QUEUE_CREATED
    if after.status.stop != before.status.stop:
        return EventType.STOP_REQUESTED
    if after.status.state != before.status.state:
        return EventType.QUEUE_STATE_CHANGED
    return EventType.JOB_STATE_CHANGED if changes else EventType.PROGRESS
