"""What a producer does with answers, on the library's own client, less the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from queue_manager.server.adapters.kafka import producer as module
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.adapters.kafka.producer import Outgoing, Producer
from queue_manager.server.application.ports import Message
from queue_manager.server.domain.errors import Unavailable
from tests.support.local_workers import WallClock

ACCESS = Access(bootstrap_servers="nowhere:1")


class Brokers:
    """One broker; it answers every record with the code that `answer` has for its topic."""

    def __init__(self, answer: Callable[[str], int] = lambda _: 0) -> None:
        self.answer = answer
        self.partitions = {"queue-control": 1, "queue-events": 1, "queue-events.dlq": 1}
        self.asked = 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have clients reach it."""

        async def let_in(access: Access) -> dict[str, Any]:
            return access.options()

        async def bootstrap(client: AIOKafkaClient) -> None:
            self._tell(client)

        async def update(client: AIOKafkaClient) -> bool:
            self.asked += 1
            self._tell(client)
            return True

        async def send(_client: object, _node: int, request: Any, **_: object) -> Any:
            await asyncio.sleep(0.01)
            rows = [
                (topic, [(number, self.answer(topic), 0, -1, 0) for number, _ in parts])
                for topic, parts in topics(request)
            ]
            return SimpleNamespace(API_VERSION=7, topics=rows)

        def topics(request: Any) -> Any:
            return request._topics if hasattr(request, "_topics") else request.topics

        monkeypatch.setattr(AIOKafkaClient, "bootstrap", bootstrap)
        monkeypatch.setattr(AIOKafkaClient, "force_metadata_update", update)
        monkeypatch.setattr(AIOKafkaClient, "send", send)
        monkeypatch.setattr(module, "knock", let_in)

    def _tell(self, client: AIOKafkaClient) -> None:
        rows: list[Any] = [
            (0, topic, False, [(0, number, 1, [1], [1], []) for number in range(count)])
            for topic, count in self.partitions.items()
        ]
        told = SimpleNamespace(API_VERSION=5, brokers=[(1, "nowhere", 1, None)], controller_id=1, topics=rows)
        client.cluster.update_metadata(told)


@pytest.mark.parametrize("refusal", [TopicAuthorizationFailedError, MessageSizeTooLargeError])
async def test_a_record_that_is_refused_does_not_end_the_way_of_the_others(
    monkeypatch: pytest.MonkeyPatch, refusal: Any
) -> None:
    """Dead letters that nobody takes are lost, each by itself; else whoever waits for them would read them for ever."""
    Brokers(lambda topic: refusal.errno if topic.endswith(".dlq") else 0).install(monkeypatch)
    told: list[tuple[str, str]] = []
    bus = KafkaBus(
        ACCESS, Topics(), group="g", clock=WallClock(), rng=Random(1), observe=lambda *event: told.append(event)
    )
    letters = [Message(b"x" * 600_000, 1.0, "queue-events/0@1", position) for position in range(4)]
    await asyncio.gather(*(bus.bury(letter, "is no JSON") for letter in letters))
    assert told == [("dead_letter_lost", "queue-events")] * 4
    await bus.close()


async def test_partitions_that_were_added_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks for a topic's partitions every five minutes, and asserts that there are no others."""
    brokers = Brokers()
    brokers.install(monkeypatch)
    async with Producer(ACCESS) as producer:
        await producer.send([Outgoing("queue-control", b"{}", b"k", partition=0)])
        assert brokers.asked == 0
        brokers.partitions["queue-control"] = 3
        await producer.send([Outgoing("queue-control", b"{}", b"k", partition=number) for number in range(3)])
        assert brokers.asked == 1
        with pytest.raises(Unavailable, match="topic queue-control does not have all of its partitions yet"):
            await producer.send([Outgoing("queue-control", b"{}", b"k", partition=7)])
