"""Which exit code a failed call or an ended queue becomes."""

from __future__ import annotations

from queue_manager.client import errors
from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.v1.queue_pb2 import Queue, QueueState


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
