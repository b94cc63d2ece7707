"""How a job has ended, once its worker has: the runner's word, corrected by the worker's (contracts, section 5).

Today's workers exit with 0 on fatal errors, say `finished` when they are interrupted, and some say nothing at all, so
neither the exit code nor the telemetry is enough alone.
"""

from __future__ import annotations

from typing import Final

from queue_manager.server.domain.model import (
    Ending,
    EndIntent,
    Job,
    JobState,
    JobStatus,
    Lifetime,
    Reason,
    StateReason,
    Words,
    cut,
)
from queue_manager.server.domain.telemetry import Telemetry

PROGRESS: Final = frozenset({"started", "loading"})

Verdict = tuple[JobState, StateReason | None]


def hear(words: Words, report: Telemetry, now: float) -> Words:
    """What the worker has said of its end, after one more message.

    Its messages have no key, so they come by several partitions, and a later one may come first.
    """
    error, error_time, error_is_final = words.error, words.error_time, words.error_is_final
    progress_time, interrupted = words.progress_time, words.interrupted
    match report.status:
        case "error":
            stands = report.final or report.record_time >= max(error_time, progress_time)
            if report.final or (stands and not error_is_final):
                error = cut(report.error or report.message or "the worker reported an error without a text")
                error_time, error_is_final = report.record_time, error_is_final or report.final
        case "interrupted":
            interrupted = True
        case status if status in PROGRESS:
            progress_time = max(progress_time, report.record_time)
            if not error_is_final and error_time <= progress_time:
                error = None
        case "finished":
            pass  # takes nothing back: neither an error that stands nor an interruption
        case _:
            return words
    first_final = report.final and not words.final
    return Words(
        error=error,
        error_time=error_time,
        error_is_final=error_is_final,
        progress_time=progress_time,
        interrupted=interrupted,
        final=report.status if first_final else words.final,
        final_time=now if first_final else words.final_time,
    )


FAILURES: Final = frozenset({Reason.JOB_FAILED, Reason.DEADLINE_EXCEEDED, Reason.CONFIG_ERROR})
"""What a runner says only of a worker that has failed, also where its exit code is not known any more."""


def conclude(job: Job) -> Verdict:
    """The verdict on a job whose worker has ended or is gone."""
    status = job.status
    if (ending := status.ending) is not None:
        return _of_ended(job, ending)
    if status.worker_end_time is None:
        return JobState.LOST, StateReason(
            code=Reason.JOB_DELETED_EXTERNALLY, message="its worker is gone, and the Queue Manager did not delete it"
        )
    if status.exit_code is None:
        if status.exit_reason is not None and status.exit_reason.code in FAILURES:
            return JobState.FAILED, status.exit_reason
        return JobState.LOST, status.exit_reason or StateReason(
            code=Reason.WORKER_VANISHED, message="its worker ended without leaving an exit status"
        )
    if status.exit_code != 0:
        return JobState.FAILED, _exit_reason(status)
    if status.exit_reason is not None and status.exit_reason.code in FAILURES:  # e.g. it obeyed when its time was out
        return JobState.FAILED, status.exit_reason
    return _of_clean_exit(job)


def _of_clean_exit(job: Job) -> Verdict:
    words = job.status.words
    if words.error is not None:
        return JobState.FAILED, StateReason(code=Reason.WORKER_ERROR, message=words.error)
    if job.spec.lifetime is Lifetime.ENDLESS:
        how = "said that it had finished" if words.final == "finished" else "ended"
        return JobState.FAILED, StateReason(
            code=Reason.ENDED_UNEXPECTEDLY, message=f"a {job.spec.type} worker runs until it is stopped, but it {how}"
        )
    if words.interrupted:
        return JobState.FAILED, StateReason(
            code=Reason.INTERRUPTED, message="the worker says that it was interrupted, but nobody stopped this queue"
        )
    if job.status.last_telemetry_time is None:
        return JobState.FINISHED, StateReason(
            code=Reason.NEVER_REPORTED, message="it exited with code 0 and never reported anything"
        )
    return JobState.FINISHED, None


def _of_ended(job: Job, ending: EndIntent) -> Verdict:
    """The verdict on a worker that the manager itself has ended, for the reason that was recorded."""
    status, words = job.status, job.status.words
    match ending.why:
        case Ending.START_TIMEOUT:
            return JobState.FAILED, StateReason(code=Reason.START_TIMEOUT, message=ending.message)
        case Ending.REFUSED:
            return JobState.FAILED, StateReason(code=ending.code or Reason.CONFIG_ERROR, message=ending.message)
        case Ending.DEADLINE:
            return JobState.FAILED, StateReason(code=Reason.DEADLINE_EXCEEDED, message=ending.message)
        case Ending.LINGERED:
            state, reason = _of_clean_exit(job)
            if state is JobState.FINISHED:
                reason = StateReason(code=Reason.LINGERED, message=ending.message)
            return state, reason
        case Ending.DRAINED:
            if words.error is not None:
                return JobState.FAILED, StateReason(code=Reason.WORKER_ERROR, message=words.error)
            return JobState.FINISHED, StateReason(code=Reason.DRAINED, message=ending.message)
        case Ending.STOP | Ending.POLICY:
            said_before = words.final_time is not None and words.final_time < ending.since
            if said_before and words.error_is_final:
                return JobState.FAILED, StateReason(code=Reason.WORKER_ERROR, message=words.error or "")
            if said_before and words.final == "finished" and job.spec.lifetime is not Lifetime.ENDLESS:
                return JobState.FINISHED, None
            code = Reason.STOPPED_BY_USER if ending.why is Ending.STOP else Reason.STOPPED_BY_POLICY
            detail = f"; exit code {status.exit_code}" if status.exit_code else ""
            return JobState.STOPPED, StateReason(code=code, message=ending.message + detail)


def _exit_reason(status: JobStatus) -> StateReason:
    """Why it exited with a code other than 0: the runner's word where it has one, else the code, and the last error."""
    code = status.exit_code or 0
    text = f"ended by signal {code - 128}" if code > 128 else f"exit code {code}"
    given = status.exit_reason
    if given is not None and given.message:
        text = given.message
    if status.last_error:
        text += f"; its last error: {status.last_error}"
    return StateReason(code=given.code if given else Reason.EXIT_CODE, message=cut(text))
