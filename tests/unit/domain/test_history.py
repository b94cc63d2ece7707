"""What is kept of a queue's past: which changes are, what an entry holds, and that replaying gives the past back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from queue_manager.server.domain.history import SYSTEM_ACTOR, Entry, Event, EventType, compact, record, replay
from queue_manager.server.domain.model import JobState, Queue, QueueState, Reason, StateReason
from tests.unit.domain.play import NOW, Play, queue_of, spec


class Kept:
    """A queue with its history."""

    def __init__(self, *names: str) -> None:
        self.now = NOW
        self.entries: list[Entry] = []
        self.events: list[Event] = []
        self.queues: dict[int, Queue] = {}
        self.queue, event, entry = record(None, queue_of(*map(spec, names)), now=NOW, actor="alice")
        self._keep(event, entry)

    def _keep(self, event: Event, entry: Entry | None) -> None:
        self.events.append(event)
        self.queues[self.queue.revision] = self.queue
        if entry is not None:
            self.entries.append(entry)

    def change(self, name: str | None = None, *, state: QueueState | None = None, **fields: object) -> Event:
        """The next revision: a job's status with these fields, the queue in that state."""
        self.now += 1
        status = self.queue.status if state is None else replace(self.queue.status, state=state)
        jobs = tuple(
            replace(job, status=replace(job.status, **fields)) if job.name == name else job for job in self.queue.jobs
        )
        after = replace(self.queue, jobs=jobs, status=status)
        self.queue, event, entry = record(self.queue, after, now=self.now)
        self._keep(event, entry)
        return event


def visible(queue: Queue) -> tuple[object, ...]:
    """What history gives back."""
    return queue.revision, queue.status, queue.jobs


# --- Events -----------------------------------------------------------------------------------------------------------


def test_a_creation_is_the_first_revision() -> None:
    """By its caller, with every job as new."""
    kept = Kept("a", "b")
    (event,) = kept.events
    assert (event.revision, event.type, event.before, event.after) == (
        1,
        EventType.QUEUE_CREATED,
        None,
        QueueState.PENDING,
    )
    assert (event.actor, event.message, event.time) == ("alice", "queue created with 2 jobs", NOW)
    assert [(change.job, change.before, change.after) for change in event.job_changes] == [
        ("a", None, JobState.PENDING),
        ("b", None, JobState.PENDING),
    ]
    assert set(kept.entries[0].jobs) == {"a", "b"}


def test_every_change_raises_the_revision_by_one() -> None:
    """Kept or not; the time of the newest is the queue's update time."""
    kept = Kept("a")
    kept.change("a", records_written=1)
    kept.change("a", state=QueueState.RUNNING)
    assert [event.revision for event in kept.events] == [1, 2, 3]
    assert [entry.revision for entry in kept.entries] == [1, 3]
    assert (kept.queue.revision, kept.queue.history_revision, kept.queue.status.update_time) == (3, 3, kept.now)


@pytest.mark.parametrize(
    "fields",
    [{"records_written": 5}, {"progress": 0.5}, {"message": "m"}, {"last_error": "e", "error_count": 1}],
)
def test_what_only_carries_progress_is_not_kept(fields: dict[str, Any]) -> None:
    """A flood of errors is merged like progress."""
    kept = Kept("a")
    event = kept.change("a", **fields)
    assert (event.type, event.job_changes, len(kept.entries)) == (EventType.PROGRESS, (), 1)
    assert kept.queue.history_revision == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"state": JobState.LAUNCHING},
        {"attempt": 2},
        {"reason": StateReason(code=Reason.WAITING_FOR_RUNNER, message="busy")},
    ],
)
def test_a_jobs_change_of_state_attempt_or_reason_is_kept(fields: dict[str, object]) -> None:
    """With what it was and what it is."""
    kept = Kept("a", "b")
    kept.now += 1
    jobs = (replace(kept.queue.jobs[0], status=replace(kept.queue.jobs[0].status, **fields)), kept.queue.jobs[1])
    after, event, entry = record(kept.queue, replace(kept.queue, jobs=jobs), now=kept.now)
    assert entry is not None
    assert (event.type, event.actor) == (EventType.JOB_STATE_CHANGED, SYSTEM_ACTOR)
    (change,) = event.job_changes
    assert (change.job, change.before, change.after) == ("a", JobState.PENDING, after.jobs[0].status.state)
    assert (change.attempt, change.reason) == (after.jobs[0].status.attempt, after.jobs[0].status.reason)


def test_another_text_for_the_same_reason_is_no_event() -> None:
    """`waits for …` with other numbers every few seconds would fill history."""
    kept = Kept("a")
    kept.change("a", reason=StateReason(code=Reason.WAITING_FOR_RUNNER, message="try 1"))
    event = kept.change("a", reason=StateReason(code=Reason.WAITING_FOR_RUNNER, message="try 2"))
    assert event.type is EventType.PROGRESS


def test_a_stop_is_its_own_kind_of_event_and_names_who_asked() -> None:
    """Also where the state does not change, as for an escalation."""
    play = Play(spec("a"))
    before, _, _ = record(None, play.queue, now=NOW)
    play.queue = before
    play.stop()
    after, event, entry = record(before, play.queue, now=NOW, actor="alice")
    assert entry is not None
    assert (event.type, event.actor, event.after) == (EventType.STOP_REQUESTED, "alice", QueueState.STOPPING)
    assert after.revision == 2


def test_the_queues_change_of_state_tells_the_jobs_with_it() -> None:
    """One revision, one event, one sentence."""
    kept = Kept("a", "b")
    reason = StateReason(code=Reason.EXIT_CODE, message="exit code 1")
    after = replace(
        kept.queue,
        status=replace(
            kept.queue.status,
            state=QueueState.FAILED,
            reason=StateReason(code=Reason.JOB_FAILED, message="a is FAILED"),
        ),
        jobs=tuple(
            replace(job, status=replace(job.status, state=JobState.FAILED, reason=reason)) for job in kept.queue.jobs
        ),
    )
    _, event, _ = record(kept.queue, after, now=NOW)
    assert (event.type, event.before, event.after) == (
        EventType.QUEUE_STATE_CHANGED,
        QueueState.PENDING,
        QueueState.FAILED,
    )
    assert event.message == (
        "queue is FAILED: a is FAILED; a is FAILED (EXIT_CODE: exit code 1); b is FAILED (EXIT_CODE: exit code 1)"
    )


def test_the_sentence_stays_short_however_many_jobs_change() -> None:
    """Eight are named, the others counted."""
    kept = Kept(*(f"job-{number}" for number in range(20)))
    jobs = tuple(replace(job, status=replace(job.status, state=JobState.LAUNCHING)) for job in kept.queue.jobs)
    _, event, _ = record(kept.queue, replace(kept.queue, jobs=jobs), now=NOW)
    assert len(event.job_changes) == 20
    assert event.message.endswith("job-7 is LAUNCHING; and 12 more jobs")


# --- Entries ----------------------------------------------------------------------------------------------------------


def test_an_entry_holds_only_the_jobs_that_changed_since_the_one_before() -> None:
    """Also those whose progress was not kept in between."""
    kept = Kept("a", "b", "c")
    kept.change("a", records_written=1)
    kept.change("b", records_written=1)
    kept.change("b", state=QueueState.RUNNING)
    assert set(kept.entries[-1].jobs) == {"a", "b"}
    kept.change("c", message="m")
    kept.change("a", state=QueueState.STOPPING)
    assert set(kept.entries[-1].jobs) == {"c"}


def test_replaying_gives_back_the_queue_at_every_kept_revision() -> None:
    """Exactly as it was recorded, with its event."""
    kept = Kept("a", "b")
    for number in range(10):
        kept.change("a", records_written=number)
        kept.change("b" if number % 3 else "a", reason=None, attempt=number + 2)
    past = list(replay(kept.queue, kept.entries))
    assert [visible(queue) for queue, _ in past] == [visible(kept.queues[entry.revision]) for entry in kept.entries]
    assert [event.revision for _, event in past] == [entry.revision for entry in kept.entries]


@pytest.mark.parametrize("keep", [1, 2, 5, 100])
def test_compacted_entries_give_back_the_newest_revisions(keep: int) -> None:
    """The first that is kept takes over the statuses of those before it."""
    kept = Kept("a", "b", "c")
    for number in range(9):
        kept.change("abc"[number % 3], attempt=number + 2)
    fewer = compact(kept.entries, keep, published=kept.queue.revision)
    assert [entry.revision for entry in fewer] == [entry.revision for entry in kept.entries][-keep:]
    assert [visible(queue) for queue, _ in replay(kept.queue, fewer)] == [
        visible(kept.queues[entry.revision]) for entry in fewer
    ]


def test_entries_whose_events_are_not_out_are_never_dropped() -> None:
    """History is the outbox."""
    kept = Kept("a")
    for number in range(9):
        kept.change("a", attempt=number + 2)
    assert [entry.revision for entry in compact(kept.entries, 2, published=4)] == [5, 6, 7, 8, 9, 10]
    assert [entry.revision for entry in compact(kept.entries, 2, published=0)] == list(range(1, 11))


def test_the_newest_entry_is_always_kept() -> None:
    """Whatever is asked."""
    kept = Kept("a")
    kept.change("a", attempt=2)
    assert [entry.revision for entry in compact(kept.entries, 0, published=2)] == [2]


def test_an_entry_survives_being_stored() -> None:
    """As JSON, at a few hundred bytes for one job's change."""
    kept = Kept(*(f"job-{number}" for number in range(20)))
    kept.change("job-3", attempt=2)
    raw = msgspec.json.encode(kept.entries[-1])
    assert msgspec.json.decode(raw, type=Entry) == kept.entries[-1]
    assert len(raw) < 600
    assert msgspec.json.decode(msgspec.json.encode(kept.queue), type=Queue) == kept.queue
