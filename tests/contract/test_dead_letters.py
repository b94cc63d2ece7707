"""What every `DeadLetters` does: each sentence of the port's docstrings, on each that there is."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random
from typing import Protocol

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.application.ports import DeadLetter, DeadLetters, Fate, LetterCursor, Message
from tests.support.dead_letters import CONTROL, EVENTS, MemoryLetters, Sent
from tests.support.local_workers import PATIENCE, WallClock


class Rig(Protocol):
    """One adapter, and what is at its other end."""

    control: str
    events: str

    def open(self) -> AbstractAsyncContextManager[DeadLetters]:
        """No dead letter is there."""

    async def bury(self, topic: str, *values: bytes, key: bytes | None = None, error: str = "is no JSON") -> None:
        """Messages of a topic cannot be read."""

    async def sent(self, count: int) -> list[Sent]:
        """What was sent again, of both topics, once there is so much."""


class MemoryRig:
    """The one of the unit tests."""

    control, events = CONTROL, EVENTS

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DeadLetters]:
        """See `Rig`."""
        self._letters = MemoryLetters()
        yield self._letters

    async def bury(self, topic: str, *values: bytes, key: bytes | None = None, error: str = "is no JSON") -> None:
        """See `Rig`."""
        for value in values:
            self._letters.bury(topic, value, key=key, error=error)

    async def sent(self, count: int) -> list[Sent]:
        """See `Rig`."""
        assert len(self._letters.sent) == count
        return self._letters.sent


class KafkaRig:
    """The real broker that KAFKA_BOOTSTRAP_SERVERS names. Nobody reads the topics but the test."""

    def __init__(self) -> None:
        self._servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
        unique = uuid.uuid4().hex[:8]
        self.control, self.events = f"control-{unique}", f"events-{unique}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[DeadLetters]:
        """See `Rig`."""
        access, topics = Access(bootstrap_servers=self._servers), Topics(control=self.control, events=self.events)
        self._bus = KafkaBus(access, topics, group="nobody", clock=WallClock(), rng=Random(1))
        ours = [self.control, self.events, f"{self.control}.dlq", f"{self.events}.dlq"]
        await self._bus._admin.create(dict.fromkeys(ours[:2], 3), settings={}, copies=1)
        await self._bus._admin.create(dict.fromkeys(ours[2:], 1), settings={}, copies=1)
        yield self._bus.dead_letters
        await self._bus.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await admin.start()
        await admin.delete_topics(ours)
        await admin.close()

    async def bury(self, topic: str, *values: bytes, key: bytes | None = None, error: str = "is no JSON") -> None:
        """See `Rig`."""
        for number, value in enumerate(values):
            await self._bus.bury(Message(value, 1.0, f"{topic}/1@1a2b", 100 + number, key), error)

    async def sent(self, count: int) -> list[Sent]:
        """See `Rig`."""
        found: list[Sent] = []
        options = {"bootstrap_servers": self._servers, "auto_offset_reset": "earliest"}
        async with asyncio.timeout(PATIENCE), AIOKafkaConsumer(self.control, self.events, **options) as consumer:
            while len(found) < count:
                record = await consumer.getone()
                found.append(Sent(record.topic, record.value, record.key))
            ends = await consumer.end_offsets(consumer.assignment())
        assert sum(ends.values()) == count
        return found


needs_broker = pytest.mark.skipif(
    not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"), reason="KAFKA_BOOTSTRAP_SERVERS names no broker"
)


@pytest.fixture(
    params=[
        pytest.param(MemoryRig, id="memory"),
        pytest.param(KafkaRig, id="kafka", marks=[pytest.mark.integration, needs_broker]),
    ]
)
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each adapter."""
    return request.param()  # type: ignore[no-any-return]


@pytest.fixture
async def letters(rig: Rig) -> AsyncIterator[DeadLetters]:
    """Each adapter, open."""
    async with rig.open() as opened:
        yield opened


async def every_page(letters: DeadLetters, *topics: str, limit: int) -> list[list[DeadLetter]]:
    """The pages of what came from these topics, or all."""
    pages: list[list[DeadLetter]] = []
    more, before = True, None
    while more:
        page, more = await letters.page(topics or letters.topics, before=before, limit=limit)
        pages.append(list(page))
        if more:
            before = LetterCursor(page[-1].time, page[-1].id)
    return pages


async def every_letter(letters: DeadLetters) -> dict[bytes, DeadLetter]:
    """All of them by value."""
    return {letter.value: letter for page in await every_page(letters, limit=100) for letter in page}


async def replayed(letters: DeadLetters, *ids: str) -> list[str]:
    """Replay these; the ids that it told, in that order."""
    return [each async for step in letters.replay(ids, by="ada@lab") for each in step]


async def test_without_any_there_is_one_empty_page(rig: Rig, letters: DeadLetters) -> None:
    """And nothing stands anywhere."""
    assert await letters.page(letters.topics, before=None, limit=10) == ([], False)
    assert await letters.fates_of(rig.events) == {}


async def test_a_letter_says_where_it_came_from_and_why(rig: Rig, letters: DeadLetters) -> None:
    """And has the value byte for byte."""
    await rig.bury(rig.events, b"\xff\xfe", error="is not UTF-8: “\xff”")
    [[letter]] = await every_page(letters, limit=10)
    assert (letter.topic, letter.partition, letter.offset) == (rig.events, 1, 100)
    assert (letter.error, letter.value, letter.size, letter.is_text) == ("is not UTF-8: “\xff”", b"\xff\xfe", 2, False)
    assert letter.id == f"{rig.events}.dlq/0/0"
    assert (letter.replay_time, letter.replayed_by) == (None, "")


@pytest.mark.parametrize("limit", [1, 2, 7, 8, 100])
async def test_pages_are_newest_first_and_none_is_missing_or_there_twice(
    rig: Rig, letters: DeadLetters, limit: int
) -> None:
    """Also where many have been replayed, which leaves marks between them."""
    values = [b"%d" % number for number in range(8)]
    await rig.bury(rig.events, *values[:5])
    await replayed(letters, *(letter.id for letter in (await every_letter(letters)).values()))
    await rig.bury(rig.events, *values[5:])
    pages = await every_page(letters, limit=limit)
    assert [letter.value for page in pages for letter in page] == values[::-1]
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert {letter.value for page in pages for letter in page if letter.replay_time is not None} == {*values[:5]}


async def test_a_page_is_of_the_topics_that_are_asked_for(rig: Rig, letters: DeadLetters) -> None:
    """One, or both; those of both are sorted together."""
    await rig.bury(rig.events, b"telemetry")
    await rig.bury(rig.control, b"command")
    [both], [one] = await every_page(letters, limit=10), await every_page(letters, rig.events, limit=10)
    assert {letter.value for letter in both} == {b"telemetry", b"command"}
    assert [letter.time for letter in both] == sorted((letter.time for letter in both), reverse=True)
    assert [letter.value for letter in one] == [b"telemetry"]


@pytest.mark.parametrize(
    ("value", "shown", "is_text"),
    [
        (b"x" * 2**16, b"x" * 2**16, True),
        (b"x" * (2**16 + 1), b"x" * 2**16, True),
        (b"x" + "é".encode() * 2**16, b"x" + "é".encode() * (2**15 - 1), True),
        (b"\xff" * 2**17, b"\xff" * 2**16, False),
        (b"x" * 2**17 + b"\xff", b"x" * 2**16, False),
        (b"", b"", True),
    ],
    ids=["just", "over", "inside-a-character", "bytes", "bytes-later", "empty"],
)
async def test_a_large_value_is_cut(rig: Rig, letters: DeadLetters, value: bytes, shown: bytes, is_text: bool) -> None:
    """At 64 KiB, text between characters; how large it is and whether it is text is said of the whole."""
    await rig.bury(rig.events, value)
    [[letter]] = await every_page(letters, limit=10)
    assert (letter.value, letter.size, letter.is_text) == (shown, len(value), is_text)


async def test_a_page_of_large_values_is_shorter(rig: Rig, letters: DeadLetters) -> None:
    """2 MiB at most; small ones that are older wait for the next page, too."""
    await rig.bury(rig.events, b"small", *[b"%02d" % number + b"x" * 2**17 for number in range(40)])
    pages = await every_page(letters, limit=50)
    assert [len(page) for page in pages] == [32, 9]
    assert [letter.value[:2] for page in pages for letter in page] == [b"%02d" % n for n in range(39, -1, -1)] + [b"sm"]


async def test_what_there_is_not_is_missing(rig: Rig, letters: DeadLetters) -> None:
    """Other places of the topic, other partitions and topics, and what is no place at all."""
    await rig.bury(rig.events, b"x")
    unknown = [
        f"{rig.events}.dlq/0/1",
        f"{rig.events}.dlq/1/0",
        f"{rig.control}.dlq/0/0",
        f"{rig.events}/0/0",
        "other.dlq/0/0",
        f"{rig.events}.dlq/0/00",
        f"{rig.events}.dlq/0/-1",
        f"{rig.events}.dlq/0/9999999999999999999999",
        f"{rig.events}.dlq/0",
        "",
        "é",
    ]
    assert await letters.fates([*unknown, f"{rig.events}.dlq/0/0"]) == {f"{rig.events}.dlq/0/0": Fate.WAITING}


async def test_a_replay_sends_what_was_buried_and_marks_it(rig: Rig, letters: DeadLetters) -> None:
    """Byte for byte with its key, to the topic that it came from; the others stay as they are."""
    large = b"\xff" * 700_000
    await rig.bury(rig.events, b"{}", large, key=b"worker")
    await rig.bury(rig.control, b"command")
    found = await every_letter(letters)
    chosen = [found[b"{}"].id, found[b"command"].id]
    assert sorted(await replayed(letters, *chosen)) == sorted(chosen)
    assert {*await rig.sent(2)} == {Sent(rig.events, b"{}", b"worker"), Sent(rig.control, b"command", None)}
    after = await every_letter(letters)
    assert {value: letter.replayed_by for value, letter in after.items()} == {
        b"{}": "ada@lab",
        b"command": "ada@lab",
        large[: 2**16]: "",
    }
    assert (after[b"{}"].replay_time or 0) >= found[b"{}"].time
    assert await letters.fates_of(rig.events) == {
        found[b"{}"].id: Fate.REPLAYED,
        found[large[: 2**16]].id: Fate.WAITING,
    }
    await replayed(letters, found[large[: 2**16]].id)
    assert Sent(rig.events, large, b"worker") in await rig.sent(3)


@pytest.mark.parametrize("more", [0, 1])
async def test_a_letter_of_more_than_900_kib_is_cut_and_cannot_be_replayed(
    rig: Rig, letters: DeadLetters, more: int
) -> None:
    """How large it was is known, and that it was text, also where the cut is inside a character."""
    value = b"x" * (900 * 1024 - 1) + ("é" if more else "x").encode()
    await rig.bury(rig.events, value)
    [[letter]] = await every_page(letters, limit=10)
    assert (letter.size, letter.is_text, letter.is_cut) == (len(value), True, bool(more))
    assert await letters.fates([letter.id]) == {letter.id: Fate.CUT if more else Fate.WAITING}


async def test_a_mark_is_no_letter(rig: Rig, letters: DeadLetters) -> None:
    """It cannot be listed, nor be replayed; and a letter can be replayed again."""
    await rig.bury(rig.events, b"x")
    [first] = (await every_letter(letters)).values()
    for _ in range(2):
        assert await replayed(letters, first.id) == [first.id]
    assert [*await every_letter(letters)] == [b"x"]
    assert await letters.fates_of(rig.events) == {first.id: Fate.REPLAYED}
    assert await letters.fates([f"{rig.events}.dlq/0/1"]) == {}
    assert await rig.sent(2) == [Sent(rig.events, b"x", None)] * 2


async def test_many_are_replayed_in_their_order(rig: Rig, letters: DeadLetters) -> None:
    """More than are sent at a time; what was buried meanwhile is not among them."""
    values = [b"%d" % number for number in range(250)]
    await rig.bury(rig.events, *values)
    fates = await letters.fates_of(rig.events)
    assert [*fates.values()] == [Fate.WAITING] * 250
    assert await replayed(letters, *fates) == [*fates]
    assert [sent.value for sent in await rig.sent(250)] == values
    assert [*(await letters.fates_of(rig.events)).values()] == [Fate.REPLAYED] * 250
