"""How a job has ended: each sentence of contracts section 5, "Verdict", and of the lifetimes in section 1."""

from __future__ import annotations

import pytest

from queue_manager.server.domain.model import (
    FailurePolicy,
    JobState,
    Lifetime,
    QueueState,
    Reads,
    Reason,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.observation import Lag, Phase, StopRequested
from tests.unit.domain.play import TIMINGS, Play, running, spec

FINITE, ENDLESS, DRAINS = Lifetime.FINITE, Lifetime.ENDLESS, Lifetime.DRAINS
ANY_LIFETIME = pytest.mark.parametrize("lifetime", list(Lifetime))


def of(play: Play, name: str = "a") -> tuple[JobState, Reason | None]:
    """A job's verdict."""
    return play[name].state, play.code(name)


# --- The exit code ----------------------------------------------------------------------------------------------------


@ANY_LIFETIME
def test_another_exit_code_than_0_is_failed_with_it(lifetime: Lifetime) -> None:
    """Whatever the worker said before."""
    play = running(spec("a", lifetime))
    play.says("a", "finished", final=True)
    play.exits("a", 3)
    assert of(play) == (JobState.FAILED, Reason.EXIT_CODE)
    assert play["a"].exit_code == 3
    assert play["a"].reason == StateReason(code=Reason.EXIT_CODE, message="exit code 3")


def test_an_exit_by_a_signal_names_it() -> None:
    """128 + n is signal n."""
    play = running(spec("a"))
    play.exits("a", 137)
    assert play["a"].reason == StateReason(code=Reason.EXIT_CODE, message="ended by signal 9")


def test_the_runner_knows_more_of_an_exit_than_its_code() -> None:
    """What it says goes first, and the worker's last error is added."""
    play = running(spec("a"))
    play.says("a", "error", error="cannot allocate")
    play.exits("a", 137, reason=StateReason(code=Reason.OOM_KILLED, message="memory limit exceeded"))
    assert of(play) == (JobState.FAILED, Reason.OOM_KILLED)
    assert play["a"].reason == StateReason(
        code=Reason.OOM_KILLED, message="memory limit exceeded; its last error: cannot allocate"
    )


@pytest.mark.parametrize("lifetime", [FINITE, DRAINS])
def test_exit_code_0_is_finished(lifetime: Lifetime) -> None:
    """A worker that ends well, whether it says so or not."""
    for last in ("finished", "loading"):
        play = running(spec("a", lifetime))
        play.says("a", last, final=last == "finished")
        play.exits("a", 0)
        assert (play["a"].state, play["a"].reason) == (JobState.FINISHED, None)


def test_exit_code_0_with_an_error_flagged_as_the_last_message_is_failed_with_its_text() -> None:
    """Today's workers exit with 0 on fatal errors; nothing that they say later takes it back."""
    play = running(spec("a"))
    play.says("a", "error", final=True, error="disk full")
    play.says("a", "error", error="could not clean up")
    play.says("a", "loading")
    play.says("a", "finished", final=True)
    play.exits("a", 0)
    assert play["a"].reason == StateReason(code=Reason.WORKER_ERROR, message="disk full")
    assert play["a"].state is JobState.FAILED


def test_exit_code_0_with_an_error_as_the_last_status_heard_is_failed_with_its_text() -> None:
    """Also where it was not flagged."""
    play = running(spec("a"))
    play.says("a", "loading")
    play.says("a", "error", error="bad record")
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


def test_an_error_that_was_a_note_does_not_stand_once_the_worker_goes_on() -> None:
    """It went on loading, so the error was none that ended it."""
    play = running(spec("a"))
    play.says("a", "error", error="bad record")
    play.says("a", "loading")
    play.exits("a", 0)
    assert of(play) == (JobState.FINISHED, None)
    assert play["a"].last_error == "bad record"


@pytest.mark.parametrize("flagged", [True, False])
def test_finished_after_such_an_error_changes_nothing(flagged: bool) -> None:
    """Whether it stands because it was flagged or because it was the last status."""
    play = running(spec("a"))
    play.says("a", "error", final=flagged, error="broken")
    play.says("a", "finished", final=True)
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


@pytest.mark.parametrize("status", ["pong", "compacting", ""])
def test_a_pong_or_an_unknown_status_takes_no_error_back(status: str) -> None:
    """They are telemetry and change no state."""
    play = running(spec("a"))
    play.says("a", "error", error="broken")
    play.says("a", status)
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


@pytest.mark.parametrize("later", [[], ["finished"]])
def test_an_interruption_that_nobody_asked_for_is_failed(later: list[str]) -> None:
    """`finished` after `interrupted` changes nothing."""
    play = running(spec("a"))
    play.says("a", "interrupted", final=True)
    for status in later:
        play.says("a", status, final=True)
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.INTERRUPTED)


@pytest.mark.parametrize("lifetime", [FINITE, DRAINS])
def test_exit_code_0_and_never_heard_is_finished_with_a_reason_that_says_so(lifetime: Lifetime) -> None:
    """Some say nothing at all."""
    play = running(spec("a", lifetime))
    play.exits("a", 0)
    assert of(play) == (JobState.FINISHED, Reason.NEVER_REPORTED)
    assert play.state is QueueState.FINISHED


@pytest.mark.parametrize("last", ["", "loading", "finished"])
def test_an_endless_worker_that_ends_unasked_was_cut_off(last: str) -> None:
    """One that says `finished` or exits while nobody stops it has FAILED."""
    play = running(spec("a", ENDLESS, type="ws_trades"))
    if last:
        play.says("a", last, final=last == "finished")
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.ENDED_UNEXPECTEDLY)


# --- Waiting for the last word ----------------------------------------------------------------------------------------


def test_the_last_word_is_waited_for_where_it_comes_another_way() -> None:
    """Exit 0 alone is no verdict yet; an error that arrives within the grace decides it."""
    play = running(spec("a"))
    play.says("a", "loading")
    play.exits("a", 0, telemetry_complete=False)
    assert play["a"].state is JobState.RUNNING
    assert play.plan().wake_at == play.now + TIMINGS.verdict_grace
    play.wait(1)
    play.says("a", "error", final=True, error="disk full")
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


def test_a_last_word_that_does_not_come_is_not_waited_for_for_ever() -> None:
    """After the grace, the exit code decides."""
    play = running(spec("a"))
    play.says("a", "loading")
    play.exits("a", 0, telemetry_complete=False)
    play.wait(TIMINGS.verdict_grace - 0.1)
    assert play["a"].state is JobState.RUNNING
    play.wait(0.1)
    assert of(play) == (JobState.FINISHED, None)


def test_a_last_word_that_cannot_be_read_yet_is_waited_for_until_it_can() -> None:
    """The broker has not let us in, or there is more to be read; what was said is not lost for that."""
    play = running(spec("a"))
    play.heard = play.now
    play.wait(1)
    play.exits("a", 0, telemetry_complete=False)
    play.wait(TIMINGS.verdict_grace)
    assert play["a"].state is JobState.RUNNING
    assert play.plan().wake_at == play.now + TIMINGS.verdict_poll
    play.says("a", "error", final=False, error="disk full")
    play.heard = play.now
    play.advance()
    assert play["a"].state is JobState.FAILED
    assert play["a"].error_count == 1


def test_a_last_word_that_cannot_be_read_is_not_waited_for_for_ever() -> None:
    """Nor by a stop beyond its deadline."""
    play, stopped = running(spec("a")), running(spec("a"))
    for each in (play, stopped):
        each.heard = each.now
        each.wait(1)
        each.exits("a", 0, telemetry_complete=False)
    play.wait(TIMINGS.verdict_patience - 0.1)
    assert play["a"].state is JobState.RUNNING
    play.wait(0.1)
    assert play["a"].state is JobState.FINISHED
    stopped.stop(grace=30.0)
    stopped.wait(29.9)
    assert stopped["a"].state is JobState.RUNNING
    stopped.wait(0.1)
    assert stopped["a"].state is JobState.FINISHED


@pytest.mark.parametrize("known", ["exit code", "last word", "complete telemetry"])
def test_nothing_is_waited_for_where_nothing_can_change_the_verdict(known: str) -> None:
    """Another exit code than 0, a last word that was heard, telemetry that is known to be complete."""
    play = running(spec("a"))
    play.says("a", "finished" if known == "last word" else "loading", final=known == "last word")
    play.exits("a", 1 if known == "exit code" else 0, telemetry_complete=known == "complete telemetry")
    assert play["a"].end_time == play.now


# --- Ended by the manager ---------------------------------------------------------------------------------------------


@ANY_LIFETIME
@pytest.mark.parametrize("code", [0, 143])
def test_finished_from_a_worker_that_is_being_stopped_is_no_success(lifetime: Lifetime, code: int) -> None:
    """A worker says it on SIGTERM."""
    play = running(spec("a", lifetime))
    play.stop()
    play.wait(1)
    play.says("a", "finished", final=True)
    play.exits("a", code)
    assert of(play) == (JobState.STOPPED, Reason.STOPPED_BY_USER)
    assert play.state is QueueState.STOPPED


def test_finished_from_a_worker_that_somebody_else_deletes_is_no_success() -> None:
    """It said `finished` on SIGTERM; its worker is gone without an exit status."""
    play = running(spec("a"))
    play.says("a", "finished", final=True)
    play.gone("a")
    assert of(play) == (JobState.LOST, Reason.JOB_DELETED_EXTERNALLY)


def test_a_worker_that_had_finished_before_the_stop_has_finished() -> None:
    """Its work was done, though its process still ran when the queue was stopped."""
    play = running(spec("a"))
    play.says("a", "finished", final=True)
    play.wait(1)
    play.stop()
    play.exits("a", 0)
    assert of(play) == (JobState.FINISHED, None)
    assert play.state is QueueState.STOPPED


def test_a_worker_that_had_failed_before_the_stop_has_failed() -> None:
    """Its last word was an error."""
    play = running(spec("a"))
    play.says("a", "error", final=True, error="disk full")
    play.wait(1)
    play.stop()
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


@pytest.mark.parametrize(("code", "verdict"), [(0, JobState.FINISHED), (1, JobState.FAILED)])
def test_a_worker_that_ended_before_the_stop_but_was_seen_after_it_ended_by_itself(
    code: int, verdict: JobState
) -> None:
    """Its end time is before the wish: nobody stopped it."""
    play = running(spec("a"))
    play.says("a", "loading")
    over = play.now + 1
    play.wait(2)
    play.stop()
    play.exits("a", code, end_time=over)
    assert play["a"].state is verdict


def test_a_worker_that_was_seen_to_end_before_the_stop_ended_by_itself() -> None:
    """Its end was recorded and only its last word awaited: a stop that comes then did not end it."""
    play = running(spec("a"))
    play.says("a", "loading")
    play.exits("a", 0, telemetry_complete=False)
    play.wait(1)
    play.stop()
    play.wait(TIMINGS.verdict_grace)
    assert of(play) == (JobState.FINISHED, None)


def test_a_worker_that_was_seen_to_end_before_another_failed_ended_by_itself() -> None:
    """The same where it is the failure policy that would stop it."""
    play = running(spec("a"), spec("b"), policy=FailurePolicy.STOP_ALL)
    play.says("a", "loading")
    play.exits("a", 0, telemetry_complete=False)
    play.wait(1)
    play.exits("b", 1)
    play.wait(TIMINGS.verdict_grace)
    assert of(play) == (JobState.FINISHED, None)


def test_a_drained_worker_has_finished_whatever_its_exit_code() -> None:
    """The manager ended it; 143 is SIGTERM's."""
    play = running(spec("a", DRAINS, reads=Reads.OWN))
    play.says("a", "loading")
    play.observe(Lag("a", 0))
    play.wait(TIMINGS.drain_settle)
    assert [job.name for job, _ in play.plan().delete] == ["a"]
    play.says("a", "interrupted", final=True)
    play.exits("a", 143)
    assert of(play) == (JobState.FINISHED, Reason.DRAINED)


def test_a_drained_worker_with_an_error_that_stands_has_failed() -> None:
    """What it read was used up, but it could not write it."""
    play = running(spec("a", DRAINS, reads=Reads.OWN))
    play.says("a", "error", error="collection is read-only")
    play.observe(Lag("a", 0))
    play.wait(TIMINGS.drain_settle)
    play.exits("a", 143)
    assert of(play) == (JobState.FAILED, Reason.WORKER_ERROR)


@pytest.mark.parametrize(
    ("lifetime", "last", "verdict"),
    [
        (FINITE, "finished", (JobState.FINISHED, Reason.LINGERED)),
        (FINITE, "error", (JobState.FAILED, Reason.WORKER_ERROR)),
        (FINITE, "interrupted", (JobState.FAILED, Reason.INTERRUPTED)),
        (ENDLESS, "finished", (JobState.FAILED, Reason.ENDED_UNEXPECTEDLY)),
        (DRAINS, "finished", (JobState.FINISHED, Reason.LINGERED)),
    ],
)
def test_a_worker_that_lingers_is_ended_and_keeps_its_verdict(
    lifetime: Lifetime, last: str, verdict: tuple[JobState, Reason]
) -> None:
    """Some keep a web server up; the exit code is the manager's doing."""
    play = running(spec("a", lifetime))
    play.says("a", last, final=True, error="broken" if last == "error" else None)
    play.wait(TIMINGS.linger_grace)
    assert [job.name for job, _ in play.plan().delete] == ["a"]
    play.exits("a", 137)
    assert of(play) == verdict


def test_a_worker_that_ran_too_long_has_failed() -> None:
    """DEADLINE_EXCEEDED, whatever it says while it is ended."""
    play = running(spec("a", timeout=100.0))
    play.wait(100.0)
    assert [job.name for job, _ in play.plan().delete] == ["a"]
    play.says("a", "finished", final=True)
    play.exits("a", 0)
    assert of(play) == (JobState.FAILED, Reason.DEADLINE_EXCEEDED)


def test_a_worker_that_ended_just_before_its_deadline_was_noticed_ended_by_itself() -> None:
    """Its end time says so."""
    play = running(spec("a", timeout=100.0))
    play.says("a", "finished", final=True)
    over = play.now + 99.9
    play.wait(100.0)
    play.exits("a", 0, end_time=over)
    assert of(play) == (JobState.FINISHED, None)


def test_a_worker_that_did_not_start_in_time_has_failed_and_says_what_it_waited_for() -> None:
    """START_TIMEOUT with the runner's words."""
    play = Play(spec("a"), start_timeout=60.0)
    play.seen("a", Phase.WAITING, reason=StateReason(code=Reason.IMAGE_PULL_FAILED, message="no such image"))
    play.wait(60.0)
    assert [job.name for job, _ in play.plan().delete] == ["a"]
    play.gone("a")
    assert of(play) == (JobState.FAILED, Reason.START_TIMEOUT)
    assert "IMAGE_PULL_FAILED: no such image" in str(play["a"].reason)


def test_a_deletion_that_the_manager_asked_for_is_not_a_loss() -> None:
    """Gone after a decision to end it: the decision's verdict holds."""
    play = running(spec("a"))
    play.stop()
    play.gone("a")
    assert of(play) == (JobState.STOPPED, Reason.STOPPED_BY_USER)


# --- What comes out of order -------------------------------------------------------------------------------------------

NOTE, LOADING = ("error", "cannot write"), ("loading", None)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("said", "verdict"), [((NOTE, LOADING), JobState.FINISHED), ((LOADING, NOTE), JobState.FAILED)]
)
def test_the_last_word_is_the_last_that_was_said(
    said: tuple[tuple[str, str | None], ...], verdict: JobState, order: tuple[int, int]
) -> None:
    """A worker's messages have no key, so they come by several partitions, in any order."""
    play = running(spec("a"))
    for place in order:
        status, error = said[place]
        play.says("a", status, record_time=play.now + place, error=error)
    play.exits("a", 0)
    assert play["a"].state is verdict


def test_an_error_that_is_final_stands_whenever_it_comes() -> None:
    """Work that goes on after it takes nothing back, nor does a later note change its text."""
    play = running(spec("a"))
    play.says("a", "loading", record_time=play.now + 2)
    play.says("a", "error", final=True, error="disk full", record_time=play.now + 1)
    play.says("a", "error", error="and more", record_time=play.now + 3)
    play.exits("a", 0)
    assert play["a"].reason == StateReason(code=Reason.WORKER_ERROR, message="disk full")


def test_a_worker_that_obeys_when_its_time_is_out_has_not_finished() -> None:
    """The runner ended it before the manager had decided to."""
    play = running(spec("a", timeout=60.0))
    play.wait(59.9)
    play.says("a", "finished", final=True)
    play.now += 0.1
    play.exits("a", 0, reason=StateReason(code=Reason.DEADLINE_EXCEEDED, message="it ran longer than 60 s"))
    assert of(play) == (JobState.FAILED, Reason.DEADLINE_EXCEEDED)


# --- A stop that workers hear first ------------------------------------------------------------------------------------


def interrupted(play: Play, *, after: float) -> None:
    """The worker stops, and says so; what it says comes another way."""
    play.now += after
    play.says("a", "interrupted", final=True)
    play.exits("a", 0, telemetry_complete=False)


def asked(play: Play, at: float) -> None:
    """A stop on the topic of commands, which workers read, too."""
    play.observe(StopRequested(mode=StopMode.GRACEFUL, grace_period=30.0, reason="", by="bob", asked_at=at))


@ANY_LIFETIME
@pytest.mark.parametrize("seen_first", [True, False])
def test_a_worker_that_heard_the_stop_before_the_manager_was_stopped(lifetime: Lifetime, seen_first: bool) -> None:
    """Whichever of both the manager sees first."""
    play = running(spec("a", lifetime))
    sent = play.now
    if seen_first:
        interrupted(play, after=0.3)
        assert play["a"].state is JobState.RUNNING
        play.now += 0.1
        asked(play, sent)
    else:
        play.now += 0.4
        asked(play, sent)
        play.says("a", "interrupted", final=True)
        play.exits("a", 0, end_time=sent + 0.3, telemetry_complete=False)
    assert of(play) == (JobState.STOPPED, Reason.STOPPED_BY_USER)
    assert play.state is QueueState.STOPPED


def test_a_worker_that_had_ended_before_a_stop_was_asked_for_keeps_its_verdict() -> None:
    """It was not stopped by it."""
    play = running(spec("a"))
    interrupted(play, after=0.0)
    play.now += 1.0
    asked(play, play.now)
    play.wait(TIMINGS.verdict_grace)
    assert of(play) == (JobState.FAILED, Reason.INTERRUPTED)


def test_an_interruption_that_nobody_asked_for_is_a_failure_after_a_moment() -> None:
    """A stop that the worker has heard may be on its way to the manager."""
    play = running(spec("a"))
    interrupted(play, after=1.0)
    play.wait(TIMINGS.verdict_grace - 0.1)
    assert play["a"].state is JobState.RUNNING
    play.wait(0.1)
    assert of(play) == (JobState.FAILED, Reason.INTERRUPTED)
