"""The data topic that a loader fills and a connector empties: on Kafka where there is a broker, else the embedded one.

A message carries no data, only how many records it stands for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from queue_manager.server.adapters.inprocess.topics import DataTopic
from queue_manager.server.simulated_worker.settings import Settings
from queue_manager.worker import Environment

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


class Topic(Protocol):
    """Counts of records."""

    read_so_far: int
    """Records that were read, also where a `read` was cut off."""

    async def write(self, records: int) -> None:
        """Append so many."""

    async def read(self) -> None:
        """Read what has come since the last call, from where the group has got to, and commit it."""


class NoTopic:
    """Where a worker is run by hand, with nobody at the other end."""

    read_so_far = 0

    async def write(self, records: int) -> None:
        """See `Topic`."""

    async def read(self) -> None:
        """See `Topic`."""


class FileTopic:
    """The embedded one."""

    def __init__(self, topic: DataTopic, group: str) -> None:
        """`group`: whose offset is read and written."""
        self._topic = topic
        self._group = group
        self._offset = topic.committed(group)
        self.read_so_far = 0

    async def write(self, records: int) -> None:
        """See `Topic`."""
        self._topic.append(records)

    async def read(self) -> None:
        """See `Topic`."""
        count, offset = self._topic.read(self._offset)
        if offset > self._offset:
            self._topic.commit(self._group, offset)
            self._offset = offset
        self.read_so_far += count


class KafkaSource:
    """What a loader has of a Kafka topic."""

    read_so_far = 0

    def __init__(self, producer: AIOKafkaProducer, topic: str, passing: type[Exception]) -> None:
        """A producer that has been started. `passing`: what it raises where the broker is away."""
        self._passing = passing
        self._producer = producer
        self._topic = topic

    async def write(self, records: int) -> None:
        """See `Topic`. A broker that is away is waited for: to write twice does less harm than to lose."""
        while True:
            with suppress(self._passing):
                await self._producer.send_and_wait(self._topic, b"%d" % records)
                return

    async def read(self) -> None:
        """See `Topic`."""


class KafkaSink:
    """What a connector has of a Kafka topic."""

    def __init__(self, consumer: AIOKafkaConsumer, passing: type[Exception]) -> None:
        """A consumer that has been started. `passing`: what it raises where the broker is away."""
        self._passing = passing
        self._consumer = consumer
        self.read_so_far = 0

    async def write(self, records: int) -> None:
        """See `Topic`."""

    async def read(self) -> None:
        """See `Topic`. What could not be committed is committed with what comes next."""
        with suppress(self._passing):
            polled = await self._consumer.getmany(timeout_ms=0)
            self.read_so_far += sum(int(record.value) for records in polled.values() for record in records)
            if polled:
                await self._consumer.commit()


@asynccontextmanager
async def topic(settings: Settings, environment: Environment) -> AsyncIterator[Topic]:
    """The topic of this worker."""
    if not settings.topic or settings.kind not in ("loader", "connector"):
        yield NoTopic()
    elif environment.bootstrap_servers:
        from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # noqa: PLC0415 - only where there is a broker
        from aiokafka.errors import KafkaError  # noqa: PLC0415

        from queue_manager.worker.kafka import options  # noqa: PLC0415

        if settings.kind == "loader":
            async with AIOKafkaProducer(**options(environment), acks="all") as producer:
                yield KafkaSource(producer, settings.topic, KafkaError)
        else:
            reading = {"group_id": settings.group, "auto_offset_reset": "latest", "enable_auto_commit": False}
            async with AIOKafkaConsumer(settings.topic, **options(environment), **reading) as consumer:
                yield KafkaSink(consumer, KafkaError)
    elif settings.topics:
        yield FileTopic(DataTopic(settings.topics, settings.topic), settings.group)
    else:
        yield NoTopic()
