"""The manager's own events: one message per change of a queue's or job's state, in the shape of telemetry."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from msgspec.structs import replace

from queue_manager.server.domain.history import Entry, record
from queue_manager.server.domain.model import JobState, Queue, QueueState, Reason, StateReason
from queue_manager.server.domain.publication import publications
from queue_manager.server.domain.telemetry import is_own, read
from tests.unit.domain.play import NOW, QUEUE_ID, Play, queue_of, spec


def recorded(before: Queue | None, after: Queue) -> tuple[Queue, Entry]:
    """The next revision."""
    queue, _, entry = record(before, after, now=NOW + 1, actor="alice")
    assert entry is not None
    return queue, entry


def messages(before: Queue | None, after: Queue) -> list[tuple[str, Mapping[str, object]]]:
    """What a change is published as."""
    return list(publications(*recorded(before, after)))


def created() -> Queue:
    """A queue of two jobs at revision 1."""
    return recorded(None, queue_of(spec("a"), spec("b")))[0]


def with_job(queue: Queue, **fields: object) -> Queue:
    """Its first job with another status."""
    return replace(
        queue, jobs=(replace(queue.jobs[0], status=replace(queue.jobs[0].status, **fields)), *queue.jobs[1:])
    )


def test_a_creation_is_published_with_every_job() -> None:
    """One message for the queue, one for each job."""
    found = messages(None, queue_of(spec("a"), spec("b")))
    assert [(m["event"], m["status"], m.get("job")) for _, m in found] == [
        ("queue_created", "pending", None),
        ("job_state_changed", "pending", "a"),
        ("job_state_changed", "pending", "b"),
    ]


def test_a_jobs_change_is_one_message() -> None:
    """The queue's state did not change, so none is about the queue."""
    reason = StateReason(code=Reason.EXIT_CODE, message="exit code 1")
    ((_, message),) = messages(created(), with_job(created(), state=JobState.FAILED, reason=reason))
    assert message == {
        "producer": "queue-manager",
        "queue_id": QUEUE_ID,
        "symbol": "BTCUSDT",
        "revision": 2,
        "timestamp": NOW + 1,
        "finished": False,
        "event_id": f"{QUEUE_ID}:2:1",
        "event": "job_state_changed",
        "status": "failed",
        "job": "a",
        "attempt": 1,
        "target": "a",
        "type": "api_candles_5m",
        "reason": "EXIT_CODE",
        "error_message": "exit code 1",
    }


def test_a_queues_change_comes_before_its_jobs() -> None:
    """With who caused it."""
    before = created()
    after = with_job(replace(before, status=replace(before.status, state=QueueState.RUNNING)), state=JobState.RUNNING)
    (_, first), (_, second) = messages(before, after)
    assert (first["event"], first["status"], first["actor"]) == ("queue_state_changed", "running", "alice")
    assert (second["event"], second["status"]) == ("job_state_changed", "running")


def test_a_stop_is_published_with_its_reason() -> None:
    """The caller and the reason show in the events."""
    play = Play(spec("a"))
    before, _ = recorded(None, play.queue)
    play.queue = before
    play.stop()
    (_, message), *_ = messages(before, play.queue)
    assert (message["event"], message["status"], message["actor"]) == ("stop_requested", "stopping", "alice")
    assert (message["reason"], message["error_message"]) == ("STOPPED_BY_USER", "stopped by alice: enough")


def test_ids_are_the_same_whenever_an_event_is_published_again() -> None:
    """And differ from each other, so that who listens can tell a repetition."""
    queue, entry = recorded(None, queue_of(spec("a"), spec("b")))
    once, again = list(publications(queue, entry)), list(publications(queue, entry))
    assert once == again
    ids = [event_id for event_id, _ in once]
    assert ids == [f"{QUEUE_ID}:1:{number}" for number in range(3)]
    assert all(message["event_id"] == event_id for event_id, message in once)
    later = list(publications(replace(queue, revision=9, status=replace(queue.status, message="later")), entry))
    assert later == once


@pytest.mark.parametrize("state", list(JobState))
def test_they_have_the_shape_of_telemetry_and_are_known_as_our_own(state: JobState) -> None:
    """Anybody who reads workers' telemetry can read them; the manager ignores them, and none ends a job."""
    found = messages(created(), with_job(created(), state=state, attempt=2))
    for _, message in found:
        raw = json.dumps(message).encode()
        assert is_own(raw)
        report = read(raw, NOW + 1)
        assert (report.telemetry_id, report.queue_id, report.time) == ("queue-manager", QUEUE_ID, NOW + 1)
        assert report.final is False
