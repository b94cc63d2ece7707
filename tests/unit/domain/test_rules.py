"""What follows from the record and the time: gates, lifetimes, limits, failure policy, stops, the queue's own state."""

from __future__ import annotations

import pytest

from queue_manager.server.domain.lifecycle import advance, reduce
from queue_manager.server.domain.model import (
    TERMINAL_JOB_STATES,
    Dependency,
    DependencyCondition,
    Ending,
    FailurePolicy,
    JobName,
    JobState,
    Lifetime,
    QueueState,
    Reads,
    Reason,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.observation import Delayed, Lag, Phase, Refused, StopRequested
from tests.unit.domain.play import NOW, TIMINGS, Play, queue_of, running, spec, spec_hash

FINITE, ENDLESS, DRAINS = Lifetime.FINITE, Lifetime.ENDLESS, Lifetime.DRAINS
STARTED, FINISHED = DependencyCondition.STARTED, DependencyCondition.FINISHED
STOP_ALL = FailurePolicy.STOP_ALL


def on(name: str, condition: DependencyCondition = FINISHED) -> Dependency:
    """A gate."""
    return Dependency(job=JobName(name), condition=condition)


# --- Gates ------------------------------------------------------------------------------------------------------------


def test_without_gates_all_jobs_launch_at_once() -> None:
    """As the user's examples do."""
    assert Play(spec("a"), spec("b"), spec("c")).states() == [JobState.LAUNCHING] * 3


def test_a_job_waits_for_another_to_have_started() -> None:
    """Accepted is not enough: its process must run or have run. What it waits for is named."""
    play = Play(spec("a"), spec("b", after=[on("a", STARTED)]))
    assert play["b"].state is JobState.PENDING
    assert play["b"].reason == StateReason(code=Reason.WAITING_FOR_DEPENDENCY, message="waits for a to have started")
    play.seen("a", Phase.WAITING)
    assert play["b"].state is JobState.PENDING
    play.runs("a")
    assert (play["b"].state, play["b"].reason) == (JobState.LAUNCHING, None)


def test_a_job_waits_for_another_to_have_finished() -> None:
    """Running is not enough."""
    play = Play(spec("a"), spec("b", after=[on("a")]))
    play.runs("a")
    assert play["b"].state is JobState.PENDING
    assert play["b"].reason == StateReason(code=Reason.WAITING_FOR_DEPENDENCY, message="waits for a to have finished")
    play.exits("a", 0)
    assert play["b"].state is JobState.LAUNCHING


def test_all_gates_must_be_open_and_only_closed_ones_are_named() -> None:
    """The message shortens as they open."""
    play = Play(spec("a"), spec("b"), spec("c", after=[on("a"), on("b", STARTED)]))
    assert "a to have finished, b to have started" in str(play["c"].reason)
    play.runs("b")
    assert play["c"].reason == StateReason(code=Reason.WAITING_FOR_DEPENDENCY, message="waits for a to have finished")
    play.exits("a", 0)
    assert play["c"].state is JobState.LAUNCHING


@pytest.mark.parametrize(("how", "code"), [("FAILED", 1), ("LOST", None)])
def test_a_job_whose_gate_never_opens_is_skipped(how: str, code: int | None) -> None:
    """What it depends on failed or was lost; the reason names it. The other jobs go on."""
    play = Play(spec("a"), spec("b", after=[on("a")]), spec("other"))
    play.runs("a", "other")
    play.exits("a", code)
    assert (play["b"].state, play.code("b"), play["b"].end_time) == (
        JobState.SKIPPED,
        Reason.DEPENDENCY_FAILED,
        play.now,
    )
    assert f"a is {how}" in str(play["b"].reason)
    assert play["other"].state is JobState.RUNNING


def test_a_job_that_started_opens_the_gate_for_good() -> None:
    """STARTED asks that it runs or has run, also where it failed in between."""
    play = Play(spec("a"), spec("b", after=[on("a", STARTED)]))
    play.exits("a", 1)
    assert play["b"].state is JobState.LAUNCHING


def test_a_job_that_never_started_closes_the_gate() -> None:
    """STARTED of a job that was refused can no more come."""
    play = Play(spec("a"), spec("b", after=[on("a", STARTED)]))
    play.observe(Refused(play.key("a"), StateReason(code=Reason.CONFIG_ERROR, message="no")))
    assert (play["b"].state, play.code("b")) == (JobState.SKIPPED, Reason.DEPENDENCY_FAILED)


def test_a_skip_runs_down_the_whole_chain_at_once() -> None:
    """Whatever the order of the jobs; each names the one before it, and the queue names the one that failed."""
    play = Play(spec("c", after=[on("b", STARTED)]), spec("b", after=[on("a")]), spec("a"))
    play.exits("a", 2)
    assert play.states() == [JobState.SKIPPED, JobState.SKIPPED, JobState.FAILED]
    assert "b is SKIPPED" in str(play["c"].reason)
    assert play.state is QueueState.FAILED
    assert play.queue.status.reason == StateReason(
        code=Reason.JOB_FAILED, message="a is FAILED: EXIT_CODE: exit code 2"
    )


# --- Lifetimes --------------------------------------------------------------------------------------------------------


def historical(**fields: object) -> Play:
    """A loader that feeds a connector, both running."""
    return running(spec("loader", feeds=True), spec("connector", DRAINS, reads=Reads.OWN), **fields)


def test_a_historical_queue_ends_by_itself_though_its_connector_never_would() -> None:
    """Once its feeder has ended and it has had no lag for the settle time, it is stopped and has FINISHED."""
    play = historical()
    play.says("connector", "loading")
    assert not play.plan().ask_lag
    play.exits("loader", 0)
    assert [job.name for job in play.plan().ask_lag] == ["connector"]
    play.observe(Lag("connector", 5))
    play.wait(TIMINGS.drain_settle * 2)
    assert play["connector"].ending is None
    play.observe(Lag("connector", 0))
    play.wait(TIMINGS.drain_settle - 0.1)
    assert play["connector"].ending is None
    play.wait(0.1)
    assert [job.name for job, _ in play.plan().delete] == ["connector"]
    play.exits("connector", 143)
    assert play.states() == [JobState.FINISHED, JobState.FINISHED]
    assert (play.state, play.queue.status.reason) == (QueueState.FINISHED, None)


def test_lag_says_nothing_while_a_feeder_may_still_write() -> None:
    """A connector that has read all of what was written so far is not done."""
    play = historical()
    play.observe(Lag("connector", 0))
    play.wait(1000.0)
    assert play["connector"].ending is None


def test_lag_that_comes_back_begins_the_settle_time_anew() -> None:
    """What was still on its way has arrived."""
    play = historical()
    play.exits("loader", 0)
    play.observe(Lag("connector", 0))
    play.wait(TIMINGS.drain_settle / 2)
    play.observe(Lag("connector", 3))
    play.observe(Lag("connector", 0))
    play.wait(TIMINGS.drain_settle / 2)
    assert play["connector"].ending is None
    play.wait(TIMINGS.drain_settle / 2)
    assert play["connector"].ending is not None


def test_only_what_writes_its_own_topic_feeds_a_connector() -> None:
    """A loader of another type does not matter to it; to a reader of all topics it does."""
    play = running(
        spec("candles", feeds=True, topic="candles"),
        spec("trades", feeds=True, topic="trades"),
        spec("connector", DRAINS, reads=Reads.OWN, topic="candles"),
        spec("builder", DRAINS, reads=Reads.ALL, topic="graph"),
    )
    play.exits("candles", 0)
    assert [job.name for job in play.plan().ask_lag] == ["connector"]
    play.exits("trades", 0)
    assert [job.name for job in play.plan().ask_lag] == ["connector", "builder"]


@pytest.mark.parametrize("policy", list(FailurePolicy))
def test_after_a_feeder_failed_what_drains_is_still_drained(policy: FailurePolicy) -> None:
    """Then the failure policy decides."""
    play = historical(policy=policy)
    play.exits("loader", 1)
    assert (play["connector"].state, play["connector"].ending) == (JobState.RUNNING, None)
    play.observe(Lag("connector", 0))
    play.wait(TIMINGS.drain_settle)
    play.exits("connector", 143)
    assert (play["connector"].state, play.code("connector")) == (JobState.FINISHED, Reason.DRAINED)
    assert play.state is QueueState.FAILED
    assert "loader is FAILED" in str(play.queue.status.reason)


def test_an_endless_feeder_is_never_drained_after() -> None:
    """A real-time queue runs until someone stops it."""
    play = running(spec("loader", ENDLESS, feeds=True), spec("connector", DRAINS, reads=Reads.OWN))
    play.observe(Lag("connector", 0))
    play.wait(1e6)
    assert play.states() == [JobState.RUNNING, JobState.RUNNING]


# --- Limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", [None, Phase.WAITING])
def test_a_job_must_run_within_the_start_timeout(phase: Phase | None) -> None:
    """Counted from its launch, whether the runner has accepted it or not; not before."""
    play = Play(spec("a"), spec("b", after=[on("a")]), start_timeout=60.0)
    if phase:
        play.seen("a", phase)
    play.wait(59.9)
    assert play["a"].ending is None
    play.wait(0.1)
    assert play["a"].ending is not None
    assert play["a"].ending.why is Ending.START_TIMEOUT
    assert play["b"].ending is None
    play.wait(TIMINGS.launch_settle)
    play.gone("a")
    assert play.states() == [JobState.FAILED, JobState.SKIPPED]


def test_a_running_job_has_no_start_timeout() -> None:
    """However long ago it was launched."""
    play = running(spec("a"), start_timeout=60.0)
    play.wait(1e6)
    assert play["a"].ending is None


def test_a_jobs_timeout_counts_from_when_its_process_runs() -> None:
    """Not from its launch."""
    play = Play(spec("a", timeout=100.0))
    play.wait(50.0)
    play.runs("a")
    play.wait(99.9)
    assert play["a"].ending is None
    play.wait(0.1)
    assert play["a"].ending is not None
    assert play["a"].ending.why is Ending.DEADLINE


def test_a_worker_may_linger_for_a_grace_after_its_last_message() -> None:
    """Counted from the first message that was flagged as the last."""
    play = running(spec("a"))
    play.says("a", "finished", final=True)
    play.wait(TIMINGS.linger_grace - 1)
    play.says("a", "finished", final=True)
    assert play["a"].ending is None
    play.wait(1)
    assert play["a"].ending is not None
    assert play["a"].ending.why is Ending.LINGERED


# --- Failure policy ---------------------------------------------------------------------------------------------------


def test_with_keep_going_the_others_go_on() -> None:
    """The queue is FAILED when all have ended, and says meanwhile which job failed."""
    play = running(spec("a"), spec("b"))
    play.exits("a", 1)
    assert (play["b"].state, play["b"].ending, play.state) == (JobState.RUNNING, None, QueueState.RUNNING)
    assert "a is FAILED" in str(play.queue.status.reason)
    play.exits("b", 0)
    assert play.state is QueueState.FAILED


def test_with_stop_all_the_others_are_stopped() -> None:
    """Running ones are ended at once, waiting ones never launched; the queue is FAILED and names the culprit."""
    play = Play(spec("a"), spec("b"), spec("c", after=[on("b")]), policy=STOP_ALL)
    play.runs("a", "b")
    play.exits("a", 1)
    assert [job.name for job, _ in play.plan().delete] == ["b"]
    assert (play["c"].state, play.code("c")) == (JobState.STOPPED, Reason.STOPPED_BY_POLICY)
    assert "a is FAILED" in str(play["c"].reason)
    play.exits("b", 143)
    assert (play["b"].state, play.code("b")) == (JobState.STOPPED, Reason.STOPPED_BY_POLICY)
    assert play.state is QueueState.FAILED
    assert play.queue.status.reason == StateReason(
        code=Reason.JOB_FAILED, message="a is FAILED: EXIT_CODE: exit code 1"
    )


def test_with_stop_all_what_drains_is_drained_first() -> None:
    """Its feeders are stopped, then it reads what they left."""
    play = running(
        spec("trainer"),
        spec("loader", feeds=True),
        spec("connector", DRAINS, reads=Reads.OWN),
        policy=STOP_ALL,
    )
    play.exits("trainer", 1)
    assert [job.name for job, _ in play.plan().delete] == ["loader"]
    play.exits("loader", 143)
    assert [job.name for job in play.plan().ask_lag] == ["connector"]
    play.observe(Lag("connector", 0))
    play.wait(TIMINGS.drain_settle)
    play.exits("connector", 143)
    assert play.states() == [JobState.FAILED, JobState.STOPPED, JobState.FINISHED]
    assert play.state is QueueState.FAILED


def test_the_queue_names_the_first_job_that_failed() -> None:
    """Not the one that stands first, nor one that was skipped or lost after it."""
    play = running(spec("a"), spec("b"))
    play.wait(1)
    play.exits("b", 7)
    play.wait(1)
    play.gone("a")
    assert play.queue.status.reason == StateReason(
        code=Reason.JOB_FAILED, message="b is FAILED: EXIT_CODE: exit code 7"
    )


# --- Stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [True, False])
def test_a_queue_is_stopping_until_no_worker_is_left(runs: bool) -> None:
    """STOPPING → STOPPED, from PENDING and from RUNNING."""
    play = Play(spec("a"), spec("b", after=[on("a")]))
    if runs:
        play.runs("a")
    play.stop()
    assert play.state is QueueState.STOPPING
    assert play.queue.status.reason == StateReason(code=Reason.STOPPED_BY_USER, message="stopped by alice: enough")
    assert (play["a"].state, play["b"].state) == (
        JobState.RUNNING if runs else JobState.LAUNCHING,
        JobState.STOPPED,
    )
    play.wait(30.0)
    play.gone("a")
    assert (play["a"].state, play.state) == (JobState.STOPPED, QueueState.STOPPED)
    assert play.queue.status.end_time == play.now


def test_a_queue_with_no_worker_is_stopped_at_once() -> None:
    """There is nothing to wait for."""
    queue = queue_of(spec("a"), spec("b", after=[on("a")]))
    queue = reduce(
        queue,
        StopRequested(mode=StopMode.GRACEFUL, grace_period=30.0, reason="", by="alice"),
        now=NOW,
        timings=TIMINGS,
    )
    queue = advance(queue, now=NOW, timings=TIMINGS, spec_hash=spec_hash)
    assert queue.status.state is QueueState.STOPPED
    assert {job.status.state for job in queue.jobs} == {JobState.STOPPED}


def test_a_graceful_stop_deletes_only_at_its_deadline() -> None:
    """Workers are told to stop first."""
    play = running(spec("a"))
    play.stop(grace=30.0)
    assert (play.plan().send_stop, play.plan().delete) == (True, ())
    assert play.queue.status.stop is not None
    assert play.queue.status.stop.deadline == play.now + 30.0
    play.wait(30.0)
    assert [(job.name, grace) for job, grace in play.plan().delete] == [("a", TIMINGS.delete_grace)]


def test_a_forced_stop_deletes_at_once_without_asking() -> None:
    """No command, no grace."""
    play = running(spec("a"))
    play.stop(StopMode.FORCE, grace=0.0)
    assert [(job.name, grace) for job, grace in play.plan().delete] == [("a", 0.0)]
    assert not play.plan().send_stop


def test_force_after_graceful_escalates() -> None:
    """What was to be deleted later is deleted now, without grace."""
    play = running(spec("a"))
    play.stop(grace=3600.0)
    play.wait(1.0)
    play.stop(StopMode.FORCE, grace=0.0)
    assert [(job.name, grace) for job, grace in play.plan().delete] == [("a", 0.0)]
    assert not play.plan().send_stop
    assert play.queue.status.stop is not None
    assert play.queue.status.stop.mode is StopMode.FORCE
    assert play.queue.status.stop.deadline == play.now


def test_graceful_after_force_changes_nothing() -> None:
    """An escalation is not taken back."""
    play = running(spec("a"))
    play.stop(StopMode.FORCE, grace=0.0)
    before = play.queue
    play.now += 1
    play.stop(grace=30.0)
    assert play.queue == before


def test_a_stop_that_is_repeated_changes_nothing() -> None:
    """Neither its deadline nor who asked first."""
    play = running(spec("a"))
    play.stop(grace=30.0)
    before = play.queue
    play.now += 5
    play.stop(grace=30.0, reason="again")
    assert play.queue == before


def test_a_shorter_grace_hastens_a_stop() -> None:
    """The nearer deadline holds."""
    play = running(spec("a"))
    play.stop(grace=3600.0)
    play.stop(grace=5.0)
    play.wait(5.0)
    assert [job.name for job, _ in play.plan().delete] == ["a"]


def test_stopping_a_queue_that_has_ended_changes_nothing() -> None:
    """It is answered as it is."""
    play = running(spec("a"))
    play.exits("a", 0)
    before = play.queue
    play.stop()
    assert play.queue == before


def test_a_stop_goes_before_the_failure_policy() -> None:
    """What fails while a queue is stopped does not fail it: it is STOPPED."""
    play = running(spec("a"), spec("b"), policy=STOP_ALL)
    play.stop()
    play.exits("a", 1)
    assert play["b"].ending is not None
    assert play["b"].ending.why is Ending.STOP
    play.exits("b", 0)
    assert play.state is QueueState.STOPPED


def test_a_worker_that_is_drained_when_a_stop_comes_keeps_that_verdict() -> None:
    """The first decision to end it is its reason; the stop only hastens it."""
    play = running(spec("a", DRAINS, reads=Reads.OWN))
    play.observe(Lag("a", 0))
    play.wait(TIMINGS.drain_settle)
    play.stop(StopMode.FORCE, grace=0.0)
    assert [(job.name, grace) for job, grace in play.plan().delete] == [("a", 0.0)]
    play.exits("a", 137)
    assert (play["a"].state, play.code("a")) == (JobState.FINISHED, Reason.DRAINED)


# --- The queue's own state --------------------------------------------------------------------------------------------


def test_the_queue_says_what_its_launch_waits_for() -> None:
    """And no more once it does not."""
    play = Play(spec("a"), spec("b"))
    play.observe(Delayed(play.key("b"), "the cluster is out of reach"))
    assert play.queue.status.reason == StateReason(
        code=Reason.WAITING_FOR_RUNNER, message="b: the cluster is out of reach"
    )
    play.runs("b")
    assert (play.state, play.queue.status.reason) == (QueueState.RUNNING, None)


def test_a_queue_that_has_ended_is_never_advanced() -> None:
    """Terminal states never change, whatever time it is."""
    play = running(spec("a", timeout=10.0))
    play.exits("a", 0)
    before = play.queue
    play.wait(1e9)
    assert play.queue is before
    assert all(job.status.state in TERMINAL_JOB_STATES for job in before.jobs)
