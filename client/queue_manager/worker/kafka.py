"""The channel over Kafka: telemetry to the events topic, commands from the control topic.

A worker reads commands in the group of its queue's workers (`control-listener-<queue_id>`), so each reaches one of them;
the manager repeats `stop` on every partition until all have heard it. Brokers that are away are waited for; the work goes
on.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from types import TracebackType
from typing import Any

from queue_manager.worker.channel import Hear
from queue_manager.worker.environment import Environment

try:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.errors import KafkaError
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
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue(maxsize=10_000)
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
        """What has been said goes out, if that does not take long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await self._unsent.join()
        for task in self._working:
            task.cancel()
        await asyncio.wait(self._working, timeout=CLOSING)

    async def send(self, message: bytes) -> None:
        """See `channel.Channel`. Waits where ten thousand messages wait already."""
        await self._unsent.put(message)

    async def _speak(self) -> None:
        """In order, each until it is safe."""
        key, message = self._environment.telemetry_id.encode(), None
        while True:
            producer = AIOKafkaProducer(**options(self._environment), acks="all", request_timeout_ms=10_000)
            try:
                await producer.start()
                while True:
                    message = message or await self._unsent.get()
                    await producer.send_and_wait(self._environment.events_topic, message, key=key)
                    message = None
                    self._unsent.task_done()
            except (KafkaError, OSError) as error:
                log.warning("telemetry cannot be sent: %s", error)
            finally:
                await _ended(producer)
            await asyncio.sleep(AGAIN)

    async def _listen(self) -> None:
        while True:
            consumer = AIOKafkaConsumer(
                self._environment.control_topic,
                **options(self._environment),
                group_id=f"control-listener-{self._environment.queue_id}",
                auto_offset_reset="latest",
            )
            try:
                await consumer.start()
                async for record in consumer:
                    self._hear(record.value or b"")
            except (KafkaError, OSError) as error:
                log.warning("commands cannot be read: %s", error)
            finally:
                await _ended(consumer)
            await asyncio.sleep(AGAIN)


async def _ended(client: AIOKafkaProducer | AIOKafkaConsumer) -> None:
    """A client that does not stop is left: its process ends, too. It may raise `CancelledError` by itself."""
    ending = asyncio.ensure_future(client.stop())
    done, _ = await asyncio.wait({ending}, timeout=CLOSING)
    if not done:
        ending.cancel()
    elif not ending.cancelled():
        ending.exception()
