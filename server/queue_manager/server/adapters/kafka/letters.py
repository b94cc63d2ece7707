"""Dead letters: what is put into a dead-letter topic, read out of it again, and sent back to where it came from.

A dead-letter topic has letters, and marks: records without a value that say which letter was replayed. A mark is in the
partition of its letter, after it (decision 0020). Nobody joins a group to read them. Only the newest `WINDOW` records of a
partition are looked at, and every call is bounded in time and in what it has in memory.
"""

from __future__ import annotations

import asyncio
import heapq
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from msgspec.structs import replace

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import Admin
from queue_manager.server.adapters.kafka.consumer import Observe
from queue_manager.server.adapters.kafka.faults import reachable, stopped
from queue_manager.server.adapters.kafka.knock import knock
from queue_manager.server.adapters.kafka.producer import OWN, SOURCE, Outgoing, Producer
from queue_manager.server.application.ports import DeadLetter, Fate, LetterCursor, Message
from queue_manager.server.domain.errors import Unavailable

SUFFIX: Final = ".dlq"
"""What the name of a topic ends in that has the messages of another one that nobody can read."""

LARGEST_KEPT: Final = 900 * 1024
"""Bytes of a dead letter; a record of 1 MiB is what a topic takes by default, keys and headers included."""

LARGEST_KEY: Final = 64 * 1024
"""Bytes of a key that is kept with it."""

WINDOW: Final = 10_000
"""Records of a partition that are looked at, the newest: letters and marks."""

SHOWN: Final = 64 * 2**10
"""Bytes of a value that a list has; a message may have megabytes."""

PAGE: Final = 2 * 2**20
"""Bytes of all values of a page: clients of gRPC take 4 MiB in a message, unless they say otherwise."""

READING: Final = 8.0
"""Seconds in which a list is read, less than the 10 s for which clients wait."""

REPLAYING: Final = 60.0
"""Seconds in which letters are looked for, and in which they are sent."""

POLL: Final = 0.5
BATCH: Final = 100
"""Letters that are sent before they are marked, at most: so many come twice after a crash in between."""

WAITED: Final = 20
"""Milliseconds for which a broker holds back an answer without records. At the end of a partition the client asks for more,
and nothing else is read before it has that answer; by default that is half a second at each step back."""

FETCHED: Final = 2**20
"""Bytes that are asked for at once; of a record that is larger a broker sends the whole nevertheless."""

PARTITION, OFFSET, ERROR, SIZE = "x-partition", "x-offset", "x-error", "x-size"
"""Headers of a letter: the place that it came from, why nobody can read it, and where it was cut how large it was."""

REPLAYED, REPLAYED_BY = "x-replayed", "x-replayed-by"
"""Headers of a mark: the offset of its letter, and who had it replayed."""


def buried(message: Message, reason: str) -> Outgoing:
    """A message as a dead letter: with its key, the place that it came from, and why.

    Of one that is larger than brokers take by default, the beginning, and in `x-size` how large it was.
    """
    topic, _, place = message.source.partition("/")
    headers = {
        SOURCE: OWN.decode(),
        "x-topic": topic,
        PARTITION: place.partition("@")[0],
        OFFSET: str(message.position),
        ERROR: reason,
    }
    value, key = message.value, message.key
    if len(value) > LARGEST_KEPT:
        headers[SIZE], value = str(len(value)), value[:LARGEST_KEPT]
    if key is not None and len(key) > LARGEST_KEY:
        key = None
    encoded = [(name, text.encode()) for name, text in headers.items()]
    return Outgoing(f"{topic}{SUFFIX}", value, key, headers=encoded)


class Place(NamedTuple):
    """Where a letter is; as text its id."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"

    @classmethod
    def of(cls, text: str) -> Place | None:
        """The place that an id names; None where it is none."""
        topic, *numbers = text.rsplit("/", 2)
        # Of a number only the one spelling that we write, so that a letter has one id.
        if len(numbers) != 2 or not all(n.isascii() and n.isdecimal() and len(n) < 19 for n in numbers):
            return None
        place = cls(topic, int(numbers[0]), int(numbers[1]))
        return place if str(place) == text else None


NOWHERE: Final = Place("", -1, -1)


class Letters:
    """See `ports.DeadLetters`."""

    def __init__(
        self, access: Access, admin: Admin, producer: Producer, *, topics: Sequence[str], observe: Observe
    ) -> None:
        """`topics`: those whose messages are buried."""
        self.topics = topics
        self._access = access
        self._admin = admin
        self._producer = producer
        self._observe = observe

    async def page(
        self, topics: Sequence[str], *, before: LetterCursor | None, limit: int
    ) -> tuple[Sequence[DeadLetter], bool]:
        """See `ports.DeadLetters`. Read backwards in growing steps, so that the first page needs only the end."""
        page = _Page(limit, before)
        marks: dict[Place, _Mark] = {}
        async with self._reading(topics, READING) as reader:
            for tp, (begin, end) in reader.bounds.items():
                high, step, count = end, limit + 1, 0
                while high > begin and count <= limit:
                    low = max(begin, high - step)
                    reader.begin(tp, low)
                    while (records := await reader.next(tp, high)) is not None:
                        for record in records:
                            if (mark := _mark(record)) is None:
                                count += page.add(_place(record), record)
                            elif mark.letter not in marks or marks[mark.letter].offset < mark.offset:
                                marks[mark.letter] = mark
                    high, step = low, 2 * step
        return [_marked(letter, marks.get(place)) for place, letter in page.newest_first()], page.more

    async def fates(self, ids: Sequence[str]) -> Mapping[str, Fate]:
        """See `ports.DeadLetters`."""
        places = {place for each in ids if (place := Place.of(each)) is not None}
        topics = [topic for topic in self.topics if any(place.topic == f"{topic}{SUFFIX}" for place in places)]
        first: dict[TopicPartition, int] = {}
        for place in places:
            tp = TopicPartition(place.topic, place.partition)
            first[tp] = min(place.offset, first.get(tp, place.offset))
        found = await self._fates(topics, first)
        return {str(place): found[place] for place in sorted(places & found.keys())}

    async def fates_of(self, topic: str) -> Mapping[str, Fate]:
        """See `ports.DeadLetters`."""
        return {str(place): fate for place, fate in (await self._fates([topic], None)).items()}

    async def replay(self, ids: Sequence[str], *, by: str) -> AsyncGenerator[Sequence[str], None]:
        """See `ports.DeadLetters`. To the partition that it came from, where there still is one, for its order's sake."""
        wanted: dict[TopicPartition, set[int]] = {}
        for each in ids:
            if (place := Place.of(each)) is not None:
                wanted.setdefault(TopicPartition(place.topic, place.partition), set()).add(place.offset)
        topics = sorted({tp.topic.removesuffix(SUFFIX) for tp in wanted})
        partitions = await self._admin.partitions(topics)
        if missing := set(topics) - set(partitions):
            raise Unavailable(f"there is no topic {', '.join(sorted(missing))} to send dead letters to")
        async with self._reading(topics, REPLAYING) as reader:
            for tp, offsets in wanted.items():
                reader.begin(tp, min(offsets))
                while (records := await reader.next(tp, max(offsets) + 1)) is not None:
                    letters = [record for record in records if record.offset in offsets]
                    await self._send_again(letters, partitions[tp.topic.removesuffix(SUFFIX)], by)
                    yield [str(_place(letter)) for letter in letters]

    async def _send_again(self, letters: Sequence[ConsumerRecord], partitions: Iterable[int], by: str) -> None:
        again, marks = [], []
        for record in letters:
            place, partition = _place(record), _number(_headers(record), PARTITION)
            topic, place_there = place.topic.removesuffix(SUFFIX), partition if partition in partitions else None
            # Without headers: the message may be as large as its topic takes.
            again.append(Outgoing(topic, record.value or b"", record.key, place_there, headers=()))
            said = [(SOURCE, OWN), (REPLAYED, str(place.offset).encode()), (REPLAYED_BY, by.encode())]
            marks.append(Outgoing(place.topic, b"", partition=place.partition, headers=said))
        await self._producer.send(again)
        await self._producer.send(marks)
        for sent in again:
            self._observe("replay", sent.topic)

    async def _fates(self, topics: Sequence[str], first: Mapping[TopicPartition, int] | None) -> Mapping[Place, Fate]:
        """What became of letters, from the first offset of each partition on (None: all), oldest first."""
        found: dict[Place, Fate] = {}
        if not topics:
            return found
        async with self._reading(topics, REPLAYING) as reader:
            for tp, (begin, end) in reader.bounds.items():
                if first is not None and tp not in first:
                    continue
                reader.begin(tp, begin if first is None else max(begin, first[tp]))
                while (records := await reader.next(tp, end)) is not None:
                    for record in records:
                        if (mark := _mark(record)) is None:
                            found[_place(record)] = Fate.CUT if _was_cut(_headers(record)) else Fate.WAITING
                        elif mark.letter in found:
                            found[mark.letter] = Fate.REPLAYED
        return found

    @asynccontextmanager
    async def _reading(self, topics: Sequence[str], seconds: float) -> AsyncIterator[_Reader]:
        """A reader of these topics' dead letters, to be done in so many seconds. Raises `Unavailable`."""
        names = [f"{topic}{SUFFIX}" for topic in topics]
        until = monotonic() + seconds
        # Asked for first, because a client that is given a topic that there is not makes it.
        found = await self._admin.partitions(names)
        partitions = [TopicPartition(name, number) for name in names for number in sorted(found.get(name, ()))]
        with reachable("read dead letters"):
            client = AIOKafkaConsumer(
                **await knock(self._access),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                max_partition_fetch_bytes=FETCHED,
                fetch_max_wait_ms=WAITED,
                request_timeout_ms=int(READING * 1000),
            )
            try:
                async with asyncio.timeout(until - monotonic()):
                    await client.start()
                    bounds = await _bounds(client, partitions)
                yield _Reader(client, bounds, until)
                async with asyncio.timeout(until - monotonic()):
                    await _settled(client, partitions)
            finally:
                await stopped(client)


async def _bounds(
    client: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Which offsets are looked at: from the first one to before the second."""
    if not partitions:
        return {}
    client.assign(partitions)
    client.pause(*partitions)
    ends = await client.end_offsets(partitions)
    begins = await client.beginning_offsets(partitions)
    return {tp: (max(begins[tp], ends[tp] - WINDOW), ends[tp]) for tp in partitions}


async def _settled(client: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> None:
    """Wait until nothing is being fetched: over TLS a connection that is closed while a broker answers may hang.

    Brokers answer the requests of a connection in their order, so an answer to another question comes after it.
    """
    if partitions:
        client.pause(*partitions)
        await client.beginning_offsets(partitions)


class _Reader:
    """Reads stretches of partitions, one after the other."""

    def __init__(
        self, client: AIOKafkaConsumer, bounds: Mapping[TopicPartition, tuple[int, int]], until: float
    ) -> None:
        """`until`: on the monotonic clock."""
        self.bounds = bounds
        self._client = client
        self._until = until

    def begin(self, tp: TopicPartition, offset: int) -> None:
        """Read on from there."""
        self._client.pause(*self.bounds)
        self._client.seek(tp, offset)
        self._client.resume(tp)

    async def next(self, tp: TopicPartition, end: int) -> Sequence[ConsumerRecord] | None:
        """What comes next before the offset `end`, maybe nothing yet; None when all has come.

        Polls are not cancelled, only short. Raises `TimeoutError`.
        """
        async with asyncio.timeout(self._until - monotonic()):
            if await self._client.position(tp) >= end:
                return None
        polled = await self._client.getmany(tp, timeout_ms=int(POLL * 1000), max_records=BATCH)
        if monotonic() > self._until:
            raise TimeoutError("the time is up; there is too much to read, or the broker does not answer")
        return [record for record in polled.get(tp, ()) if record.offset < end]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Which letter was replayed, when and by whom; its own offset tells which of two is the later."""

    letter: Place
    offset: int
    time: float
    by: str


class _Page:
    """The newest letters before a cursor, of those that are added in any order: few enough, and small enough."""

    def __init__(self, limit: int, before: LetterCursor | None) -> None:
        self.more = False
        """Whether there are older ones."""
        self._limit = limit
        self._before = _rank(before.time, Place.of(before.id) or NOWHERE) if before else None
        self._after: _Rank | None = None
        """What had no room, as nothing older has."""
        self._heap: list[tuple[_Rank, DeadLetter]] = []
        self._size = 0

    def add(self, place: Place, record: ConsumerRecord) -> bool:
        """Whether it is before the cursor."""
        rank = _rank(record.timestamp / 1000, place)
        if self._before is not None and rank >= self._before:
            return False
        if self._after is None or rank > self._after:
            letter = _letter(place, record)
            heapq.heappush(self._heap, (rank, letter))
            self._size += len(letter.value)
            while len(self._heap) > self._limit or (self._size > PAGE and len(self._heap) > 1):
                self._after, dropped = heapq.heappop(self._heap)
                self._size -= len(dropped.value)
                self.more = True
        return True

    def newest_first(self) -> Sequence[tuple[Place, DeadLetter]]:
        """What is left."""
        return [(rank[1], letter) for rank, letter in sorted(self._heap, key=lambda each: each[0], reverse=True)]


_Rank = tuple[float, Place]


def _rank(time: float, place: Place) -> _Rank:
    """By this letters are sorted: those of one moment by their places."""
    return (time, place)


def _place(record: ConsumerRecord) -> Place:
    return Place(record.topic, record.partition, record.offset)


def _headers(record: ConsumerRecord) -> dict[str, str]:
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers}


def _number(headers: Mapping[str, str], name: str, *, below: int = 2**63) -> int:
    """A number in a header; -1 where there is none that can be."""
    text = headers.get(name, "")
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    return number if number < below else -1


def _mark(record: ConsumerRecord) -> _Mark | None:
    """The mark that a record is; None: it is a letter."""
    headers = _headers(record)
    if headers.get(SOURCE) != OWN.decode() or (offset := _number(headers, REPLAYED)) < 0:
        return None
    letter = Place(record.topic, record.partition, offset)
    return _Mark(letter, record.offset, record.timestamp / 1000, headers.get(REPLAYED_BY, ""))


def _letter(place: Place, record: ConsumerRecord) -> DeadLetter:
    """What a record says; others may have put it there, with whatever headers."""
    headers, value = _headers(record), record.value or b""
    is_text = _is_text(value, cut=_was_cut(headers))
    shown = value[:SHOWN]
    if is_text and len(shown) < len(value):
        shown = shown.decode(errors="ignore").encode()
    return DeadLetter(
        id=str(place),
        time=record.timestamp / 1000,
        topic=place.topic.removesuffix(SUFFIX),
        partition=_number(headers, PARTITION, below=2**31),
        offset=_number(headers, OFFSET),
        error=headers.get(ERROR, "the Queue Manager has not put it there"),
        value=shown,
        size=max(len(value), _number(headers, SIZE)),
        is_text=is_text,
        is_cut=_was_cut(headers),
    )


def _was_cut(headers: Mapping[str, str]) -> bool:
    """Only its beginning was buried."""
    return _number(headers, SIZE) >= 0


def _is_text(value: bytes, *, cut: bool) -> bool:
    """What was cut may end inside a character."""
    try:
        getincrementaldecoder("utf-8")().decode(value, final=not cut)
    except UnicodeDecodeError:
        return False
    return True


def _marked(letter: DeadLetter, mark: _Mark | None) -> DeadLetter:
    return letter if mark is None else replace(letter, replay_time=mark.time, replayed_by=mark.by)
