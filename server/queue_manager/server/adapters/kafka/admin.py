"""What is asked of the brokers beyond messages: topics, their ends, and how far consumer groups have come.

Offsets are read and committed for groups of which we are no member: the brokers take such a commit only while the group has
none at all, which is what makes it safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    LeaderNotAvailableError,
    NotCoordinatorForGroupError,
    NotLeaderForPartitionError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.api import Request
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.faults import NOT_ALLOWED, reachable, stopped
from queue_manager.server.adapters.kafka.knock import knock

T = TypeVar("T")

TIMEOUT: Final = 10.0
"""Seconds that an operation may take in all, its retries included."""

_PASSING: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    LeaderNotAvailableError,
    NotCoordinatorForGroupError,
    NotLeaderForPartitionError,
)
"""Errors of a cluster that is just finding out who is in charge of what."""

NOTHING: Final = -1
"""The offset of a group that has committed none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a topic is laid out."""

    partitions: int
    copies: int
    """Of the partition that has the fewest."""


@dataclass(slots=True)
class _Opened:
    """A client that is connected."""

    client: AIOKafkaAdminClient
    stamp: tuple[float, ...]
    """Of the files that it was let in with."""

    calls: int = 0
    """That are waiting on it."""


class Admin:
    """Made anew whenever a call has failed. `async with` closes it. All calls raise `Unavailable`."""

    def __init__(self, access: Access, *, rng: Random) -> None:
        """Nothing is connected yet."""
        self._access = access
        self._rng = rng
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connection; leaving it does that."""
        await self._let_go(self._opened)

    async def create(
        self, topics: Mapping[str, int], *, settings: Mapping[str, str], copies: int
    ) -> dict[str, dict[int, int]]:
        """Make topics with so many partitions; those that there are stay. `copies` of each, or one a broker.

        Returns their `partitions` once brokers know of them, a moment after they are made: till then they seem not to be
        there.
        """

        async def create(client: AIOKafkaAdminClient) -> dict[str, dict[int, int]]:
            cluster = await _send(client, None, MetadataRequest([], allow_auto_topic_creation=False))
            most = min(copies, len(cluster.brokers))
            wanted = [
                NewTopic(name, num_partitions=count, replication_factor=most, topic_configs=dict(settings))
                for name, count in topics.items()
            ]
            response = await client.create_topics(wanted, timeout_ms=int(TIMEOUT * 1000))
            for name, code, *text in response.topic_errors:
                if code not in (0, TopicAlreadyExistsError.errno):
                    raise for_code(code)(f"topic {name}: {' '.join(filter(None, text))}")
            found = await _partitions(client, list(topics))
            if missing := set(topics) - set(found):
                raise LeaderNotAvailableError(f"topic {', '.join(sorted(missing))} is not known of yet")
            return found

        return await self._do("create topics", create)

    async def delete(self, topics: Iterable[str]) -> None:
        """Remove topics; those that there are not are passed over."""

        async def delete(client: AIOKafkaAdminClient) -> None:
            response = await client.delete_topics(list(topics), timeout_ms=int(TIMEOUT * 1000))
            for name, code, *_ in response.topic_error_codes:
                if code not in (0, UnknownTopicOrPartitionError.errno):
                    raise for_code(code)(f"topic {name}")

        await self._do("delete topics", delete)

    async def partitions(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """By topic: its partitions, each with the node that leads it. Topics that there are not are missing."""
        return await self._do("describe topics", lambda client: _partitions(client, list(topics)))

    async def shapes(self, topics: Iterable[str]) -> tuple[dict[str, Shape], int]:
        """By topic: how it is laid out; topics that there are not are missing. And how many brokers there are."""

        async def shapes(client: AIOKafkaAdminClient) -> tuple[dict[str, Shape], int]:
            rows, brokers = await _described(client, list(topics))
            found = {
                topic: Shape(partitions=len(partitions), copies=min(len(row["replicas"]) for row in partitions))
                for topic, partitions in rows.items()
            }
            return found, brokers

        return await self._do("describe topics", shapes)

    async def settings(self, topics: Iterable[str], names: Iterable[str]) -> dict[str, dict[str, str]]:
        """By topic: these of its settings, as they are in force. Topics that we may not ask about are missing.

        One that there is not (any more) has none.
        """
        wanted = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names)) for topic in topics]

        async def settings(client: AIOKafkaAdminClient) -> dict[str, dict[str, str]]:
            found: dict[str, dict[str, str]] = {}
            for response in await client.describe_configs(wanted):
                for code, _, _, topic, entries in response.resources:
                    if for_code(code) in NOT_ALLOWED:
                        continue
                    if code != UnknownTopicOrPartitionError.errno:
                        _raise_for(code, f"settings of topic {topic}")
                    found[topic] = {name: value for name, value, *_ in entries}
            return found

        return await self._do("ask for the settings of topics", settings)

    async def ends(self, topics: Iterable[str]) -> dict[TopicPartition, int]:
        """The offset that comes next in each partition of these topics."""

        async def ends(client: AIOKafkaAdminClient) -> dict[TopicPartition, int]:
            by_leader: dict[int, dict[str, list[tuple[int, int]]]] = {}
            for topic, found in (await _partitions(client, list(topics))).items():
                for partition, leader in found.items():
                    by_leader.setdefault(leader, {}).setdefault(topic, []).append(
                        (partition, OffsetResetStrategy.LATEST)
                    )
            answer: dict[TopicPartition, int] = {}
            for leader, wanted in by_leader.items():
                response = await _send(client, leader, OffsetRequest(-1, 0, list(wanted.items())))
                for topic, rows in response.topics:
                    for partition, code, _, offset, *_ in rows:
                        _raise_for(code, f"{topic}/{partition}")
                        answer[TopicPartition(topic, partition)] = offset
            return answer

        return await self._do("ask for the ends of topics", ends)

    async def committed(self, group: str, wanted: Iterable[TopicPartition]) -> dict[TopicPartition, tuple[int, str]]:
        """How far a group has come in each of these: the offset it reads next, or `NOTHING`, and what was noted with it."""
        topics = _by_topic((tp, tp.partition) for tp in wanted)

        async def committed(client: AIOKafkaAdminClient) -> dict[TopicPartition, tuple[int, str]]:
            coordinator = await client.find_coordinator(group)
            response = await _send(client, coordinator, OffsetFetchRequest(group, topics))
            _raise_for(response.error_code, f"group {group}")
            found = {}
            for topic, rows in response.topics:
                for partition, offset, note, code in rows:
                    _raise_for(code, f"group {group}, {topic}/{partition}")
                    found[TopicPartition(topic, partition)] = (offset, note or "")
            return found

        return await self._do(f"ask how far group {group} has come", committed)

    async def commit(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """Have a group without members go on from these offsets."""
        topics = _by_topic((tp, (tp.partition, offset, "")) for tp, offset in offsets.items())
        nobody = (OffsetCommitRequest.DEFAULT_GENERATION_ID, "", OffsetCommitRequest.DEFAULT_RETENTION_TIME)

        async def commit(client: AIOKafkaAdminClient) -> None:
            coordinator = await client.find_coordinator(group)
            response = await _send(client, coordinator, OffsetCommitRequest(group, *nobody, topics))
            for topic, rows in response.topics:
                for partition, code in rows:
                    _raise_for(code, f"group {group}, {topic}/{partition}")

        await self._do(f"commit for group {group}", commit)

    async def _do(self, what: str, act: Callable[[AIOKafkaAdminClient], Awaitable[T]]) -> T:
        """Do this within `TIMEOUT`, again while the cluster is only finding its feet."""
        until = monotonic() + TIMEOUT
        with reachable(what):
            while True:
                try:
                    async with asyncio.timeout(until - monotonic()), self._client() as client:
                        return await act(client)
                except _PASSING:
                    if monotonic() > until - 1:
                        raise
                    await asyncio.sleep(self._rng.uniform(0.1, 0.5))

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """The client that all calls share; the next call makes one anew if this one fails.

        Calls that are waiting on it keep it: closed under them, they would say that instead of what the broker says.
        """
        async with self._opening:
            stamp = self._access.stamp()
            if self._opened is not None and stamp != self._opened.stamp:
                await self._let_go(self._opened)
            if self._opened is None:
                client = AIOKafkaAdminClient(**await knock(self._access), request_timeout_ms=int(TIMEOUT * 1000))
                try:
                    await client.start()
                except BaseException:
                    await stopped(client)
                    raise
                self._opened = _Opened(client, stamp)
            opened = self._opened
        opened.calls += 1
        try:
            yield opened.client
        except (*_PASSING, *NOT_ALLOWED):  # answers; what they came through is sound
            raise
        except (KafkaError, OSError, TimeoutError, asyncio.CancelledError):  # cancelled: mostly, that its time is out
            if self._opened is opened:
                self._opened = None
            raise
        finally:
            opened.calls -= 1
            if self._opened is not opened:
                await self._let_go(opened)

    async def _let_go(self, opened: _Opened | None) -> None:
        """The last call that waits on it ends it."""
        if opened is self._opened:
            self._opened = None
        if opened is not None and not opened.calls:
            await stopped(opened.client)


async def _send(client: AIOKafkaAdminClient, node: int | None, request: Request[Any]) -> Any:
    """The library has no method for these; `None`: any node."""
    if node is None:
        return await client._send_request(request)  # noqa: SLF001
    return await client._send_request_to_node(node, request)  # noqa: SLF001


async def _partitions(client: AIOKafkaAdminClient, topics: list[str]) -> dict[str, dict[int, int]]:
    rows, _ = await _described(client, topics)
    return {topic: {row["partition"]: row["leader"] for row in partitions} for topic, partitions in rows.items()}


async def _described(client: AIOKafkaAdminClient, topics: list[str]) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """By topic: what the cluster says of its partitions. And how many brokers there are."""
    found: dict[str, list[dict[str, Any]]] = {}
    # `describe_topics` would make those that there are not.
    response = await _send(client, None, MetadataRequest(topics, allow_auto_topic_creation=False))
    for described in response.to_object()["topics"]:
        name, code = described["topic"], described["error_code"]
        if code == UnknownTopicOrPartitionError.errno:
            continue
        _raise_for(code, f"topic {name}")
        found[name] = described["partitions"]
    return found, len(response.brokers)


def _by_topic(rows: Iterable[tuple[TopicPartition, T]]) -> list[tuple[str, list[T]]]:
    found: dict[str, list[T]] = {}
    for tp, row in rows:
        found.setdefault(tp.topic, []).append(row)
    return list(found.items())


def _raise_for(code: int, what: str) -> None:
    if code:
        error: Any = for_code(code)
        raise error(what)
