"""What the outside tells the core: everything that `lifecycle.reduce` can be given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import RunnerRef, StateReason, StopMode
from queue_manager.server.domain.telemetry import Telemetry


class Phase(StrEnum):
    """What a runner knows of a worker."""

    ABSENT = "ABSENT"
    """There is none of that name: asked afresh, not from a cache."""
    WAITING = "WAITING"
    """Accepted, its process does not run yet."""
    RUNNING = "RUNNING"
    ENDED = "ENDED"
    """Nothing of it runs any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """What a runner says of a worker."""

    key: WorkerKey
    phase: Phase
    ref: RunnerRef | None = None
    """Set unless ABSENT; or of one that ENDED, where nobody can tell any more which it was."""
    spec_hash: str = ""
    """The hash that it was launched with; empty where the runner does not know."""
    exit_code: int | None = None
    """Of an ENDED worker, 128 + n for signal n; None: nobody knows (it vanished)."""
    reason: StateReason | None = None
    """Why it waits, or what the runner says of its end beyond the exit code."""
    hopeless: bool = False
    """Of one that waits: what it waits for, as `reason` has it, will not come by itself."""
    start_time: float | None = None
    end_time: float | None = None
    """When it was over, at the latest, by the manager's clock."""
    telemetry_complete: bool = False
    """Of an ENDED worker: all that it ever said was handed to the receiver before this status was given."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The runner will never accept this launch."""

    key: WorkerKey
    reason: StateReason


@dataclass(frozen=True, slots=True)
class Delayed:
    """The runner could not be asked to launch the worker now, or to end it; it will be asked again."""

    key: WorkerKey
    message: str
    unsure: bool = True
    """Whether it may have been launched all the same, or may yet be."""
    retry_after: float = 0.0
    """Seconds for which it wishes not to be asked again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The runner is no longer waited for to end the worker: it has been asked."""

    key: WorkerKey


@dataclass(frozen=True, slots=True)
class Recovered:
    """The queue was written by another process, or by this one without an answer: launch calls may be under way."""


@dataclass(frozen=True, slots=True)
class Heard:
    """Telemetry of a queue, in the order in which it came."""

    reports: Sequence[Telemetry]


@dataclass(frozen=True, slots=True)
class Lag:
    """What a drains job's consumer group has yet to read; None: not known."""

    job: str
    lag: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRequested:
    """Somebody wants the queue stopped."""

    mode: StopMode
    grace_period: float
    reason: str
    by: str
    asked_at: float | None = None
    """When that was said where workers hear it, too, UTC seconds; None: they are told by the manager alone."""


Observation = WorkerStatus | Refused | Delayed | Answered | Recovered | Heard | Lag | StopRequested
