"""The `Bus` port over Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Final, Self

import msgspec
import structlog
from aiokafka import ConsumerRecord, TopicPartition

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import NOTHING, Admin
from queue_manager.server.adapters.kafka.consumer import Backlog, Consumer, Observe, Take
from queue_manager.server.adapters.kafka.drift import Wanted, look
from queue_manager.server.adapters.kafka.letters import SUFFIX, Letters, buried
from queue_manager.server.adapters.kafka.producer import OWN, REFUSALS, SOURCE, Outgoing, Producer
from queue_manager.server.application.diagnosis import Finding, Severity
from queue_manager.server.application.ports import Clock, Message, Publication, Receiver, WorkerCommand
from queue_manager.server.application.workqueue import Backoff
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import Job, Queue, Reads
from queue_manager.server.domain.telemetry import is_own

log = structlog.get_logger(__name__)

CONTROL_GROUPS: Final = ("control-listener-{queue_id}", "consumer-{queue_id}")
"""The groups in which a queue's workers read commands (contracts, section 4)."""

ENSURING: Final = 30.0
"""Seconds between two looks at whether the topics are there."""

CHECKING: Final = 3.0
"""Seconds in which the brokers have to answer to count as there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """Which topics there are, and how they are made."""

    control: str = "queue-control"
    events: str = "queue-events"
    create: bool = True
    """Whether we make those that there are not. Data topics are each queue's own, so these are made in any case."""
    partitions: int = 12
    """Of the control and the events topic: as many servers can share them."""
    data_partitions: int = 3
    """Of a data topic: as many connectors can share it."""
    copies: int = 3
    """Of each partition, where there are so many brokers."""
    retention: float = 7 * 86400.0
    """Seconds for which messages are kept: longer than anybody's week-end."""

    @property
    def shared(self) -> tuple[str, str]:
        """Those that everybody shares, less their dead letters."""
        return (self.control, self.events)

    def wanted(self) -> dict[str, Wanted]:
        """What those that everybody shares should be like, dead letters among them."""
        retention = int(self.retention * 1000)
        found = {
            topic: Wanted(partitions=self.partitions, copies=self.copies, retention=retention) for topic in self.shared
        }
        for topic in self.shared:
            found[f"{topic}{SUFFIX}"] = Wanted(partitions=None, copies=self.copies, retention=retention)
        return found


class KafkaBus:
    """`async with` opens and closes it; brokers that are away are waited for in the background."""

    name = "kafka"

    def __init__(
        self,
        access: Access,
        topics: Topics,
        *,
        group: str,
        clock: Clock,
        rng: Random,
        instance: str | None = None,
        observe: Observe = lambda *_: None,
    ) -> None:
        """`group`: of consumer groups whose members share the work; each topic has one of its own.

        `instance`: who we are among these, the same after a restart.
        """
        self._observe = observe
        self._topics = topics
        self._servers = access.bootstrap_servers
        self._drift: list[Finding] = []
        self._clock = clock
        self._receiver: Receiver | None = None
        self._backoff = Backoff(rng)
        self._admin = Admin(access, rng=rng)
        self._producer = Producer(access)
        self.dead_letters = Letters(access, self._admin, self._producer, topics=topics.shared, observe=observe)

        def reading(topic: str, role: str, take: Take) -> Consumer:
            return Consumer(
                access,
                self._admin,
                topic=topic,
                group=f"{group}-{role}",
                take=take,
                backoff=Backoff(rng),
                instance=instance,
                observe=observe,
            )

        self._telemetry = reading(topics.events, "events", self._take_in)
        self._commands = reading(topics.control, "control", self._hear)
        self._ensured = asyncio.Event()
        self._reading: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._ensuring = asyncio.create_task(self._ensure(), name="topics")
        self._reading = [
            asyncio.create_task(self._read(self._telemetry), name="telemetry"),
            asyncio.create_task(self._read(self._commands), name="commands"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for consumer in (self._telemetry, self._commands):
            consumer.end()
        self._ensured.set()  # also those end that wait for it
        self._ensuring.cancel()
        await asyncio.wait([self._ensuring, *self._reading])
        await self.close()

    async def close(self) -> None:
        """Let go of the connections; where it was opened, leaving it does that."""
        await self._producer.close()
        await self._admin.close()

    # --- the port ---

    def subscribe(self, receiver: Receiver) -> None:
        """See `ports.Bus`."""
        self._receiver = receiver

    async def prepare(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        readers = _readers(queue)
        names = sorted({*_written(queue), *(topic for topics in readers.values() for topic in topics)})
        partitions: Mapping[str, Mapping[int, int]] = {}
        if names:
            making = dict.fromkeys(names, self._topics.data_partitions)
            partitions = await self._admin.create(making, settings={}, copies=self._topics.copies)
        for group, topics in readers.items():
            wanted = [TopicPartition(topic, number) for topic in topics for number in partitions[topic]]
            committed = await self._admin.committed(group, wanted)
            fresh = {tp: 0 for tp in wanted if committed.get(tp, (NOTHING, ""))[0] == NOTHING}
            if fresh:
                await self._admin.commit(group, fresh)
        ends = await self._admin.ends([self._topics.control])
        for template in CONTROL_GROUPS:
            await self._admin.commit(template.format(queue_id=queue.queue_id), ends)

    async def send(self, *commands: WorkerCommand) -> None:
        """See `ports.Bus`. To every partition, because the workers of a queue share a group; a `start` is only news."""
        await self._producer.send([record for command in commands for record in await self._records(command)])

    async def _records(self, command: WorkerCommand) -> Sequence[Outgoing]:
        value, key = msgspec.json.encode(command.sent_at(self._clock.now())), command.queue_id.encode()
        topic = self._topics.control
        if command.command == "start":
            return [Outgoing(topic, value, key)]
        found = await self._admin.partitions([topic])
        if topic not in found:
            raise Unavailable(f"there is no topic {topic}")
        return [Outgoing(topic, value, key, partition=number) for number in found[topic]]

    def heard_until(self) -> float:
        """See `ports.Bus`. Another server's partitions are that one's to know of."""
        return self._telemetry.heard_until

    @property
    def is_heard(self) -> bool:
        """See `ports.Bus`: who reads a topic is not known."""
        return True

    async def publish(self, events: Sequence[Publication]) -> None:
        """See `ports.Bus`."""
        await self._producer.send(
            [Outgoing(self._topics.events, msgspec.json.encode(each.value), each.queue_id.encode()) for each in events]
        )

    async def bury(self, message: Message, reason: str) -> None:
        """See `ports.Bus`. In the topic's dead-letter topic, with the place that it came from, and why."""
        letter = buried(message, reason)
        topic = letter.topic.removesuffix(SUFFIX)
        if await self._kept(letter):
            self._observe("dead_letter", topic)
        else:  # nobody waits for it, and what comes after it does
            self._observe("dead_letter_lost", topic)
            log.error(
                "a message cannot be read, nor be kept", source=message.source, position=message.position, why=reason
            )

    async def _kept(self, letter: Outgoing) -> bool:
        """Whether there is a topic for it that takes it. Raises `Unavailable` where that may yet come."""
        if not self._topics.create and letter.topic not in await self._admin.partitions([letter.topic]):
            return False
        try:
            await self._producer.send([letter])
        except Unavailable as error:
            if isinstance(error.__cause__, REFUSALS):
                return False
            raise
        return True

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """See `ports.Bus`. In records."""
        topics = _read_by(queue, job)
        if not topics:
            return 0
        ends = await self._admin.ends(topics)
        committed = await self._admin.committed(job.spec.consumer_group, ends)
        return sum(end - max(0, committed.get(tp, (NOTHING, ""))[0]) for tp, end in ends.items())

    async def forget(self, queue: Queue) -> None:
        """See `ports.Bus`. Groups stay: the platform's user may not delete them, and the brokers do in time."""
        if names := _written(queue):
            await self._admin.delete(names)

    async def check(self) -> None:
        """See `ports.Bus`."""
        try:
            async with asyncio.timeout(CHECKING):
                found = await self._admin.partitions(self._topics.shared)
                if self._unfit or not self._reading:
                    await self._look()  # else that is done now and then
        except TimeoutError as error:
            raise Unavailable(f"Kafka does not answer: not within {CHECKING:.0f} s") from error
        if (missing := set(self._topics.shared) - set(found)) and (self._reading or not self._topics.create):
            raise _absent(missing)
        if self._unfit:
            raise Unavailable("; ".join(f"{finding.message}. {finding.remedy}" for finding in self._unfit))
        if self._reading and self.problem:
            raise Unavailable(f"Kafka cannot be read: {self.problem}")

    async def warnings(self) -> Sequence[Finding]:
        """See `ports.Bus`. What topics are like that others have made, or have not."""
        found = [finding for finding in await self._look() if finding.severity is Severity.WARNING]
        letters = [topic for topic in self._topics.wanted() if topic.endswith(SUFFIX)]
        missing = sorted(set(letters) - set(await self._admin.partitions(letters)))
        if missing and not self._topics.create:
            what = f"there is no topic {' and '.join(missing)}: what nobody can read is only logged, and lost"
            remedy = "make it, with one partition, or allow that it is made: QM_KAFKA_CREATE_TOPICS"
            found.append(Finding(severity=Severity.WARNING, part="bus", message=what, remedy=remedy, subjects=missing))
        return found

    @property
    def problem(self) -> str:
        """Why telemetry or commands cannot be read now; empty where they can."""
        return self._telemetry.problem or self._commands.problem

    def backlogs(self) -> Mapping[str, Mapping[int, Backlog]]:
        """By topic: see `Consumer.backlog`."""
        return {self._topics.events: self._telemetry.backlog(), self._topics.control: self._commands.backlog()}

    # --- inside ---

    async def _ensure(self) -> None:
        """Have the topics that everybody shares made, if that is ours to do; also when somebody has removed them."""
        shared = set(self._topics.shared)
        wanted = {topic: each.partitions or 1 for topic, each in self._topics.wanted().items()}
        keep = {"retention.ms": str(int(self._topics.retention * 1000))}
        while True:
            try:
                missing = set(wanted) - set(await self._admin.partitions(wanted))
                if self._topics.create and missing:
                    making = {topic: count for topic, count in wanted.items() if topic in missing}
                    await self._admin.create(making, settings=keep, copies=self._topics.copies)
                elif missing & shared:
                    raise _absent(missing & shared)
                self._ensured.set()
                await self._look()
            except Exception as error:  # whatever it is: nothing is read until the topics are there
                delay = self._backoff.failed("topics")
                expected = isinstance(error, Unavailable)
                log.warning("topics are not ready", error=str(error), retry_in=round(delay, 3), exc_info=not expected)
                await asyncio.sleep(delay)
            else:
                self._backoff.clear("topics")
                await asyncio.sleep(ENSURING)

    async def _look(self) -> list[Finding]:
        """What the topics are like, if not as they are wanted; it is logged when that is another thing than before."""
        found = await look(self._admin, self._topics.wanted(), servers=self._servers)
        for finding in found:
            if finding not in self._drift:
                log.warning("a topic is not as it is wanted", problem=finding.message, remedy=finding.remedy)
        self._drift = found
        return found

    @property
    def _unfit(self) -> list[Finding]:
        return [finding for finding in self._drift if finding.severity is Severity.ERROR]

    async def _read(self, consumer: Consumer) -> None:
        await self._ensured.wait()  # a client that subscribes to a topic that there is not makes it, its own way
        await consumer.run()

    def _take_in(self, source: str, records: Sequence[ConsumerRecord]) -> Awaitable[object]:
        return self._listener.telemetry(_messages(source, records))

    def _hear(self, source: str, records: Sequence[ConsumerRecord]) -> Awaitable[object]:
        return self._listener.commands(_messages(source, records))

    @property
    def _listener(self) -> Receiver:
        if self._receiver is None:
            raise Unavailable("nobody listens yet")
        return self._receiver


def _absent(topics: Iterable[str]) -> Unavailable:
    names = ", ".join(sorted(topics))
    return Unavailable(f"there is no topic {names}; make it, or allow that it is made: QM_KAFKA_CREATE_TOPICS")


def _messages(source: str, records: Sequence[ConsumerRecord]) -> list[Message]:
    """What others have said."""
    return [
        Message(record.value or b"", record.timestamp / 1000, source, record.offset, record.key)
        for record in records
        if not _is_own(record)
    ]


def _is_own(record: ConsumerRecord) -> bool:
    return (SOURCE, OWN) in record.headers or (record.value is not None and is_own(record.value))


def _written(queue: Queue) -> set[str]:
    """The queue's own data topics."""
    specs = [job.spec for job in queue.jobs]
    return {spec.kafka_topic for spec in specs if spec.kafka_topic and (spec.feeds or spec.reads is Reads.OWN)}


def _read_by(queue: Queue, job: Job) -> set[str]:
    """The data topics that a job reads."""
    match job.spec.reads:
        case Reads.NONE:
            return set()
        case Reads.OWN:
            return {job.spec.kafka_topic}
        case Reads.ALL:
            return {other.spec.kafka_topic for other in queue.jobs if other.spec.feeds}


def _readers(queue: Queue) -> Mapping[str, Iterable[str]]:
    """By consumer group: the data topics that it reads."""
    found: dict[str, set[str]] = {}
    for job in queue.jobs:
        if topics := _read_by(queue, job):
            found.setdefault(job.spec.consumer_group, set()).update(topics)
    return found
