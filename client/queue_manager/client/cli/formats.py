"""How values are written: times, durations, counts, states, and text that came from elsewhere. No printing here."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.v1.queue_pb2 import Job, JobState, Queue, QueueState, Reason
from queue_manager.v1.service_pb2 import Severity
from queue_manager.v1.target_pb2 import ParameterType

ENDED_JOBS: Final = frozenset(
    {
        JobState.JOB_STATE_FINISHED,
        JobState.JOB_STATE_FAILED,
        JobState.JOB_STATE_STOPPED,
        JobState.JOB_STATE_LOST,
        JobState.JOB_STATE_SKIPPED,
    }
)
BAD_JOBS: Final = frozenset({JobState.JOB_STATE_FAILED, JobState.JOB_STATE_LOST})
ENDED_QUEUES: Final = frozenset(
    {QueueState.QUEUE_STATE_FINISHED, QueueState.QUEUE_STATE_FAILED, QueueState.QUEUE_STATE_STOPPED}
)
UNFINISHED_QUEUES: Final = (
    QueueState.QUEUE_STATE_PENDING,
    QueueState.QUEUE_STATE_RUNNING,
    QueueState.QUEUE_STATE_STOPPING,
)

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def one_line(text: str) -> str:
    """Foreign text on one line, without the control characters that could drive a terminal."""
    return " ".join(_CONTROL.sub(" ", text).split())


def queue_state(state: QueueState.ValueType) -> str:
    """`RUNNING` for QUEUE_STATE_RUNNING; a number for a state that this version does not know."""
    return _name(QueueState.Name, state, "QUEUE_STATE_")


def job_state(state: JobState.ValueType) -> str:
    """`RUNNING` for JOB_STATE_RUNNING."""
    return _name(JobState.Name, state, "JOB_STATE_")


def reason_code(code: Reason.ValueType) -> str:
    """`EXIT_CODE` for REASON_EXIT_CODE; empty for none."""
    return _name(Reason.Name, code, "REASON_") if code else ""


def severity(found: Severity.ValueType) -> str:
    """`warning` for SEVERITY_WARNING."""
    return _name(Severity.Name, found, "SEVERITY_").lower()


def parameter_type(found: ParameterType.ValueType) -> str:
    """`integer` for PARAMETER_TYPE_INTEGER."""
    return _name(ParameterType.Name, found, "PARAMETER_TYPE_").lower()


def reason_text(holder: Queue | Job) -> str:
    """Why a queue or job is in its state, on one line; empty where there is nothing to say."""
    message = one_line(holder.state_reason.message)
    return message or reason_code(holder.state_reason.code).lower().replace("_", " ")


def utc(time: Timestamp) -> str:
    """`2026-11-24T07:00:01Z`; empty for a time that is not set."""
    if not time.seconds:
        return ""
    return datetime.fromtimestamp(time.seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def elapsed_seconds(queue: Queue, now: float) -> float:
    """From when the queue was recorded until it ended, or until `now` (seconds since the epoch)."""
    until = queue.end_time.seconds + queue.end_time.nanos / 1e9 if queue.HasField("end_time") else now
    # The server's clock may be ahead of this machine's.
    return max(0.0, until - (queue.create_time.seconds + queue.create_time.nanos / 1e9))


def clock(seconds: float) -> str:
    """`0:42`, `1:02:03`, `2d 3:04:05`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    text = f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{days}d {text}" if days else text


def age(seconds: float) -> str:
    """`5s`, `12m`, `3h`, `2d`: the largest unit alone."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def count(number: int) -> str:
    """`12,345`."""
    return f"{number:,}"


def short_count(number: int) -> str:
    """At most six characters: `9,999`, `12.3k`, `4.56M`."""
    if number < 10_000:
        return count(number)
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"
    return count(number)


def records(number: int) -> str:
    """`1 record`, `12,345 records`."""
    return f"{count(number)} record{'' if number == 1 else 's'}"


def percent(progress: float) -> str:
    """` 42%`; 100% only when it is done."""
    return f"{min(int(progress * 100), 100):d}%"


def _name(lookup: object, value: int, prefix: str) -> str:
    try:
        return str(lookup(value)).removeprefix(prefix)  # type: ignore[operator] # a bound method of the enum's wrapper
    except ValueError:
        return str(int(value))
