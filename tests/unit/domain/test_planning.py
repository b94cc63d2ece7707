"""What is to be done next, and when to look again: `plan` reads the record and the time, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from queue_manager.server.domain.model import Dependency, FailurePolicy, JobName, Lifetime, QueueState, Reads, StopMode
from queue_manager.server.domain.observation import Delayed, Lag, Phase, Recovered
from queue_manager.server.domain.planning import Plan
from queue_manager.server.domain.timings import Timings
from tests.unit.domain.play import NOW, TIMINGS, Play, running, spec


def names(play: Play) -> dict[str, list[str]]:
    """The calls of the plan, by job."""
    todo = play.plan()
    return {
        "launch": [job.name for job in todo.launch],
        "delete": [job.name for job, _ in todo.delete],
        "ask_lag": [job.name for job in todo.ask_lag],
    }


# --- Launching --------------------------------------------------------------------------------------------------------


def test_only_jobs_whose_launch_is_recorded_are_launched() -> None:
    """Not those that wait, nor those that the runner has."""
    play = Play(spec("a"), spec("b"), spec("c", after=[Dependency(job=JobName("a"))]))
    assert names(play)["launch"] == ["a", "b"]
    play.seen("a", Phase.WAITING)
    assert names(play)["launch"] == ["b"]


def test_the_bus_is_prepared_before_a_launch_into_a_queue_none_of_whose_workers_run() -> None:
    """And only then: preparing skips commands that running workers have yet to hear."""
    play = Play(spec("a"), spec("b"), spec("c", after=[Dependency(job=JobName("a"))]))
    assert play.plan().prepare
    play.seen("a", Phase.WAITING)
    assert not play.plan().prepare
    play.runs("b")
    play.exits("a", 0)
    assert names(play)["launch"] == ["c"]
    assert not play.plan().prepare
    play.exits("b", 0)
    assert play.plan().prepare


def test_nothing_is_prepared_where_nothing_is_launched() -> None:
    """All run."""
    assert running(spec("a")).plan() == Plan()


def test_a_job_that_is_to_end_is_not_launched() -> None:
    """It was stopped before the runner took it; it is deleted at once, since nobody could tell it to stop."""
    play = Play(spec("a"))
    play.stop()
    assert names(play) == {"launch": [], "delete": ["a"], "ask_lag": []}


# --- Ending -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_appeared_after_a_launch_in_doubt_is_not_deleted_before_the_settle_time() -> None:
    """Until then its name must stay taken, or the call under way would start it a second time."""
    play = Play(spec("a"))
    play.observe(Delayed(play.key("a"), "timed out"))
    play.stop(StopMode.FORCE, grace=0.0)
    play.now += 1
    play.runs("a")
    assert names(play)["delete"] == []
    assert play.plan().wake_at == play.now + TIMINGS.launch_settle
    play.wait(TIMINGS.launch_settle)
    assert names(play)["delete"] == ["a"]


def test_a_worker_of_a_launch_without_doubt_is_deleted_when_it_is_due() -> None:
    """No settle time."""
    play = running(spec("a"))
    play.stop(StopMode.FORCE, grace=0.0)
    assert names(play)["delete"] == ["a"]


def lingering() -> Play:
    """A worker that said its last word and did not exit in time."""
    play = running(spec("a"))
    play.says("a", status="finished", final=True)
    play.wait(TIMINGS.linger_grace)
    return play


def forced() -> Play:
    """A worker of a queue that is stopped by force."""
    play = running(spec("a"))
    play.stop(StopMode.FORCE, grace=0.0)
    return play


def stopped_before_it_was_accepted() -> Play:
    """A worker that nobody could tell to stop."""
    play = Play(spec("a"))
    play.stop()
    return play


def failed_with_stop_all() -> Play:
    """A worker of a queue in which another one has failed."""
    play = running(spec("a"), spec("b"), policy=FailurePolicy.STOP_ALL)
    play.exits("b", 1)
    return play


@pytest.mark.parametrize("make", [lingering, forced, stopped_before_it_was_accepted, failed_with_stop_all])
def test_what_is_to_be_ended_at_once_is_so_whatever_the_clock_says(make: Callable[[], Play]) -> None:
    """It may be put back: nobody waits for an hour until it is then again."""
    play = make()
    play.now -= 3600.0
    assert names(play)["delete"] == ["a"]
    assert play.now < (play.plan().wake_at or 0.0) <= play.now + TIMINGS.delete_retry


def test_a_grace_is_kept_by_the_clock() -> None:
    """A worker that was told to stop has until then."""
    play = running(spec("a"))
    play.stop(grace=30.0)
    play.now += 29.0
    assert names(play)["delete"] == []
    play.now += 1.0
    assert names(play)["delete"] == ["a"]


def test_a_deletion_is_asked_for_again_until_it_is_confirmed() -> None:
    """Every `delete_retry`, with the same grace."""
    play = running(spec("a"))
    play.stop(StopMode.FORCE, grace=0.0)
    assert play.plan().wake_at == play.now + TIMINGS.delete_retry
    play.wait(TIMINGS.delete_retry)
    assert names(play)["delete"] == ["a"]
    play.gone("a")
    assert play.plan() == Plan(settle=True)


def test_the_stop_command_is_sent_again_until_every_job_has_ended() -> None:
    """One record reaches one worker of a group."""
    play = running(spec("a"), spec("b"))
    play.stop(grace=1000.0)
    for _ in range(5):
        assert play.plan().send_stop
        assert play.plan().wake_at == play.now + TIMINGS.stop_resend
        play.wait(TIMINGS.stop_resend)
    play.exits("a", 0)
    assert play.plan().send_stop
    play.exits("b", 0)
    assert not play.plan().send_stop


def test_a_policys_end_is_a_deletion_and_no_command() -> None:
    """The command would reach every worker of the queue, also those that are being drained."""
    play = running(spec("a"), spec("b"), policy=FailurePolicy.STOP_ALL)
    play.exits("a", 1)
    assert play.state is QueueState.RUNNING
    assert not play.plan().send_stop
    assert names(play)["delete"] == ["b"]


# --- Draining ---------------------------------------------------------------------------------------------------------


def test_lag_is_asked_for_only_while_it_decides() -> None:
    """A drains job that runs, all of whose feeders have ended, and that is not being ended yet."""
    play = Play(spec("f", feeds=True), spec("d", Lifetime.DRAINS, reads=Reads.OWN))
    assert names(play)["ask_lag"] == []
    play.runs("d", "f")
    assert names(play)["ask_lag"] == []
    play.exits("f", 0)
    assert names(play)["ask_lag"] == ["d"]
    assert play.plan().wake_at == play.now + TIMINGS.lag_poll
    play.observe(Lag("d", 0))
    play.wait(TIMINGS.drain_settle)
    assert names(play) == {"launch": [], "delete": ["d"], "ask_lag": []}


# --- When to look again -----------------------------------------------------------------------------------------------


def test_nothing_is_due_for_a_worker_that_runs_without_a_limit() -> None:
    """It is woken by what happens."""
    assert running(spec("a")).plan().wake_at is None


def test_the_next_thing_that_is_due_by_time_alone_wakes() -> None:
    """Start timeout, timeout, linger grace, verdict grace, stop deadline."""
    play = Play(spec("a", timeout=500.0), start_timeout=60.0)
    assert play.plan().wake_at == NOW + 60.0
    play.runs("a")
    assert play.plan().wake_at == NOW + 500.0
    play.says("a", "finished", final=True)
    assert play.plan().wake_at == NOW + TIMINGS.linger_grace
    play.exits("a", 0, telemetry_complete=True)
    assert play.plan().wake_at is None
    play = running(spec("b"))
    play.exits("b", 0, telemetry_complete=False)
    assert play.plan().wake_at == NOW + TIMINGS.verdict_grace
    play = running(spec("c"), timings=Timings(stop_resend=100.0))
    play.stop(grace=30.0)
    assert play.plan().wake_at == NOW + 30.0


def test_a_launch_that_is_to_end_is_looked_at_when_its_absence_is_final() -> None:
    """The settle time of a launch that nobody saw taken."""
    play = Play(spec("a"))
    play.observe(Recovered())
    play.stop(StopMode.FORCE, grace=0.0)
    assert play.plan().wake_at == play.now + TIMINGS.launch_settle
    play.wait(TIMINGS.launch_settle)
    play.gone("a")
    assert play.state is QueueState.STOPPED


def test_a_queue_that_has_ended_is_settled_once() -> None:
    """Results released, record closed; then there is nothing left to do."""
    play = running(spec("a"))
    play.exits("a", 0)
    assert play.plan() == Plan(settle=True)
    play.queue = replace(play.queue, settled=True)
    assert play.plan() == Plan()


def test_what_is_left_of_a_worker_that_was_stopped_is_not_let_go_before_the_settle_time() -> None:
    """Its launch was in doubt: the call that had no answer would find its name free."""
    play = Play(spec("a"))
    play.observe(Delayed(play.key("a"), "timed out"))
    play.runs("a")
    play.stop()
    play.exits("a", 0)
    assert play.state is QueueState.STOPPED
    assert play.plan() == Plan(wake_at=play.now + TIMINGS.launch_settle)
    play.wait(TIMINGS.launch_settle)
    assert play.plan() == Plan(settle=True)
