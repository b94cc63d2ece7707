"""What is asked of brokers, on a client that is played; the real one is in the contract suite."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from aiokafka.protocol.metadata import MetadataRequest

from queue_manager.server.adapters.kafka import admin as module
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import Admin

pytestmark = pytest.mark.virtual_time


class Client:
    """A broker that knows of a topic only after it has been asked twice."""

    def __init__(self) -> None:
        self.asked = 0
        self.made: list[str] = []
        self.client = SimpleNamespace()

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


async def test_a_topic_counts_as_made_once_brokers_know_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its readers' groups would not be given a beginning, and would lose what comes before they have joined."""
    client = Client()

    async def let_in(access: Access) -> dict[str, Any]:
        return access.options()

    async def stopped(_: Any) -> None:
        """Ended."""

    monkeypatch.setattr(module, "knock", let_in)
    monkeypatch.setattr(module, "stopped", stopped)
    monkeypatch.setattr(module, "AIOKafkaAdminClient", lambda **_: client)
    async with Admin(Access(bootstrap_servers="nowhere:1"), rng=Random(1)) as admin:
        await admin.create({"data": 3}, settings={}, copies=1)
        assert await admin.partitions(["data"]) == {"data": {0: 1, 1: 1, 2: 1}}
