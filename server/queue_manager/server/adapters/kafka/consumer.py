"""Records in: a member of a consumer group that reads one topic, for ever, and commits what has been stored.

What the reference of failure modes teaches: nothing is committed by the clock, records come as bytes, a poll is never
cancelled before the end, every call is bounded, and whatever fails ends in a new client.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import NOTHING, Admin
from queue_manager.server.adapters.kafka.faults import stopped, told
from queue_manager.server.adapters.kafka.knock import knock
from queue_manager.server.application.workqueue import Backoff
from queue_manager.server.domain.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

POLL: Final = 0.5
"""Seconds after which a poll returns with nothing; so long an end takes, because polls are not cancelled."""
PAUSED: Final = 0.02
"""The same where nothing is fetched, until enough of what was fetched is stored."""
POLLED: Final = 2000
"""Records of a poll at most."""
STALLED: Final = 45.0
"""Seconds for which a rebalance may last, with `REBALANCE` and some more, until it counts as a problem."""
STARTING: Final = 60.0
"""Seconds in which a client must have started; a group that is being rebalanced takes its time."""
COMMITTING: Final = 10.0
COMMIT_EVERY: Final = 1.0
"""Seconds between two commits: what is read again after a crash is no more than that."""
UNSTORED: Final = 50_000
"""Records that may wait to be stored; then nothing is fetched until half of them are. Storing takes its window of 0.2 s and
more, so this bounds the rate: 20,000 were read at half the speed, 100,000 hardly faster and with 25 MiB more."""
UNSTORED_SIZE: Final = 48 * 2**20
"""The same in bytes."""
STEADY: Final = 10.0
"""Seconds for which a client has to work until its predecessors' failures are forgotten."""
SETTLING: Final = 10.0
"""Seconds for which a partition that is taken away waits for what was read of it to be stored."""

SESSION: Final = 30_000
REBALANCE: Final = 30_000
REQUEST: Final = 45_000
"""Milliseconds. A JoinGroup may take the rebalance's time-out, and has to be waited for longer than that."""

Take = Callable[[str, Sequence[ConsumerRecord]], Awaitable[object]]
"""Given the name of the source that their offsets belong to, and records of one partition: takes them in before it returns;
the awaitable is done when they are stored. Raises `Unavailable`."""


Observe = Callable[[str, str], None]
"""Told of what befalls a topic: `rebuild` of a client, `dead_letter`, `replay` of one."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """What of a partition waits."""

    unfetched: int
    """Records, as far as is known."""
    unstored: int
    """Records that were fetched."""
    since: float | None
    """When the oldest of all of these was written, or before; UTC seconds. None: nothing waits."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Records that were handed on together."""

    end: int
    """The offset after it."""
    count: int
    size: int
    """Bytes of their values."""
    since: float
    """When the first was written, UTC seconds."""
    stored: asyncio.Future[object]

    @classmethod
    def of(cls, records: Sequence[ConsumerRecord], stored: asyncio.Future[object]) -> _Batch:
        """`stored`: whether these are."""
        size = sum(len(record.value or b"") for record in records)
        return cls(records[-1].offset + 1, len(records), size, records[0].timestamp / 1000, stored)


@dataclass(slots=True)
class _Partition:
    """What was read of a partition and is not committed yet."""

    source: str
    note: str
    """Committed with each offset: which life of the topic it belongs to."""
    position: int
    """The offset that comes next."""
    unstored: deque[_Batch]
    last_time: float = 0.0
    """When the last of them was written, UTC seconds."""
    done: int = NOTHING
    committed: int = NOTHING

    @property
    def waiting(self) -> int:
        """How many records of it are not stored yet."""
        return sum(batch.count for batch in self.unstored)


class Consumer:
    """Reads while `run` runs."""

    def __init__(
        self,
        access: Access,
        admin: Admin,
        *,
        topic: str,
        group: str,
        take: Take,
        backoff: Backoff,
        instance: str | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        """`take` is given what comes in.

        `instance` is who we are in the group, also in our next life, which takes over what this one had at once; without,
        the group waits for `SESSION` until it gives up a member that was killed, and lets nobody in meanwhile.
        """
        self._observe = observe
        self.problem = "not connected yet"
        """Why nothing can be read now; empty where it can."""
        self.heard_until = 0.0
        """Up to when all that was in our partitions has been handed on; UTC seconds."""
        self._access = access
        self._admin = admin
        self._topic = topic
        self._group = group
        self._take = take
        self._backoff = backoff
        self._instance = instance
        self._partitions: dict[TopicPartition, _Partition] = {}
        self._changes = 0
        """How often partitions were taken away, or given to us with where they begin."""
        self._client: AIOKafkaConsumer | None = None
        self._failed: Exception | None = None
        self._ending = asyncio.Event()
        self._committed_at = 0.0

    def end(self) -> None:
        """Have `run` come to its end: what is stored is committed, and the group is left."""
        self._ending.set()

    def backlog(self) -> Mapping[int, Backlog]:
        """By partition that we read."""
        found = {}
        for tp, known in self._partitions.items():
            end = self._client.highwater(tp) if self._client is not None else None
            unfetched = max(0, end - known.position) if end is not None else 0
            since = known.unstored[0].since if known.unstored else known.last_time if unfetched else None
            found[tp.partition] = Backlog(unfetched, known.waiting, since)
        return found

    async def run(self) -> None:
        """Read until `end` is called."""
        while not self._ending.is_set():
            try:
                await self._read()
            except Exception as error:  # whatever it is: a reader that has ended would be missed by nobody
                expected = isinstance(error, (KafkaError, OSError, TimeoutError, Unavailable))
                self.problem = told(error)
                self._observe("rebuild", self._topic)
                delay = self._backoff.failed(self._topic)
                log.warning(
                    "reading failed",
                    topic=self._topic,
                    error=self.problem,
                    retry_in=round(delay, 3),
                    exc_info=not expected,
                )
                with suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._ending.wait()

    async def _read(self) -> None:
        """With one client, until it fails, has old credentials, or the end has come."""
        stamp = self._access.stamp()
        client = AIOKafkaConsumer(
            **await knock(self._access),
            group_id=self._group,
            group_instance_id=self._instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION,
            rebalance_timeout_ms=REBALANCE,
            request_timeout_ms=REQUEST,
            metadata_max_age_ms=30_000,
            max_partition_fetch_bytes=2**20,
        )
        self._client, self._failed = client, None
        try:
            client.subscribe([self._topic], listener=_Listener(self))
            await self._started(client)
            began = monotonic()
            while not self._ending.is_set() and self._access.stamp() == stamp:
                await self._poll(client)
                self.problem = ""
                if monotonic() > began + STEADY:
                    self._backoff.clear(self._topic)
            await self._commit()
        finally:
            joined = client._coordinator  # noqa: SLF001 - None until it has started
            if self._ending.is_set() and joined is not None:
                joined._group_instance_id = None  # noqa: SLF001 - as such a member it would not leave; others would wait
            await stopped(client)
            self._client = None
            for known in self._partitions.values():
                await _abandoned(known.unstored)
            self._partitions.clear()

    async def _started(self, client: AIOKafkaConsumer) -> None:
        """Start a client, unless that takes too long, or the end comes before."""
        async with self._unless_ending(client.start()) as (starting, first):
            await first(STARTING)
            if starting.done():
                starting.result()
            elif not self._ending.is_set():
                raise TimeoutError(f"Kafka has not let us join group {self._group} within {STARTING:.0f} s")

    @asynccontextmanager
    async def _unless_ending(
        self, work: Coroutine[Any, Any, T]
    ) -> AsyncIterator[tuple[asyncio.Task[T], Callable[[float | None], Awaitable[object]]]]:
        """The task that does this, and what waits so many seconds for it or the end; it is cancelled on the way out."""
        doing, ending = asyncio.create_task(work), asyncio.create_task(self._ending.wait())

        async def first(timeout: float | None) -> None:
            await asyncio.wait({doing, ending}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

        try:
            yield doing, first
        finally:
            doing.cancel()
            ending.cancel()
            await asyncio.wait({doing, ending})

    async def _poll(self, client: AIOKafkaConsumer) -> None:
        changes = self._changes
        polled = await self._polled(client)
        if self._failed is not None:
            raise self._failed
        if changes != self._changes:
            # What was read before `assigned` has gone back and what was read after it cannot be told apart.
            self._go_back(client, polled)
            polled = {}
        for tp, records in polled.items():
            if changes != self._changes:
                break  # taken away meanwhile; whoever has it now reads it again
            if (known := self._partitions.get(tp)) is None:
                continue  # read before `assigned` has said where it begins, and goes back there
            if records[0].offset < known.position:
                self._begin(tp, note="", offset=NOTHING)  # the topic was made anew, and begins at nought
                known = self._partitions[tp]
            if known.committed == NOTHING:
                await self._christen(tp, records[0])
                if self._partitions.get(tp) is not known:
                    continue  # taken away meanwhile
            known.position = records[-1].offset + 1
            taken = self._take(known.source, records)
            # Of a coroutine we make a task, which is ours to cancel; a future is somebody else's.
            if not isinstance(taken, asyncio.Future):
                taken = _in_order(taken, after=known.unstored[-1].stored if known.unstored else None)
            known.unstored.append(_Batch.of(records, taken))
            known.last_time = records[-1].timestamp / 1000
        self.heard_until = max(self.heard_until, self._read_until(client))
        self._count_done()
        if monotonic() > self._committed_at + COMMIT_EVERY:
            await self._commit()
        with suppress(IllegalStateError):  # a partition has just been taken away
            if self._full > 1.0 and not client.paused():
                client.pause(*client.assignment())
            elif self._full < 0.5 and client.paused():
                client.resume(*client.paused())

    async def _polled(self, client: AIOKafkaConsumer) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        """What comes next; nothing where the end has come.

        While its group is being rebalanced, the library waits without a limit. At the end it is left to itself: it may have
        taken records out, but its client is not used any more.
        """
        patience = PAUSED if client.paused() else POLL
        poll = client.getmany(timeout_ms=int(patience * 1000), max_records=POLLED)
        async with self._unless_ending(poll) as (polling, first):
            await first(STALLED)
            if not polling.done() and not self._ending.is_set():
                self.problem = f"group {self._group} has not given us partitions for {STALLED:.0f} s"
                await first(None)
            if not polling.done():
                await asyncio.wait({polling}, timeout=POLL)
            return polling.result() if polling.done() else {}

    @property
    def _full(self) -> float:
        """How much waits to be stored, of what may."""
        waiting = [batch for known in self._partitions.values() for batch in known.unstored]
        return max(
            sum(batch.count for batch in waiting) / UNSTORED, sum(batch.size for batch in waiting) / UNSTORED_SIZE
        )

    def _read_until(self, client: AIOKafkaConsumer) -> float:
        """Up to when all that was in our partitions has been handed on, UTC seconds; 0: it has not, or we have none."""
        times = []
        for tp, known in self._partitions.items():
            end, answered = client.highwater(tp), client.last_poll_timestamp(tp)
            if end is None or answered is None or known.position < end:
                return 0.0
            times.append(answered / 1000)  # while no broker answers, nobody knows what there is
        return min(times, default=0.0)

    async def _christen(self, tp: TopicPartition, first: ConsumerRecord) -> None:
        """Have a name of this life of the topic stored before anything of it is taken in.

        Whoever reads the same after a crash must call it the same, else it would be something new. So must a group whose
        offsets have expired, a week after its last member has left: it is named by when its first record was written.
        """
        assert self._client is not None
        known = self._partitions[tp]
        known.note = format(first.timestamp, "x")
        known.source = _source(tp, known.note)
        async with asyncio.timeout(COMMITTING):
            await self._client.commit({tp: OffsetAndMetadata(first.offset, known.note)})
        known.committed = first.offset

    def _count_done(self) -> None:
        for known in self._partitions.values():
            while known.unstored and known.unstored[0].stored.done():
                batch = known.unstored.popleft()
                if (error := batch.stored.exception()) is not None:
                    raise Unavailable(f"what was read of {known.source} was not stored: {told(error)}") from error
                known.done = batch.end

    async def _commit(self, only: Iterable[TopicPartition] | None = None) -> None:
        """Commit what is stored. A member that was put out meanwhile cannot; then others read that again."""
        assert self._client is not None
        self._committed_at = monotonic()
        self._count_done()
        partitions = dict(self._partitions)  # a rebalance may take some away meanwhile
        chosen = partitions if only is None else {tp: partitions[tp] for tp in only if tp in partitions}
        wanted = {
            tp: OffsetAndMetadata(known.done, known.note)
            for tp, known in chosen.items()
            if known.done > known.committed
        }
        if not wanted:
            return
        try:
            async with asyncio.timeout(COMMITTING):
                await self._client.commit(wanted)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("offsets are not committed", topic=self._topic, error=told(error))
            return
        for tp, commit in wanted.items():
            chosen[tp].committed = commit.offset

    async def assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Partitions that we read from now on: where they begin, and which life of the topic that is."""
        try:
            found = await self._admin.committed(self._group, assigned)
        except Exception as error:
            self._failed = error  # what is raised here is only logged
            return
        self._changes += 1
        for tp, (offset, note) in found.items():
            self._begin(tp, note=note, offset=offset)
        assert self._client is not None
        self._go_back(self._client, found)  # the library may have gone ahead; where nought is no more, it knows

    def _go_back(self, client: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> None:
        """Read those of them that are ours from where they stand."""
        for tp in partitions:
            if (known := self._partitions.get(tp)) is not None:
                with suppress(IllegalStateError):  # the next change has come already
                    client.seek(tp, known.position)

    def _begin(self, tp: TopicPartition, *, note: str, offset: int) -> None:
        """Offsets begin at nought in a topic that was deleted and made again, so each life of it has a name of its own."""
        self._partitions[tp] = _Partition(_source(tp, note), note, max(offset, 0), deque(), committed=offset)

    async def revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions that others read from now on: what was read of them is stored and committed, if that is soon."""
        self._changes += 1
        gone = {tp: self._partitions[tp] for tp in revoked if tp in self._partitions}
        waiting = [batch.stored for known in gone.values() for batch in known.unstored]
        try:
            if waiting:
                await asyncio.wait(waiting, timeout=SETTLING)
            if gone and self._client is not None:
                await self._commit(gone)
        except Exception as error:
            self._failed = error  # what is raised here is only logged
        finally:
            for tp in gone:
                self._partitions.pop(tp, None)


def _source(tp: TopicPartition, note: str) -> str:
    return f"{tp.topic}/{tp.partition}" + (f"@{note}" if note else "")


def _in_order(work: Awaitable[object], *, after: asyncio.Future[object] | None) -> asyncio.Task[object]:
    """Do it once what came before it is done: what comes after a message may follow from it."""

    async def done() -> object:
        if after is not None:
            await asyncio.wait([after])
            if after.cancelled() or after.exception() is not None:
                raise Unavailable("what came before it was not done")
        return await work

    task = asyncio.create_task(done(), name="store")
    if isinstance(work, Coroutine):
        task.add_done_callback(lambda _: work.close())  # of one that was not begun
    return task


async def _abandoned(unstored: Iterable[_Batch]) -> None:
    """Wait no longer for this; it is read again."""
    ours = [batch.stored for batch in unstored if isinstance(batch.stored, asyncio.Task)]
    for task in ours:
        task.cancel()
    await asyncio.gather(*ours, return_exceptions=True)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # the library has no types
    """What the library calls, in a task of its own, whenever the group's members have changed."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Before the others are told."""
        await self._consumer.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Before anything is read."""
        await self._consumer.assigned(assigned)
