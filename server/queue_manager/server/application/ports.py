"""The three ports of the core, and the values that cross them.

`StateStore` keeps queues, `Runner` runs workers, `Bus` carries messages. An adapter translates its library's exceptions:
`Unavailable` where the part is out of reach, `Conflict` for a lost compare-and-set; nothing else is raised on purpose.
Every call is bounded in time by the adapter. All calls may be repeated: a caller that saw no answer asks again.
`tests/contract` has one suite for each port that all its adapters pass.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import msgspec

from queue_manager.server.application.diagnosis import Finding
from queue_manager.server.domain.history import Entry
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Job, Queue, QueueState
from queue_manager.server.domain.observation import Refused, WorkerStatus


class Clock(Protocol):
    """The wall clock. Intervals are slept on the event loop's clock, so that both can be virtual."""

    def now(self) -> float:
        """UTC seconds since the epoch."""


# --- StateStore -------------------------------------------------------------------------------------------------------


class Record(msgspec.Struct, frozen=True, gc=False):
    """A stored queue with the store's version of it, for compare-and-set. Versions are opaque."""

    queue: Queue
    version: str


@dataclass(frozen=True, slots=True)
class QueueFilter:
    """What ListQueues can ask for; every field that is set must hold."""

    states: frozenset[QueueState] = frozenset()
    symbol: str = ""
    target: str = ""
    labels: Mapping[str, str | None] = field(default_factory=dict)
    """Label → value; None: any value."""
    created_after: float | None = None
    """Inclusive."""
    created_before: float | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list of queues, newest first: the last queue that was answered."""

    create_time: float
    queue_id: str


class StateStore(Protocol):
    """Keeps queues as documents with compare-and-set, and the history of each."""

    name: str
    exclusive: bool
    """This process is the only writer, so what it has in memory is the truth."""

    async def create(self, queue: Queue, entry: Entry) -> Record:
        """Store a new queue with its first history entry, durably, before it returns.

        Where its `request_id` (if any) belongs to a stored queue, nothing is written and that queue's record is returned.
        Raises `Conflict` where the `queue_id` is taken.
        """

    async def get(self, queue_id: str) -> Record | None:
        """The newest record."""

    async def get_by_request_id(self, request_id: str) -> Record | None:
        """The record of the queue that was started with this `request_id`."""

    async def replace(self, queue: Queue, *, version: str, entry: Entry | None) -> Record:
        """Replace the queue whose stored version is `version`, with the history entry of the change, durably.

        Both or nothing. Raises `Conflict` where the version differs or the queue is gone.
        """

    async def list(self, query: QueueFilter, *, after: Cursor | None, limit: int) -> Sequence[Queue]:
        """At most `limit` queues that match, newest first (create time, then id, both descending), after the cursor."""

    async def unsettled(self, *, after: str, limit: int) -> Sequence[Record]:
        """At most `limit` records of queues that are not `settled`, by ascending id, with ids greater than `after`."""

    async def history(self, queue_id: str) -> Sequence[Entry]:
        """The entries that are kept of a queue, oldest first: all, or the newest up to a bound per queue.

        Where older ones have been dropped, the first one has the statuses of all jobs (`history.compact`). One whose event
        is not out yet (its revision is after the queue's `published_revision`) is never dropped.
        """

    async def ended_before(self, time: float, *, limit: int) -> Sequence[str]:
        """At most `limit` ids of settled queues whose end_time is before `time`, oldest first."""

    async def delete(self, queue_id: str) -> None:
        """Remove a queue and its history. Nothing happens where it is gone."""

    async def check(self) -> None:
        """Raise `Unavailable` where the store cannot be reached now."""


# --- Runner -----------------------------------------------------------------------------------------------------------


class Wake(Protocol):
    """Has a queue looked at, at once or after `delay` seconds. Earlier wishes go before later ones."""

    def __call__(self, queue_id: str, delay: float = 0.0, /) -> None:
        """A hint, never the truth."""


class Runner(Protocol):
    """Runs workers, each under a name that is used once."""

    name: str
    launch_settle: float
    """How long after a launch call has failed without an answer, or its caller has died, it may still take effect."""

    def launch(self, spec: LaunchSpec) -> Awaitable[WorkerStatus | Refused]:
        """Start the worker, or find the one that an earlier call of the same name started; never two.

        Raises `Unavailable` where it cannot be said whether it started: the caller looks again later; `Declined` where it
        certainly has not, and will not.
        """

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """What of these would be refused if it were launched now; nothing is."""

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """How each of these workers stands, in the same order."""

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """Begin to end the worker: SIGTERM, and SIGKILL after `grace` seconds (0: at once). Returns without waiting.

        It is over when `observe` says ENDED or ABSENT; a launch of that name that is still under way takes no effect
        after that (but see `launch_settle`). Idempotent; a smaller grace hastens a deletion under way, where the runner can
        do that (Kubernetes keeps to the grace that was given first).
        """

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """Tell the runner that these workers' results are recorded, so that it may let go of them in time.

        Those in `stopped` were told to end, or made to: of them nothing need stay in a place that others share. Their names
        may be given up: no launch of them is under way any more.
        """

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """Remove what is still kept of these ended workers (their output)."""

    async def alive(self) -> Sequence[WorkerKey]:
        """The workers of any queue that are not over: to find those that no record knows. May be a moment old.

        Those whose deletion is under way may be left out.
        """

    def subscribe(self, wake: Wake) -> None:
        """Have `wake` called whenever a worker of a queue may have changed, or will be worth a look."""

    async def check(self) -> None:
        """Raise `Unavailable` where the runner cannot be reached now."""


# --- Bus --------------------------------------------------------------------------------------------------------------


class Message(msgspec.Struct, frozen=True, gc=False):
    """A message that came in: raw bytes, when it was recorded, and where (for de-duplication).

    Positions of one source only grow; a source that has no position to offer leaves it None.
    """

    value: bytes
    record_time: float
    source: str = ""
    position: int | None = None
    key: bytes | None = None
    """What it was sent with, where the bus has keys."""


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """A command to the workers of a queue: the JSON object of contracts section 4, less what the bus adds."""

    queue_id: str
    command: str
    fields: Mapping[str, object] = field(default_factory=dict)

    def sent_at(self, time: float) -> Mapping[str, object]:
        """The whole object, sent at this time, UTC seconds."""
        stamp = "sent_at" if self.command == "ping" else "timestamp"
        return {"command": self.command, "queue_id": self.queue_id, stamp: time, **self.fields}


@dataclass(frozen=True, slots=True)
class Publication:
    """One event for the outside, keyed by queue; `event_id` is the same whenever it is published again."""

    event_id: str
    queue_id: str
    value: Mapping[str, object]


class Receiver(Protocol):
    """What takes in the messages that a bus delivers."""

    def telemetry(self, messages: Sequence[Message]) -> Awaitable[object]:
        """Take them in before returning; the awaitable is done when they have been stored (or need not be)."""

    def commands(self, messages: Sequence[Message]) -> Awaitable[object]:
        """Commands of others to the manager, in order; the awaitable is done when all that they ask for is recorded."""


class Bus(Protocol):
    """Carries commands to workers, telemetry from them, and the manager's events to everybody else."""

    name: str

    def subscribe(self, receiver: Receiver) -> None:
        """Hand what comes in to this receiver. Called once, before anything else."""

    async def prepare(self, queue: Queue) -> None:
        """Make the queue's topics ready for a launch into a queue none of whose workers run (contracts, sections 3, 4).

        Data topics exist and their readers' groups begin at the start; surplus stops of earlier attempts are skipped.
        """

    async def send(self, *commands: WorkerCommand) -> None:
        """Send commands to the workers of queues. At least once; workers may not be there."""

    def heard_until(self) -> float:
        """Up to when what workers said has been handed to the receiver, as far as is known; UTC seconds, `inf`: always."""

    @property
    def is_heard(self) -> bool:
        """Whether anybody can get what is published now. Where not, it need not even be made."""

    async def publish(self, events: Sequence[Publication]) -> None:
        """Publish events, in this order, at least once; returns when they are safe."""

    async def bury(self, message: Message, reason: str) -> None:
        """Keep a message that nobody can read where people can look at it; returns when it is safe."""

    @property
    def dead_letters(self) -> DeadLetters | None:
        """Those that were buried; None where this bus has no place for them."""

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """How much a `drains` job's consumer group has yet to read of its topics; None: not known now."""

    async def forget(self, queue: Queue) -> None:
        """Remove what is kept for a queue that is being deleted."""

    async def check(self) -> None:
        """Raise `Unavailable` where the bus cannot be reached now."""

    async def warnings(self) -> Sequence[Finding]:
        """What of the bus works and deserves a look. Raises `Unavailable` where that cannot be told now."""


# --- Dead letters -----------------------------------------------------------------------------------------------------


class DeadLetter(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A message that was buried. Times are UTC seconds since the epoch."""

    id: str
    time: float
    """When it was buried."""
    topic: str
    """Where it came from, with its place there; -1 where that is not known."""
    partition: int
    offset: int
    error: str
    value: bytes
    """Its beginning, where it is large."""
    size: int
    """Of the whole value, in bytes."""
    is_text: bool
    """Whether the value is UTF-8, as much as was kept of it."""
    is_cut: bool = False
    """Whether only its beginning was kept when it was buried."""
    replay_time: float | None = None
    replayed_by: str = ""


class Fate(StrEnum):
    """What became of a dead letter."""

    WAITING = "WAITING"
    """It can be replayed."""
    REPLAYED = "REPLAYED"
    CUT = "CUT"
    """Only its beginning was kept, so it cannot be replayed."""


@dataclass(frozen=True, slots=True)
class LetterCursor:
    """A place in the list of dead letters, newest first: the last one that was answered."""

    time: float
    id: str


class DeadLetters(Protocol):
    """What a bus has buried. Only the newest of a topic are known, up to a bound; ids are the adapter's."""

    topics: Sequence[str]
    """Those whose messages can end up here."""

    async def page(
        self, topics: Sequence[str], *, before: LetterCursor | None, limit: int
    ) -> tuple[Sequence[DeadLetter], bool]:
        """At most `limit` that came from these topics, newest first, after the cursor; and whether there are more.

        Fewer than `limit` where their values are large, but at least one where there is one.
        """

    async def fates(self, ids: Sequence[str]) -> Mapping[str, Fate]:
        """What became of each of these. Those that there are not are missing."""

    async def fates_of(self, topic: str) -> Mapping[str, Fate]:
        """What became of each that came from this topic."""

    def replay(self, ids: Sequence[str], *, by: str) -> AsyncGenerator[Sequence[str], None]:
        """Send these again, a few at a time, and mark them as replayed by somebody; yields each few once that is safe.

        What was sent when it raises and not yielded yet may not be marked.
        """
