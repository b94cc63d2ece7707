"""The values that the Queue Manager keeps: queues, their jobs, and what is known of each.

All are immutable; a change makes a new value (`msgspec.structs.replace`). They are also the stored form: a store keeps
them as JSON, so a field added here needs a default, and a field's meaning never changes. Times are UTC seconds since the
epoch, durations seconds, `None` means "not known". Only `lifecycle` changes states.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NewType

import msgspec

QueueId = NewType("QueueId", str)
JobName = NewType("JobName", str)

MESSAGE_LIMIT: Final = 4096
"""Longest message kept, in bytes of UTF-8 (design: "cut to 4 KiB at intake")."""


class QueueState(StrEnum):
    """Where a queue is in its life."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"


class JobState(StrEnum):
    """Where a job is in its life."""

    PENDING = "PENDING"
    LAUNCHING = "LAUNCHING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    LOST = "LOST"
    SKIPPED = "SKIPPED"


TERMINAL_QUEUE_STATES: Final = frozenset({QueueState.FINISHED, QueueState.FAILED, QueueState.STOPPED})
TERMINAL_JOB_STATES: Final = frozenset(
    {JobState.FINISHED, JobState.FAILED, JobState.STOPPED, JobState.LOST, JobState.SKIPPED}
)


class Reason(StrEnum):
    """Why a queue or a job is in its state; the closed list of `queue.proto`, whose comments explain each."""

    WAITING_FOR_DEPENDENCY = "WAITING_FOR_DEPENDENCY"
    WAITING_FOR_RUNNER = "WAITING_FOR_RUNNER"
    IMAGE_PULL_FAILED = "IMAGE_PULL_FAILED"
    UNSCHEDULABLE = "UNSCHEDULABLE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    CONFIG_ERROR = "CONFIG_ERROR"
    OOM_KILLED = "OOM_KILLED"
    EXIT_CODE = "EXIT_CODE"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    WORKER_ERROR = "WORKER_ERROR"
    DEPENDENCY_FAILED = "DEPENDENCY_FAILED"
    START_TIMEOUT = "START_TIMEOUT"
    STOPPED_BY_USER = "STOPPED_BY_USER"
    JOB_DELETED_EXTERNALLY = "JOB_DELETED_EXTERNALLY"
    ENDED_UNEXPECTEDLY = "ENDED_UNEXPECTEDLY"
    INTERRUPTED = "INTERRUPTED"
    STOPPED_BY_POLICY = "STOPPED_BY_POLICY"
    DRAINED = "DRAINED"
    LINGERED = "LINGERED"
    NEVER_REPORTED = "NEVER_REPORTED"
    JOB_FAILED = "JOB_FAILED"
    EVICTED = "EVICTED"
    WORKER_VANISHED = "WORKER_VANISHED"


class FailurePolicy(StrEnum):
    """What happens to the other jobs when one fails."""

    KEEP_GOING = "KEEP_GOING"
    STOP_ALL = "STOP_ALL"


class Lifetime(StrEnum):
    """How a worker ends (contracts, section 1)."""

    FINITE = "FINITE"
    ENDLESS = "ENDLESS"
    DRAINS = "DRAINS"


class DependencyCondition(StrEnum):
    """What must have happened to a job before one that depends on it is launched."""

    STARTED = "STARTED"
    FINISHED = "FINISHED"


class StopMode(StrEnum):
    """How a queue is stopped."""

    GRACEFUL = "GRACEFUL"
    FORCE = "FORCE"


class Reads(StrEnum):
    """Which data topics of its queue a job's consumer group reads."""

    NONE = "NONE"
    OWN = "OWN"
    ALL = "ALL"


class Ending(StrEnum):
    """Why the manager itself ends a job's worker."""

    STOP = "STOP"
    POLICY = "POLICY"
    DRAINED = "DRAINED"
    LINGERED = "LINGERED"
    START_TIMEOUT = "START_TIMEOUT"
    DEADLINE = "DEADLINE"
    REFUSED = "REFUSED"
    """The runner refuses it, or has taken it and says that it will never run."""


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Base of every value here: immutable, keyword-only, stored without the fields that have their defaults.

    Values are made from the leaves up, so there are no cycles, and the garbage collector need not walk tens of thousands
    of them (`gc=False`).
    """


class StateReason(Value, frozen=True, kw_only=True):
    """A state's reason: a code for programs, a message for people."""

    code: Reason
    message: str = ""


class Dependency(Value, frozen=True, kw_only=True):
    """A gate on another job of the same queue."""

    job: JobName
    condition: DependencyCondition = DependencyCondition.FINISHED


class RunnerRef(Value, frozen=True, kw_only=True):
    """Where a worker lives; `uid` is the runner's identity of this very worker and is never used twice."""

    runner: str
    name: str
    uid: str
    namespace: str = ""
    pid: int = 0


class JobSpec(Value, frozen=True, kw_only=True):
    """What was asked for a job, with what was derived for it when the queue was accepted. Never changes."""

    name: JobName
    target: str
    type: str
    telemetry_id: str
    kafka_topic: str
    image: str
    lifetime: Lifetime
    interval: str = ""
    collection_inputs: tuple[str, ...] = ()
    collection_output: str = ""
    graph_collection: str = ""
    model_output: str = ""
    inference_interval: str = ""
    source: str = ""
    collection_name: str = ""
    parameters: dict[str, str] = {}
    depends_on: tuple[Dependency, ...] = ()
    timeout: float | None = None
    feeds: bool = False
    """It writes its `kafka_topic`."""
    reads: Reads = Reads.NONE
    consumer_group: str = ""
    """Its consumer group, where `reads` is not NONE."""


class EndIntent(Value, frozen=True, kw_only=True):
    """The manager's recorded decision to end a worker."""

    why: Ending
    time: float
    delete_at: float
    """When the worker is deleted if it has not ended by itself. Equal to `time`: at once."""
    grace: float
    """Seconds between SIGTERM and SIGKILL once it is deleted; 0: SIGKILL at once."""
    message: str = ""
    code: Reason | None = None
    """The reason to give, where `why` does not say it."""
    asked_at: float | None = None
    """When it was asked for, where workers may have heard that before the manager; None: they have not."""

    @property
    def since(self) -> float:
        """From when on what the worker does may be due to this."""
        return self.time if self.asked_at is None else min(self.asked_at, self.time)


class Words(Value, frozen=True, kw_only=True):
    """What the current attempt's worker has said of its own end (contracts, section 5, "Verdict")."""

    error: str | None = None
    """Text of the error that stands, if one does."""
    error_time: float = 0.0
    """When the newest error was written to its partition, UTC seconds."""
    progress_time: float = 0.0
    """The same of the newest word that work goes on."""
    error_is_final: bool = False
    """The standing error was flagged as the last message, so nothing said later takes it back."""
    interrupted: bool = False
    final: str = ""
    """Status of the first message that was flagged as the last one; empty: none was."""
    final_time: float | None = None
    """When that message was taken in, by the manager's clock."""


class JobStatus(Value, frozen=True, kw_only=True):
    """How a job stands: of its current attempt, everything that can change."""

    state: JobState = JobState.PENDING
    reason: StateReason | None = None
    attempt: int = 1
    create_time: float
    launch_time: float | None = None
    """When LAUNCHING was recorded."""
    accept_time: float | None = None
    """When the runner was first seen to have it."""
    launch_unsure: bool = False
    """A launch call without an answer may have been under way when it was accepted: for `launch_settle` after that its
    name must stay taken, or that call would start it a second time."""
    start_time: float | None = None
    worker_end_time: float | None = None
    """When the worker was seen to have ended; the verdict may come later."""
    end_time: float | None = None
    spec_hash: str = ""
    """Hash of the launch specification that was recorded with LAUNCHING."""
    runner: RunnerRef | None = None
    exit_code: int | None = None
    exit_reason: StateReason | None = None
    """What the runner says of the exit, e.g. OOM_KILLED."""
    records_written: int = 0
    progress: float | None = None
    message: str = ""
    last_error: str = ""
    error_count: int = 0
    last_telemetry_time: float | None = None
    words: Words = Words()
    ending: EndIntent | None = None
    no_lag_since: float | None = None
    """Since when a drains job's feeders have ended and its group has had no lag."""
    revision: int = 0
    """The queue's revision at which this status last changed."""


class Job(Value, frozen=True, kw_only=True):
    """One microservice of a queue."""

    spec: JobSpec
    status: JobStatus

    @property
    def name(self) -> JobName:
        """Its name, unique in the queue."""
        return self.spec.name

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""
        return self.status.state in TERMINAL_JOB_STATES


class QueueSpec(Value, frozen=True, kw_only=True):
    """What was asked for a queue. Never changes."""

    queue_id: QueueId
    symbol: str
    create_time: float
    start_timeout: float
    time_range: str = ""
    labels: dict[str, str] = {}
    request_id: str = ""
    fingerprint: str = ""
    """Hash of the request's body, to tell a repeated `request_id` from a misused one."""
    failure_policy: FailurePolicy = FailurePolicy.KEEP_GOING
    requested_by: str = ""


class Stop(Value, frozen=True, kw_only=True):
    """A recorded wish to stop the queue."""

    mode: StopMode
    time: float
    deadline: float
    """When workers that have not ended are deleted."""
    reason: str = ""
    by: str = ""


class QueueStatus(Value, frozen=True, kw_only=True):
    """How a queue stands."""

    state: QueueState = QueueState.PENDING
    reason: StateReason | None = None
    start_time: float | None = None
    end_time: float | None = None
    update_time: float
    stop: Stop | None = None
    message: str = ""
    """The last message that no job could be told for."""


class Queue(Value, frozen=True, kw_only=True):
    """One run of a group of microservices: the unit of storage and of compare-and-set."""

    spec: QueueSpec
    status: QueueStatus
    jobs: tuple[Job, ...]
    revision: int = 0
    history_revision: int = 0
    """Newest revision that is kept in history."""
    published_revision: int = 0
    """Events up to this revision have been published; it may lag behind what really was (at least once)."""
    applied: dict[str, int] = {}
    """For each telemetry source, the position up to which its messages have been applied."""
    settled: bool = False
    """Ended, all results recorded at the runner, all events published: nothing is left to do for it."""

    @property
    def queue_id(self) -> QueueId:
        """Its id."""
        return self.spec.queue_id

    @property
    def ended(self) -> bool:
        """Whether its state is terminal."""
        return self.status.state in TERMINAL_QUEUE_STATES

    def job(self, name: str) -> Job | None:
        """The job of that name, if there is one."""
        return next((job for job in self.jobs if job.spec.name == name), None)


def cut(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` cut to `limit` bytes of UTF-8, on a character boundary, with an ellipsis where something was cut."""
    if len(text) <= limit // 4 or len(raw := text.encode(errors="replace")) <= limit:
        return text
    return raw[: limit - 3].decode(errors="ignore") + "…"
