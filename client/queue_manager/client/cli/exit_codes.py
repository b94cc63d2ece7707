"""The numbers that `queuectl` exits with, and what each means: one table for the code, `--help` and the documentation.

Scripts rely on them: they never change their meaning. Which of them a command ends with is in `exits.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class ExitCode(IntEnum):
    """One code for each thing that a script may want to tell apart. From 1 on, the lower the worse."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    UNREACHABLE = 5
    QUEUE_FAILED = 6
    QUEUE_STOPPED = 7
    UNHEALTHY = 8
    INTERRUPTED = 130
    BROKEN_PIPE = 141
    TERMINATED = 143


MEANINGS: Final[Mapping[ExitCode, str]] = {
    ExitCode.OK: "ok; where it waits for the end of a queue: it FINISHED, or with stop --wait is STOPPED as asked",
    ExitCode.UNEXPECTED: "unexpected error, the output cannot be written, or a question was answered with no",
    ExitCode.USAGE: "wrong usage, an unreadable file, or a request that breaks rules",
    ExitCode.NOT_FOUND: "no such queue or target",
    ExitCode.CONFLICT: "conflict: the request id belongs to another body, the queue is in the wrong state, "
    "or there is no broker",
    ExitCode.UNREACHABLE: "server not reachable, or no answer in time",
    ExitCode.QUEUE_FAILED: "the queue ended FAILED (watch, start --watch, stop --wait)",
    ExitCode.QUEUE_STOPPED: "the queue ended STOPPED (watch, start --watch)",
    ExitCode.UNHEALTHY: "something is wrong with the server or its surroundings (doctor)",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C; the queue goes on",
    ExitCode.BROKEN_PIPE: "whoever reads the pipe has gone, as with | head",
    ExitCode.TERMINATED: "ended by SIGTERM; the queue goes on",
}


def worse(one: ExitCode, other: ExitCode) -> ExitCode:
    """The one that counts where several queues are dealt with: the lower, but anything over OK."""
    return min(one, other) or max(one, other)
