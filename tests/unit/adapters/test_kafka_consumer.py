"""What a consumer of Kafka does with what it polls, on a client that is played; the real one is in the contract suite."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from queue_manager.server.adapters.kafka import consumer as module
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.consumer import Backlog, Consumer
from queue_manager.server.application.workqueue import Backoff
from queue_manager.server.domain.errors import Unavailable
from tests.support.local_workers import WallClock, until

TP, OTHER = TopicPartition("events", 0), TopicPartition("events", 1)


class Broker:
    """What clients poll, and what they have committed. A poll may be an error."""

    client: Client

    def __init__(self) -> None:
        self.polls: deque[Any] = deque()
        self.committed: tuple[int, str] = (-1, "")
        self.end: int | None = 9
        self.log: Sequence[int] = ()
        self.changes = ""
        """When in the next poll the group's members change, if they do."""
        self.knows = asyncio.Event()
        self.knows.set()
        self.paused: set[TopicPartition] = set()
        self.ours = {TP}
        self.answered: float | None = None
        """When it was heard last, where that is not now; UTC seconds."""
        self.rebalancing = False
        self.commits: asyncio.Event | None = None
        """Commits are answered once this is set."""
        self.committing = asyncio.Event()
        self.clients = 0
        self.stopped = 0

    async def asked(self, group: str, wanted: Any) -> dict[TopicPartition, tuple[int, str]]:
        """As `Admin.committed`, once it `knows`."""
        del group
        await self.knows.wait()
        return dict.fromkeys(wanted, self.committed)


class Client:
    """As aiokafka's, as far as it is used."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._listener: Any = None
        self._client = SimpleNamespace(close=self._nothing)
        self._coordinator: Any = SimpleNamespace()
        broker.clients += 1
        broker.client = self

    async def _nothing(self) -> None:
        """End."""

    def subscribe(self, topics: Sequence[str], *, listener: Any) -> None:
        """Remember who wants to be told."""
        assert topics == ["events"]
        self._listener = listener

    async def start(self) -> None:
        """One partition is ours."""
        await self._listener.on_partitions_assigned(self._broker.ours)

    async def stop(self) -> None:
        """Leave, which takes it away."""
        self._broker.stopped += 1
        await self._listener.on_partitions_revoked(self._broker.ours)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        """The next poll."""
        del timeout_ms, max_records
        await asyncio.sleep(0.001)
        if self._broker.rebalancing:
            await asyncio.Event().wait()
        polled = self._broker.polls.popleft() if self._broker.polls else []
        if isinstance(polled, Exception):
            raise polled
        if self._broker.changes == "after it was taken out":
            await self._change_once()
        elif self._broker.changes == "before it is taken out":
            await self._change_once()
            polled = self._broker.polls.popleft()
        return (
            {TP: [SimpleNamespace(offset=offset, timestamp=offset * 1000, value=b"x") for offset in polled]}
            if polled
            else {}
        )

    async def _change_once(self) -> None:
        self._broker.changes = ""
        await self.change()

    async def commit(self, offsets: Any) -> None:
        """Remember it."""
        if self._broker.commits is not None:
            self._broker.committing.set()
            await self._broker.commits.wait()
        self._broker.committed = (offsets[TP].offset, offsets[TP].metadata)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Go back, or forth, in the log."""
        if self._broker.log:
            self._broker.polls = deque([[each for each in self._broker.log if each >= offset]])

    async def change(self, *, to: set[TopicPartition] | None = None) -> None:
        """The group's members have changed; what is ours is read from before the listener is done, which may fail."""
        with suppress(Exception):
            await self._listener.on_partitions_revoked(self._broker.ours)
        self._broker.ours = self._broker.ours if to is None else to
        with suppress(Exception):
            await self._listener.on_partitions_assigned(self._broker.ours)

    def paused(self) -> set[TopicPartition]:
        """What is not fetched."""
        return self._broker.paused

    def assignment(self) -> set[TopicPartition]:
        """What is ours."""
        return self._broker.ours

    def pause(self, *partitions: TopicPartition) -> None:
        """Fetch nothing."""
        self._broker.paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Fetch again."""
        self._broker.paused -= set(partitions)

    def highwater(self, tp: TopicPartition) -> int | None:
        """How far the partition goes."""
        assert tp in self._broker.ours, "Partition is not assigned"
        return self._broker.end

    def last_poll_timestamp(self, tp: TopicPartition) -> float | None:
        """When a broker answered last, in milliseconds."""
        assert tp in self._broker.ours, "Partition is not assigned"
        return None if self._broker.end is None else 1000 * (self._broker.answered or WallClock().now())


class Reading:
    """A consumer that runs, and what it has handed on."""

    consumer: Consumer

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.unstored: list[asyncio.Future[None]] = []
        self.events: list[str] = []
        self.stores = True
        self.doing: Callable[[list[int]], Awaitable[object]] | None = None

    def take(self, source: str, records: Sequence[Any]) -> Awaitable[object]:
        """As the core does: commands are done one after the other, of telemetry is told when it is stored."""
        if self.doing is not None:
            return self.doing([record.offset for record in records])
        self.taken += [(source, record.offset) for record in records]
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.stores:
            stored.set_result(None)
        else:
            self.unstored.append(stored)
        return stored


async def let_in(access: Access) -> dict[str, Any]:
    """As `knock` where a broker lets us in."""
    return access.options()


@asynccontextmanager
async def reading(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reading]:
    """Run a consumer on this broker."""
    monkeypatch.setattr(module, "AIOKafkaConsumer", lambda **_: Client(broker))
    monkeypatch.setattr(module, "knock", let_in)
    monkeypatch.setattr(module, "COMMIT_EVERY", 0.0)
    monkeypatch.setattr(module, "stopped", lambda client: client.stop())
    read = Reading()
    read.consumer = Consumer(
        Access(bootstrap_servers="nowhere:1"),
        SimpleNamespace(committed=broker.asked),  # type: ignore[arg-type]
        topic="events",
        group="g",
        take=read.take,
        backoff=Backoff(Random(1)),
        observe=lambda event, _: read.events.append(event),
    )
    running = asyncio.create_task(read.consumer.run())
    try:
        yield read
    finally:
        read.consumer.end()
        await asyncio.wait_for(running, 5)


async def test_what_is_stored_is_committed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """In order: a batch that is stored before an earlier one waits for that."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        read.stores = False
        broker.polls += [[0, 1], [2], [3]]
        await until(lambda: len(read.taken) == 4)
        assert read.consumer.backlog() == {0: Backlog(unfetched=5, unstored=4, since=0.0)}
        read.unstored[1].set_result(None)
        await asyncio.sleep(0.02)
        assert broker.committed[0] == 0
        read.unstored[0].set_result(None)
        await until(lambda: broker.committed[0] == 3)
        read.unstored[2].set_result(None)
        await until(lambda: broker.committed[0] == 4)
        assert read.consumer.backlog() == {0: Backlog(unfetched=5, unstored=0, since=3.0)}
        broker.end = 4
        assert read.consumer.backlog() == {0: Backlog(unfetched=0, unstored=0, since=None)}
        assert read.consumer.problem == ""


async def test_a_client_that_fails_is_made_anew_and_goes_on_from_what_was_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same life of the topic: what is read again is known by its position."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1], KafkaConnectionError("cut"), [2, 3]]
        await until(lambda: len(read.taken) == 4)
        await until(lambda: broker.committed[0] == 4)
    assert (broker.clients, broker.stopped, read.events) == (2, 2, ["rebuild"])
    assert len({source for source, _ in read.taken}) == 1


async def test_what_is_read_before_it_is_known_where_to_begin_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library fetches as soon as a partition is ours, while we still ask for its offset and its name."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1]]
        await until(lambda: broker.committed[0] == 2)
        broker.log = range(6)
        broker.knows.clear()
        changing = asyncio.create_task(broker.client.change())
        broker.polls += [[2, 3]]
        await until(lambda: not broker.polls)
        broker.knows.set()
        await changing
        await until(lambda: broker.committed[0] == 6)
    assert [offset for _, offset in read.taken] == [0, 1, 2, 3, 4, 5]
    assert len({source for source, _ in read.taken}) == 1


@pytest.mark.parametrize("when", ["after it was taken out", "before it is taken out"])
async def test_what_is_polled_while_the_group_changes_is_read_again_and_known_for_what_it_is(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was taken out before or after it was said where the partition begins: it is nothing lost, nothing new."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1]]
        await until(lambda: broker.committed[0] == 2)
        broker.log = range(6)
        broker.changes = when
        broker.polls += [[2, 3]]
        await until(lambda: broker.committed[0] == 6)
    assert [offset for _, offset in read.taken] == [0, 1, 2, 3, 4, 5]
    assert len({source for source, _ in read.taken}) == 1


async def test_a_topic_that_was_made_again_is_another_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its offsets begin at nought, and are no repetitions."""
    broker = Broker()
    broker.committed = (500, "1a2b")
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[500, 501], [0, 1]]
        await until(lambda: len(read.taken) == 4)
        await until(lambda: broker.committed[0] == 2)
    sources = [source for source, _ in read.taken]
    assert sources[:2] == ["events/0@1a2b"] * 2
    assert sources[2] == sources[3] != sources[0]
    assert broker.committed[1] == sources[2].partition("@")[2]


async def test_a_group_that_has_lost_its_offsets_knows_what_it_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """They expire a week after the last member has left."""
    broker, sources = Broker(), set()
    for _ in range(2):
        broker.committed = (-1, "")
        async with reading(broker, monkeypatch) as read:
            broker.polls += [[3, 4]]
            await until(lambda: broker.committed[0] == 5)
        sources |= {source for source, _ in read.taken}
    assert sources == {f"events/0@{3000:x}"}


async def test_what_could_not_be_stored_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is committed but what this life of the topic is called, so that it is known for what it was."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        read.stores = False
        broker.polls += [[0, 1]]
        await until(lambda: len(read.unstored) == 1)
        read.stores = True
        read.unstored[0].set_exception(Unavailable("the store is down"))
        await until(lambda: read.events == ["rebuild"])
        assert broker.committed[0] == 0
        broker.polls += [[0, 1]]
        await until(lambda: broker.committed[0] == 2)
    assert [offset for _, offset in read.taken] == [0, 1, 0, 1]
    assert len({source for source, _ in read.taken}) == 1


async def test_a_group_whose_offsets_cannot_be_asked_for_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else what was polled would be passed over for good."""
    broker = Broker()
    refusals = iter([True])

    async def asked(group: str, wanted: Any) -> Any:
        if next(refusals, False):
            raise Unavailable("the coordinator is away")
        return await Broker.asked(broker, group, wanted)

    monkeypatch.setattr(broker, "asked", asked)
    async with reading(broker, monkeypatch) as read:
        await until(lambda: read.consumer.problem == "the coordinator is away")
        broker.polls += [[0, 1]]
        await until(lambda: len(read.taken) == 2)
        await until(lambda: broker.committed[0] == 2)


async def test_what_was_said_counts_as_heard_once_all_that_there_is_has_been_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not before the first answer has said how far the partition goes."""
    broker, clock = Broker(), WallClock()
    broker.end = None
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[7]]
        await until(lambda: len(read.taken) == 1)
        broker.end = 9
        broker.polls += [[]]
        await until(lambda: not broker.polls)
        assert read.consumer.heard_until == 0.0
        begun = clock.now()
        broker.polls += [[8]]
        await until(lambda: read.consumer.heard_until >= begun)
        broker.end = 10
        await asyncio.sleep(0.01)  # a poll that was under way
        heard = read.consumer.heard_until
        await asyncio.sleep(0.02)
        assert read.consumer.heard_until == heard


async def test_while_no_broker_answers_nothing_more_counts_as_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library only logs fetches that fail, and polls bring nothing."""
    broker, clock = Broker(), WallClock()
    broker.end = 2
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1]]
        await until(lambda: read.consumer.heard_until > 0)
        broker.answered = clock.now()
        await until(lambda: read.consumer.heard_until >= (broker.answered or 0))
        broker.polls += [[]] * 5
        await until(lambda: not broker.polls)
        assert read.consumer.heard_until == broker.answered


async def test_a_reader_lives_on_when_a_partition_cannot_be_given_away_in_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library only logs what its listener raises; another member has the partition all the same."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1]]
        await until(lambda: broker.committed[0] == 2)
        read.stores = False
        broker.polls += [[2]]
        await until(lambda: len(read.unstored) == 1)
        changing = asyncio.create_task(broker.client.change(to={OTHER}))
        await asyncio.sleep(0)
        read.unstored[0].set_exception(Unavailable("the store is down"))
        await changing
        await until(lambda: broker.clients == 2)
        await until(lambda: read.consumer.problem == "")
        assert set(read.consumer.backlog()) == {OTHER.partition}


async def test_a_commit_under_way_does_not_miss_what_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library repeats a commit by itself; a rebalance does not wait for that."""
    broker = Broker()
    async with reading(broker, monkeypatch) as read:
        broker.polls += [[0, 1]]
        await until(lambda: broker.committed[0] == 2)
        gate = broker.commits = asyncio.Event()
        broker.committing.clear()
        broker.polls += [[2]]
        await broker.committing.wait()
        broker.commits = None
        await broker.client.change(to={OTHER})
        gate.set()
        broker.polls += [[]] * 3
        await until(lambda: not broker.polls)
        assert (broker.clients, read.consumer.problem) == (1, "")


async def test_the_end_comes_also_while_the_group_is_being_rebalanced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library waits for the next assignment without a limit; that it takes long is told."""
    broker = Broker()
    monkeypatch.setattr(module, "STALLED", 0.05)
    monkeypatch.setattr(module, "POLL", 0.05)
    async with reading(broker, monkeypatch) as read:
        await until(lambda: read.consumer.problem == "")
        broker.rebalancing = True
        await until(lambda: "has not given us partitions" in read.consumer.problem)


async def test_the_end_comes_also_while_a_client_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped all the same."""
    broker = Broker()

    async def start(client: Client) -> None:
        client._coordinator = None
        await asyncio.Event().wait()

    monkeypatch.setattr(Client, "start", start)
    async with reading(broker, monkeypatch) as read:
        await until(lambda: broker.clients == 1)
    assert (broker.stopped, read.events) == (1, [])


async def test_what_is_done_is_done_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after a message may follow from it; what fails is done again before what comes after it."""
    broker, done, may = Broker(), [], asyncio.Event()
    fails = iter([True])

    async def do(offsets: list[int]) -> None:
        await may.wait()
        if next(fails, False):
            raise Unavailable("not now")
        done.extend(offsets)

    async with reading(broker, monkeypatch) as read:
        read.doing = do
        broker.polls += [[0], [1, 2], [3]]
        await until(lambda: not broker.polls)
        may.set()
        await until(lambda: read.events == ["rebuild"])
        assert done == []
        broker.polls += [[0], [1, 2], [3]]
        await until(lambda: broker.committed[0] == 4)
    assert done == [0, 1, 2, 3]


async def test_what_waits_is_bounded_in_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing more is fetched, until half of it is stored."""
    broker = Broker()
    monkeypatch.setattr(module, "UNSTORED_SIZE", 3)
    async with reading(broker, monkeypatch) as read:
        read.stores = False
        broker.polls += [[0, 1, 2, 3]]
        await until(lambda: broker.paused == {TP})
        read.unstored[0].set_result(None)
        await until(lambda: broker.paused == set())
