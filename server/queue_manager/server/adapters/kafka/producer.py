"""Records out: written to all replicas when a call returns, or `Unavailable`.

Not idempotent, on purpose: such a producer's batches never expire, so that with a broker that is away both its calls and
its end hang (aio-libs/aiokafka#1101). What is sent again after a failure is known by its `event_id`, or may be heard twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.faults import reachable, stopped
from queue_manager.server.adapters.kafka.knock import knock
from queue_manager.server.domain.errors import Unavailable

TIMEOUT: Final = 10.0
"""Seconds in which a record has to be safe."""

LARGEST: Final = 2**20
"""Bytes of a batch; brokers take as much by default."""

REFUSALS: Final = (MessageSizeTooLargeError, TopicAuthorizationFailedError)
"""Answers that are about a record, or its topic; others go the same way as before."""

SOURCE: Final = "x-source"
OWN: Final = b"queue-manager"
"""The header by which our own records are told from others'."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to be sent. Without a `partition`, its key decides."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ((SOURCE, OWN),)


class Producer:
    """Made anew whenever a call has failed, and when a file of `access` has changed. `async with` closes it."""

    def __init__(self, access: Access) -> None:
        """Nothing is connected yet."""
        self._access = access
        self._opened: AIOKafkaProducer | None = None
        self._stamp: tuple[float, ...] = ()
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection; leaving it does that."""
        self._drop(self._opened)
        if self._closing:
            await asyncio.wait(self._closing)

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Send records, those of one partition in this order. Raises `Unavailable`: then some may have been sent."""
        if not records:
            return
        client = None
        try:
            with reachable("send to Kafka"):
                async with asyncio.timeout(TIMEOUT):
                    client = await self._client()
                    await _know_partitions(client, records)
                    sent = [
                        await client.send(
                            each.topic, each.value, each.key, partition=each.partition, headers=list(each.headers)
                        )
                        for each in records
                    ]
                    await asyncio.gather(*sent)
        except Unavailable as error:
            if not isinstance(error.__cause__, REFUSALS):
                self._drop(client)
            raise

    async def _client(self) -> AIOKafkaProducer:
        async with self._opening:
            stamp = self._access.stamp()
            if self._opened is not None and stamp != self._stamp:
                self._drop(self._opened)
            if (client := self._opened) is None:
                client = AIOKafkaProducer(
                    **await knock(self._access),
                    acks="all",
                    linger_ms=2,
                    max_batch_size=LARGEST,
                    request_timeout_ms=int(TIMEOUT * 1000),
                )
                try:
                    await client.start()
                except BaseException:
                    await stopped(client)
                    raise
                self._opened, self._stamp = client, stamp
            return client

    def _drop(self, client: AIOKafkaProducer | None) -> None:
        """End a client in the background: it may be long in ending, and the next one need not wait for that."""
        if client is None or client is not self._opened:
            return
        self._opened = None
        task = asyncio.create_task(stopped(client), name="end a Kafka producer")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _know_partitions(client: AIOKafkaProducer, records: Sequence[Outgoing]) -> None:
    """Have a client that may remember a topic as it was minutes ago learn of partitions that were added since."""
    for topic in {each.topic for each in records if each.partition is not None}:
        wanted = {each.partition for each in records if each.topic == topic} - {None}
        if not wanted <= await client.partitions_for(topic):
            await client.client.force_metadata_update()
            if not wanted <= await client.partitions_for(topic):
                raise Unavailable(f"topic {topic} does not have all of its partitions yet")
