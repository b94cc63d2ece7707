"""What `queuectl` exits with. Scripts rely on these numbers: they never change their meaning."""

from __future__ import annotations

from enum import IntEnum

from queue_manager.client import errors
from queue_manager.v1.queue_pb2 import Queue, QueueState


class ExitCode(IntEnum):
    """One code for each thing that a script may want to tell apart."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    QUEUE_FAILED = 6
    QUEUE_STOPPED = 7
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


def for_error(error: errors.QueueManagerError) -> ExitCode:
    """The code for a call that failed."""
    match error:
        case errors.InvalidRequest() | errors.OutOfRange():
            return ExitCode.USAGE
        case errors.NotFound():
            return ExitCode.NOT_FOUND
        case errors.AlreadyExists() | errors.FailedPrecondition():
            return ExitCode.CONFLICT
        case errors.Unavailable() | errors.DeadlineExceeded():
            return ExitCode.UNREACHABLE
    return ExitCode.UNEXPECTED


def for_ended(queue: Queue, *, stop_wanted: bool = False) -> ExitCode:
    """The code for a queue that has ended; with `stop_wanted`, STOPPED is what was asked for."""
    match queue.state:
        case QueueState.QUEUE_STATE_FAILED:
            return ExitCode.QUEUE_FAILED
        case QueueState.QUEUE_STATE_STOPPED:
            return ExitCode.OK if stop_wanted else ExitCode.QUEUE_STOPPED
    return ExitCode.OK
