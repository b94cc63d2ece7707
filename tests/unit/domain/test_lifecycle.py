"""How observations change a queue: workers that come and go, launches in doubt, telemetry, wishes to stop."""

from __future__ import annotations

import pytest

from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.lifecycle import LATE
from queue_manager.server.domain.model import (
    MESSAGE_LIMIT,
    Dependency,
    JobName,
    JobState,
    Lifetime,
    QueueState,
    Reads,
    Reason,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.observation import (
    Answered,
    Delayed,
    Lag,
    Phase,
    Recovered,
    Refused,
    WorkerStatus,
)
from tests.unit.domain.play import NOW, QUEUE_ID, Play, running, spec

# --- From launch to end -----------------------------------------------------------------------------------------------


def test_a_job_goes_through_its_states_in_order() -> None:
    """PENDING → LAUNCHING → STARTING → RUNNING → FINISHED, and the queue PENDING → RUNNING → FINISHED with it."""
    play = Play(spec("a"))
    assert (play["a"].state, play.state) == (JobState.LAUNCHING, QueueState.PENDING)
    assert (play["a"].spec_hash, play["a"].launch_time) == ("hash of a", NOW)
    play.now += 1
    play.seen("a", Phase.WAITING)
    assert (play["a"].state, play.state) == (JobState.STARTING, QueueState.PENDING)
    assert play["a"].runner is not None
    play.now += 1
    play.seen("a", Phase.RUNNING, start_time=NOW + 1.5)
    assert (play["a"].state, play.state) == (JobState.RUNNING, QueueState.RUNNING)
    assert play["a"].start_time == play.queue.status.start_time == NOW + 1.5
    play.now += 1
    play.says("a", "started")
    play.exits("a")
    assert (play["a"].state, play.state) == (JobState.FINISHED, QueueState.FINISHED)
    assert play["a"].end_time == play.queue.status.end_time == play.now


def test_a_worker_that_was_over_before_it_was_seen_has_run() -> None:
    """One that ends between two looks goes from LAUNCHING to its end, with a start time."""
    play = Play(spec("a"))
    play.exits("a", start_time=NOW)
    assert play["a"].state is JobState.FINISHED
    assert play["a"].start_time == play.queue.status.start_time == NOW


def test_why_a_worker_waits_is_told() -> None:
    """The runner's reason stands while it waits, and goes when it runs."""
    play = Play(spec("a"))
    reason = StateReason(code=Reason.UNSCHEDULABLE, message="0/3 nodes are available")
    play.seen("a", Phase.WAITING, reason=reason)
    assert play["a"].reason == reason
    play.runs("a")
    assert play["a"].reason is None


def test_a_worker_that_waits_in_vain_is_deleted_and_has_failed_for_that() -> None:
    """Once the runner says that it is hopeless; the reason that is told stays, whatever it says later."""
    play = Play(spec("a"))
    reason = StateReason(code=Reason.IMAGE_PULL_FAILED, message="no such image")
    play.seen("a", Phase.WAITING, reason=reason)
    assert not play.plan().delete
    play.seen("a", Phase.WAITING, reason=reason, hopeless=True)
    assert [(job.name, grace) for job, grace in play.plan().delete] == [("a", 0.0)]
    play.seen("a", Phase.WAITING, reason=StateReason(code=Reason.IMAGE_PULL_FAILED, message="back off"), hopeless=True)
    play.seen("a", Phase.WAITING)  # while it is deleted nothing is said of it any more
    assert play.code("a") is Reason.IMAGE_PULL_FAILED
    play.gone("a")
    assert (play["a"].state, play["a"].reason) == (JobState.FAILED, reason)


def test_a_worker_that_cannot_be_ended_now_says_why_until_it_can() -> None:
    """The runner's words; one that nobody wants to end has none, and what a worker is given up for stands."""
    play = running(spec("a"), spec("b"))
    hopeless = StateReason(code=Reason.IMAGE_PULL_FAILED, message="no such image")
    play.observe(Delayed(play.key("a"), "forbidden", unsure=False))
    assert play["a"].reason is None
    play.stop(StopMode.FORCE)
    play.observe(Delayed(play.key("a"), "forbidden", unsure=False))
    play.seen("a", Phase.RUNNING)
    assert play["a"].reason == StateReason(code=Reason.WAITING_FOR_RUNNER, message="forbidden")
    assert not play["a"].launch_unsure
    play.observe(Answered(play.key("a")))
    assert (play["a"].state, play["a"].reason) == (JobState.RUNNING, None)
    play = Play(spec("a"))
    play.seen("a", Phase.WAITING, reason=hopeless, hopeless=True)
    play.observe(Delayed(play.key("a"), "forbidden", unsure=False))
    play.observe(Answered(play.key("a")))
    assert play["a"].reason == hopeless


def test_a_launch_that_was_declined_can_be_stopped_at_once() -> None:
    """Nothing is under way; unless an earlier call had no answer."""
    play = Play(spec("a"), spec("b"))
    play.observe(Delayed(play.key("b"), "timed out"))
    for name in ("a", "b"):
        play.observe(Delayed(play.key(name), "too many requests", unsure=False))
        assert play.code(name) is Reason.WAITING_FOR_RUNNER
    play.stop(StopMode.FORCE)
    play.gone("a")
    play.gone("b")
    assert (play["a"].state, play["b"].state) == (JobState.STOPPED, JobState.LAUNCHING)
    assert play["b"].reason == StateReason(code=Reason.WAITING_FOR_RUNNER, message=LATE)
    play.wait(4.0)
    play.gone("b")
    assert play["b"].state is JobState.STOPPED


def test_telemetry_never_ends_a_job() -> None:
    """A job ends when its process does; messages after its last one are still read."""
    play = running(spec("a"))
    play.says("a", "finished", final=True, records_written=10)
    assert play["a"].state is JobState.RUNNING
    play.says("a", "loading", records_written=12, message="and still")
    assert (play["a"].state, play["a"].records_written, play["a"].message) == (JobState.RUNNING, 12, "and still")


def test_a_worker_without_an_exit_status_is_lost() -> None:
    """It ended, and nobody knows how."""
    play = running(spec("a"))
    play.exits("a", None)
    assert (play["a"].state, play.code("a")) == (JobState.LOST, Reason.WORKER_VANISHED)
    assert play.state is QueueState.FAILED


@pytest.mark.parametrize("code", [Reason.JOB_FAILED, Reason.DEADLINE_EXCEEDED])
def test_a_worker_that_the_runner_knows_to_have_failed_has_failed(code: Reason) -> None:
    """Also where its exit code is not known any more: its pod is gone, its Job says Failed."""
    play = running(spec("a"))
    play.exits("a", None, reason=StateReason(code=code, message="BackoffLimitExceeded"))
    assert (play["a"].state, play.code("a")) == (JobState.FAILED, code)


@pytest.mark.parametrize("phase", [Phase.WAITING, Phase.RUNNING])
def test_a_worker_that_had_a_uid_and_is_gone_is_lost(phase: Phase) -> None:
    """Somebody else deleted it, whether it ran already or not."""
    play = Play(spec("a"))
    play.seen("a", phase)
    play.gone("a")
    assert (play["a"].state, play.code("a")) == (JobState.LOST, Reason.JOB_DELETED_EXTERNALLY)


def test_another_worker_of_the_same_name_is_not_ours() -> None:
    """A uid that is not the recorded one means that ours is gone."""
    play = running(spec("a"))
    play.seen("a", Phase.RUNNING, uid="another")
    assert (play["a"].state, play.code("a")) == (JobState.LOST, Reason.JOB_DELETED_EXTERNALLY)


def test_a_worker_that_was_seen_to_end_is_not_lost_when_it_is_removed() -> None:
    """Its exit code is recorded with the first look, so a cleaned-up worker keeps its verdict."""
    play = running(spec("a"))
    play.says("a", "started")
    play.exits("a", 0, telemetry_complete=False)
    assert play["a"].state is JobState.RUNNING
    play.gone("a")
    assert (play["a"].state, play["a"].exit_code) == (JobState.FINISHED, 0)


# --- Launches in doubt ------------------------------------------------------------------------------------------------


def test_absence_says_nothing_of_a_launch_under_way() -> None:
    """Before its launch was confirmed, a worker that is not there may still come."""
    play = Play(spec("a"))
    play.gone("a")
    assert play["a"].state is JobState.LAUNCHING
    assert [job.name for job in play.plan().launch] == ["a"]


def test_a_launch_that_must_wait_says_why() -> None:
    """The runner's words stand at the job and at the queue, and the launch is tried again."""
    play = Play(spec("a"))
    play.observe(Delayed(play.key("a"), "connection refused"))
    assert (play["a"].state, play["a"].launch_unsure) == (JobState.LAUNCHING, True)
    assert play.queue.status.reason == StateReason(code=Reason.WAITING_FOR_RUNNER, message="a: connection refused")
    assert [job.name for job in play.plan().launch] == ["a"]


def test_a_refused_launch_fails_with_the_runners_reason() -> None:
    """The runner will never take it, and no call can be under way."""
    play = Play(spec("a"))
    play.observe(Refused(play.key("a"), StateReason(code=Reason.QUOTA_EXCEEDED, message="no more pods")))
    assert play["a"].reason == StateReason(code=Reason.QUOTA_EXCEEDED, message="no more pods")
    assert (play["a"].state, play.state) == (JobState.FAILED, QueueState.FAILED)


@pytest.mark.parametrize("doubt", ["delayed", "recovered"])
def test_a_refusal_after_a_launch_in_doubt_waits_until_that_can_no_more_come(doubt: str) -> None:
    """An earlier call that had no answer may have been accepted: only its absence after the settle time is final."""
    play = Play(spec("a"))
    play.observe(Delayed(play.key("a"), "timed out") if doubt == "delayed" else Recovered())
    play.observe(Refused(play.key("a"), StateReason(code=Reason.CONFIG_ERROR, message="no such image")))
    assert play["a"].state is JobState.LAUNCHING
    assert not play.plan().launch
    play.wait(3.9)
    play.gone("a")
    assert play["a"].state is JobState.LAUNCHING
    play.wait(0.1)
    play.gone("a")
    assert (play["a"].state, play.code("a")) == (JobState.FAILED, Reason.CONFIG_ERROR)


def test_a_refused_launch_that_started_after_all_is_deleted_and_failed() -> None:
    """The call that was in doubt had been accepted: its worker is ended, not before its name can be given up."""
    play = Play(spec("a"))
    play.observe(Delayed(play.key("a"), "timed out"))
    play.observe(Refused(play.key("a"), StateReason(code=Reason.CONFIG_ERROR, message="no")))
    play.runs("a")
    assert play["a"].state is JobState.RUNNING
    assert not play.plan().delete
    play.wait(4.0)
    assert [job.name for job, _ in play.plan().delete] == ["a"]
    play.exits("a", 143)
    assert (play["a"].state, play.code("a")) == (JobState.FAILED, Reason.CONFIG_ERROR)


def test_another_specification_under_our_name_fails_the_launch() -> None:
    """A worker of that name was launched with something else: it is not taken over."""
    play = Play(spec("a"))
    play.seen("a", Phase.RUNNING, spec_hash="another")
    assert (play["a"].state, play.code("a"), play["a"].runner) == (JobState.FAILED, Reason.CONFIG_ERROR, None)


def test_only_launching_jobs_are_in_doubt_after_a_recovery() -> None:
    """Those whose worker is known, and those that wait, are not."""
    play = Play(spec("a"), spec("b"), spec("c", after=[Dependency(job=JobName("a"))]))
    play.runs("a")
    play.observe(Recovered())
    assert [job.status.launch_unsure for job in play.queue.jobs] == [False, True, False]


@pytest.mark.parametrize("attempt", [1, 3])
def test_observations_of_another_attempt_are_ignored(attempt: int) -> None:
    """What is said of a worker of an earlier or later attempt is not about this one."""
    play = Play(spec("a"), attempt=2)
    play.runs("a")
    before = play.queue
    play.seen("a", Phase.ENDED, attempt=attempt, exit_code=1, telemetry_complete=True)
    play.seen("a", Phase.ABSENT, attempt=attempt)
    play.observe(Refused(play.key("a", attempt), StateReason(code=Reason.CONFIG_ERROR)))
    play.observe(Delayed(play.key("a", attempt), "late"))
    assert play.queue == before


def test_a_late_look_changes_nothing() -> None:
    """That a running worker once waited, or an ended one once ran, is old news (lifecycle: "one that comes late")."""
    play = running(spec("a"))
    before = play.queue
    play.seen("a", Phase.WAITING, reason=StateReason(code=Reason.UNSCHEDULABLE, message="no node"))
    assert play.queue == before
    play.exits("a", 0, telemetry_complete=False)
    before = play.queue
    play.runs("a")
    assert play.queue == before


# --- Telemetry --------------------------------------------------------------------------------------------------------


def test_what_a_worker_says_is_kept_as_detail() -> None:
    """Records, progress, message, and when; records_written keeps the largest number of an attempt."""
    play = running(spec("a"))
    play.says("a", "loading", records_written=500, progress=0.5, message="half")
    play.now += 1
    play.says("a", "interrupted", final=True, records_written=0)
    assert (play["a"].records_written, play["a"].progress, play["a"].message) == (500, 0.5, "half")
    assert play["a"].last_telemetry_time == play.now


def test_an_error_that_is_not_the_last_message_is_a_note() -> None:
    """It is counted and kept as the job's last error; no state changes."""
    play = running(spec("a"))
    for number in range(3):
        play.says("a", "error", error=f"bad record {number}")
    assert (play["a"].state, play["a"].error_count, play["a"].last_error) == (JobState.RUNNING, 3, "bad record 2")


def test_an_error_text_is_cut() -> None:
    """It can hold a whole record's bytes."""
    play = running(spec("a"))
    play.says("a", "error", error="x" * 100_000, message="y" * 100_000)
    assert len(play["a"].last_error.encode()) <= MESSAGE_LIMIT
    assert len((play["a"].words.error or "").encode()) <= MESSAGE_LIMIT
    assert len(play["a"].message.encode()) <= MESSAGE_LIMIT


def test_an_older_message_does_not_hide_a_newer_one() -> None:
    """Delivery can be out of order: message, progress and time are those of the newest."""
    play = running(spec("a"))
    play.now += 10
    play.says("a", "loading", message="new", progress=0.9, records_written=9)
    play.says("a", "loading", message="old", progress=0.1, records_written=1, time=play.now - 5)
    assert (play["a"].message, play["a"].progress, play["a"].records_written) == ("new", 0.9, 9)
    assert play["a"].last_telemetry_time == play.now


def test_a_message_from_before_the_attempt_changes_nothing() -> None:
    """It belongs to an earlier attempt."""
    play = Play(spec("a"), attempt=2)
    play.runs("a")
    before = play.queue
    play.says("a", "error", final=True, error="of the attempt before", time=NOW - 1, records_written=7)
    assert play.queue == before


def test_a_message_that_comes_twice_counts_once() -> None:
    """Delivery is at least once: the position in its source tells."""
    play = running(spec("a"))
    play.says("a", "error", error="once", source="p0", position=7)
    before = play.queue
    play.says("a", "error", error="once", source="p0", position=7)
    play.says("a", "error", error="an older one", source="p0", position=6)
    assert play.queue == before
    play.says("a", "error", error="another partition", source="p1", position=6)
    assert play["a"].error_count == 2


def test_nothing_that_is_said_changes_a_job_that_has_ended() -> None:
    """A late message is no news of a terminal state."""
    play = running(spec("a"), spec("b"))
    play.exits("a", 1)
    before = play["a"]
    play.says("a", "finished", final=True, records_written=1000, source="p", position=1)
    assert play["a"] == before


def test_who_is_not_said_is_resolved_by_the_queue() -> None:
    """The queue's only job, else the only one of that type, else none: then it is kept with the queue."""
    alone = running(spec("a"))
    alone.says(None, "loading", records_written=3)
    assert alone["a"].records_written == 3
    play = running(spec("a", type="api_trades"), spec("b", type="gnn_train"), spec("c", type="gnn_train"))
    play.says(None, "loading", type="api_trades", records_written=4)
    assert play["a"].records_written == 4
    before = play.queue.jobs
    play.says(None, "error", type="gnn_train", error="which of us?")
    assert (play.queue.jobs, play.queue.status.message) == (before, "which of us?")


# --- Idempotence ------------------------------------------------------------------------------------------------------


def test_a_lag_that_is_asked_for_again_does_not_begin_anew() -> None:
    """The settle time counts from the first look without lag; a look with lag or without an answer ends it."""
    play = running(spec("c", Lifetime.DRAINS, reads=Reads.OWN))
    play.observe(Lag("c", 0))
    since = play["c"].no_lag_since
    assert since == NOW
    play.now += 1
    play.observe(Lag("c", 0))
    assert play["c"].no_lag_since == since
    play.observe(Lag("c", None))
    assert play["c"].no_lag_since is None


def test_what_is_said_of_a_job_that_there_is_not_is_ignored() -> None:
    """Nothing is raised, nothing changes."""
    play = running(spec("a"))
    before = play.queue
    stranger = WorkerKey(QUEUE_ID, "stranger", 1, "stranger")
    play.observe(
        WorkerStatus(key=stranger, phase=Phase.RUNNING),
        Refused(stranger, StateReason(code=Reason.CONFIG_ERROR)),
        Delayed(stranger, "?"),
        Lag("stranger", 0),
    )
    assert play.queue == before
