"""What is special about the embedded bus, beside what every bus does (tests/contract/test_bus.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest

from queue_manager.server.adapters.inprocess.bus import InProcessBus
from queue_manager.server.adapters.inprocess.topics import DataTopic
from queue_manager.server.application.ports import Message, Publication, WorkerCommand
from queue_manager.server.domain.errors import Unavailable
from tests.support.local_workers import WallClock


class Pending:
    """A receiver of which nothing is ever stored."""

    def __init__(self, stored: Awaitable[object]) -> None:
        self._stored = stored

    def telemetry(self, messages: Sequence[Message]) -> Awaitable[object]:
        """See `ports.Receiver`."""
        return self._stored

    def commands(self, messages: Sequence[Message]) -> Awaitable[object]:
        """See `ports.Receiver`."""
        raise AssertionError(messages)


async def test_telemetry_that_nobody_has_subscribed_to_is_not_lost_but_refused(tmp_path: Path) -> None:
    """The runner keeps it and hands it on again."""
    async with InProcessBus(tmp_path, clock=WallClock()) as bus:
        with pytest.raises(Unavailable):
            bus.deliver([Message(b"{}", 1.0)])


async def test_closing_waits_for_nothing_and_leaves_others_futures_alone(tmp_path: Path) -> None:
    """A future belongs to who made it; a coroutine was ours to run."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    cancelled = asyncio.Event()

    async def storing() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with InProcessBus(tmp_path, clock=WallClock()) as bus:
        bus.subscribe(Pending(future))
        bus.deliver([Message(b"{}", 1.0)])
        bus.subscribe(Pending(storing()))
        bus.deliver([Message(b"{}", 1.0)])
        await asyncio.sleep(0)
    assert cancelled.is_set()
    assert not future.done()
    future.set_exception(Unavailable("the store is down"))
    await asyncio.sleep(0)  # its failure is logged, not left for the garbage collector to complain of


async def test_a_slow_listener_loses_the_oldest_events_and_knows_how_many(tmp_path: Path) -> None:
    """Nothing grows without bound; closing ends the iteration after what is left."""
    async with InProcessBus(tmp_path, clock=WallClock()) as bus:
        listener = bus.listen(size=3)
        await bus.publish([Publication(f"e{number}", "q", {}) for number in range(5)])
    assert [event.event_id async for event in listener] == ["e2", "e3", "e4"]
    assert listener.dropped == 2
    listener.close()


async def test_without_workers_commands_go_nowhere(tmp_path: Path) -> None:
    """At least once to those that are there."""
    async with InProcessBus(tmp_path, clock=WallClock()) as bus:
        await bus.send(WorkerCommand("q", "stop"))


async def test_without_its_data_directory_the_bus_fails_its_check(tmp_path: Path) -> None:
    """It is where the topics are."""
    async with InProcessBus(tmp_path / "gone", clock=WallClock()) as bus:
        with pytest.raises(Unavailable):
            await bus.check()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_a_topic_is_never_a_path_out_of_its_folder(name: str) -> None:
    """Names come from requests."""
    with pytest.raises(ValueError, match="data topic"):
        DataTopic("/topics", name)


def test_a_batch_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    """Only whole lines count, and an offset lost in a crash means reading again."""
    topic = DataTopic(str(tmp_path), "t")
    topic.append(100)
    with Path(f"{topic.path}/records").open("ab") as file:
        file.write(b"12")
    count, offset = topic.read(0)
    assert (count, offset) == (100, 4)
    topic.commit("g/h", offset)
    assert (topic.committed("g/h"), topic.lag("g/h")) == (4, 2)
    next(Path(topic.path).glob("*.offset")).write_bytes(b"")
    assert topic.committed("g/h") == 0
