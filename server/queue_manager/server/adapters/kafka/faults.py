"""What the library raises, as the core's `Unavailable`; and how its clients are ended.

A client whose broker is away may hang for ever when it is stopped, and may then raise `CancelledError` although nobody has
cancelled anything (aio-libs/aiokafka#647): an `await` of it would end whoever waits. So it is awaited from outside, for
a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from queue_manager.server.domain.errors import Unavailable

log = structlog.get_logger(__name__)

NOT_ALLOWED: Final = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, ClusterAuthorizationFailedError)
"""What a broker answers to a user that may not do this."""

STOPPING: Final = 5.0
"""Seconds that a client may take to stop before it is left to itself."""


@contextmanager
def reachable(what: str) -> Iterator[None]:
    """What goes wrong inside on the way to the brokers, or there, is `Unavailable`."""
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        raise Unavailable(f"{what}: {told(error)}") from error


def told(error: BaseException) -> str:
    """An error in one line; some of them have no text."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, NOT_ALLOWED):
        return f"Kafka does not allow it ({text}); docs/kafka.md says what the server has to be allowed"
    return text


async def stopped(client: AIOKafkaProducer | AIOKafkaConsumer | AIOKafkaAdminClient) -> None:
    """End a client, and the connections that it leaves open where that fails. Never raises."""
    stop = client.close if isinstance(client, AIOKafkaAdminClient) else client.stop
    connections = client.client if isinstance(client, AIOKafkaProducer) else client._client  # noqa: SLF001 - see above
    for end in (stop, connections.close):
        ending = asyncio.ensure_future(end())
        done, _ = await asyncio.wait({ending}, timeout=STOPPING)
        if not done:
            ending.cancel()
            await asyncio.wait({ending}, timeout=STOPPING)
            log.warning("a Kafka client does not stop; it is left", waited=STOPPING)
        elif not ending.cancelled() and (error := ending.exception()) is not None:
            log.info("a Kafka client stopped with an error", error=told(error))
