"""What is asked of brokers, on a client that is played; the real one is in the contract suite."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import (
    KafkaConnectionError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from aiokafka.protocol.metadata import MetadataRequest

from queue_manager.server.adapters.kafka import admin as module
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import Admin
from queue_manager.server.domain.errors import Unavailable

pytestmark = pytest.mark.virtual_time


class Client:
    """A broker that knows of a topic only after it has been asked twice."""

    def __init__(self) -> None:
        self.asked = 0
        self.made: list[str] = []
        self.closed = False

    async def start(self) -> None:
        """Connect."""

    async def create_topics(self, wanted: Any, *, timeout_ms: int) -> Any:
        """Make them; of the second time on they are there."""
        del timeout_ms
        code = TopicAlreadyExistsError.errno if self.made else 0
        self.made = [each.name for each in wanted]
        return SimpleNamespace(topic_errors=[(name, code, "") for name in self.made])

    async def _send_request(self, request: MetadataRequest) -> Any:
        topics = []
        if self.made:
            self.asked += 1
            for name in self.made:
                known = self.asked > 2
                code = 0 if known else UnknownTopicOrPartitionError.errno
                rows = [{"partition": number, "leader": 1} for number in range(3)] if known else []
                topics.append({"topic": name, "error_code": code, "partitions": rows})
        del request
        return SimpleNamespace(brokers=[1], to_object=lambda: {"topics": topics})


class Refusing(Client):
    """Lets nobody see its topics, and answers only when told. `gone`: which question it leaves without an answer."""

    def __init__(self, *, gone: int = 0) -> None:
        super().__init__()
        self.gone = gone
        self.answer = asyncio.Event()

    async def _send_request(self, request: MetadataRequest) -> Any:
        del request
        self.asked += 1
        if self.asked == self.gone:
            raise KafkaConnectionError("gone")
        await self.answer.wait()
        if self.closed:
            raise KafkaConnectionError("closed by ourselves")
        topics = [{"topic": "data", "error_code": TopicAuthorizationFailedError.errno, "partitions": []}]
        return SimpleNamespace(brokers=[1], to_object=lambda: {"topics": topics})


@asynccontextmanager
async def played(monkeypatch: pytest.MonkeyPatch, *clients: Client) -> AsyncIterator[Admin]:
    """An `Admin` that is given these clients, one after the other."""
    left = iter(clients)

    async def let_in(access: Access) -> dict[str, Any]:
        return access.options()

    async def stopped(client: Client) -> None:
        client.closed = True

    monkeypatch.setattr(module, "knock", let_in)
    monkeypatch.setattr(module, "stopped", stopped)
    monkeypatch.setattr(module, "AIOKafkaAdminClient", lambda **_: next(left))
    async with Admin(Access(bootstrap_servers="nowhere:1"), rng=Random(1)) as admin:
        yield admin


async def test_a_topic_counts_as_made_once_brokers_know_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its readers' groups would not be given a beginning, and would lose what comes before they have joined."""
    async with played(monkeypatch, Client()) as admin:
        await admin.create({"data": 3}, settings={}, copies=1)
        assert await admin.partitions(["data"]) == {"data": {0: 1, 1: 1, 2: 1}}


async def test_a_call_that_fails_does_not_close_the_connection_under_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other would say that, instead of what is wrong; the connection is closed once nobody waits on it."""
    first, second = Refusing(gone=2), Refusing(gone=1)
    async with played(monkeypatch, first, second) as admin:
        waiting, failing = (asyncio.ensure_future(admin.partitions(["data"])) for _ in range(2))
        with pytest.raises(Unavailable, match="gone"):
            await failing
        assert not first.closed
        first.answer.set()
        with pytest.raises(Unavailable, match="Kafka does not allow it"):
            await waiting
        assert first.closed
        with pytest.raises(Unavailable, match="gone"):
            await admin.partitions(["data"])
        assert second.closed


async def test_a_refusal_leaves_the_connection_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an answer; a new login would get the same."""
    client = Refusing()
    client.answer.set()
    async with played(monkeypatch, client) as admin:
        for _ in range(2):
            with pytest.raises(Unavailable, match="Kafka does not allow it"):
                await admin.partitions(["data"])
        assert not client.closed
    assert client.closed
