"""The channel over Kafka: telemetry to the events topic, commands from the control topic.

A worker reads commands in the group of its queue's workers (`control-listener-<queue_id>`), so each reaches one of them;
the manager repeats `stop` on every partition until all have heard it. Brokers that are away are waited for; the work goes
on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any

from queue_manager.worker.channel import Hear
from queue_manager.worker.environment import Environment

try:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.errors import KafkaError, MessageSizeTooLargeError
    from aiokafka.helpers import create_ssl_context
except ImportError as missing:
    raise SystemExit(
        "KAFKA_BOOTSTRAP_SERVERS is set, and aiokafka is not installed: pip install 'streamforge-queue-manager[worker]'"
    ) from missing

log = logging.getLogger(__name__)

CLOSING = 5.0
"""Seconds in which the last words have to be out."""
AGAIN = 2.0
"""Seconds until a broker that is away is tried again."""
LARGEST_BACKLOG = 10_000
"""Messages that wait at most."""
LAST_WORDS = 10
"""Messages of a long backlog that have to be out in the end; how the work ended is among them."""

FAILURES = (KafkaError, OSError, ValueError)
"""What a broker that is away raises, and settings that no client can be made of: a certificate, an address."""


def options(environment: Environment) -> dict[str, Any]:
    """Arguments of every aiokafka client, for channels and for a worker's own data."""
    found: dict[str, Any] = {
        "bootstrap_servers": environment.bootstrap_servers.split(","),
        "client_id": environment.telemetry_id,
    }
    if environment.kafka_user:
        found |= {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": environment.kafka_user,
            "sasl_plain_password": environment.kafka_password,
            "ssl_context": create_ssl_context(cafile=environment.ca_path or None),
        }
    return found


class KafkaChannel:
    """See `channel.Channel`."""

    def __init__(self, environment: Environment, hear: Hear) -> None:
        """`hear` is given the commands."""
        self._environment = environment
        self._hear = hear
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue(maxsize=LARGEST_BACKLOG)
        self._has_lost = False
        self._working: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> KafkaChannel:
        """It connects in the background."""
        self._working = [
            asyncio.create_task(self._speak(), name="telemetry"),
            asyncio.create_task(self._listen(), name="commands"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What has been said goes out, if that does not take long; if it does, at least the last words."""
        for most in (LARGEST_BACKLOG, LAST_WORDS):
            self._keep(most)
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING / 2):
                    await self._unsent.join()
        for task in self._working:
            task.cancel()
        await asyncio.wait(self._working, timeout=CLOSING)

    async def send(self, message: bytes) -> None:
        """See `channel.Channel`. It never waits: of a backlog that is too long the oldest is lost."""
        self._keep(LARGEST_BACKLOG - 1)
        self._unsent.put_nowait(message)

    def _keep(self, most: int) -> None:
        """Lose the oldest of the backlog, down to this many."""
        while self._unsent.qsize() > most:
            self._unsent.get_nowait()
            self._unsent.task_done()
            if not self._has_lost:
                log.warning("too much telemetry waits for the broker; the oldest is lost")
            self._has_lost = True

    async def _speak(self) -> None:
        """In order, each until it is safe."""
        key, message = self._environment.telemetry_id.encode(), None
        while True:
            try:
                producer = AIOKafkaProducer(**options(self._environment), acks="all", request_timeout_ms=10_000)
                async with _running(producer):
                    while True:
                        message = message or await self._unsent.get()
                        try:
                            await producer.send_and_wait(self._environment.events_topic, message, key=key)
                        except MessageSizeTooLargeError as error:  # it never will be sent, and others wait behind it
                            log.warning("a message of %d bytes is lost: %s", len(message), error)
                        message = None
                        self._unsent.task_done()
            except FAILURES as error:
                log.warning("telemetry cannot be sent: %s", error)
            await asyncio.sleep(AGAIN)

    async def _listen(self) -> None:
        while True:
            try:
                consumer = AIOKafkaConsumer(
                    self._environment.control_topic,
                    **options(self._environment),
                    group_id=f"control-listener-{self._environment.queue_id}",
                    auto_offset_reset="latest",
                )
                async with _running(consumer):
                    async for record in consumer:
                        self._hear(record.value or b"")
            except FAILURES as error:
                log.warning("commands cannot be read: %s", error)
            await asyncio.sleep(AGAIN)


@asynccontextmanager
async def _running(client: AIOKafkaProducer | AIOKafkaConsumer) -> AsyncIterator[None]:
    """A producer or a consumer, started, and stopped whether it could be started or not."""
    try:
        await client.start()
        yield
    finally:
        await _ended(client)


async def _ended(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """A client that does not stop is left: its process ends, too. It may raise `CancelledError` by itself."""
    ending = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({ending}, timeout=CLOSING)
    if not done:
        ending.cancel()
    elif not ending.cancelled():
        ending.exception()
