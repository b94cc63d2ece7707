"""Old queues go, with what is kept of them elsewhere; young and unfinished ones stay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from queue_manager.server.application.ports import Record
from queue_manager.server.application.retention import GIVE_UP_AFTER, PAGE, Retention
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import JobState, Queue, QueueState
from tests.unit.application import EPOCH, Bus, Parts, Q, Runner, Wall

pytestmark = pytest.mark.virtual_time

KEEP = 1000.0


class Places(Bus):
    """A bus of which a part may be out of reach."""

    def __init__(self) -> None:
        super().__init__()
        self.unavailable: set[str] = set()
        self.tries = 0

    async def forget(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        self.tries += 1
        if queue.queue_id in self.unavailable:
            raise Unavailable("a part of the bus is out of reach")
        await super().forget(queue)


class Keeping(Parts):
    """Retention over records."""

    def __init__(self) -> None:
        super().__init__()
        self.bus, self.runner = Places(), Runner()
        self.retention = Retention(self.records, self.store, self.runner, self.bus, clock=Wall(), keep=KEEP)

    async def ended(self, queue_id: str = Q, *, at: float = 0.0, settled: bool = True) -> None:
        """A queue that has ended, at a time of the loop."""
        await self.begin(queue_id)
        await self.alter(queue_id, state=QueueState.FINISHED, job=JobState.FINISHED)
        await self.records.change(
            queue_id,
            lambda queue: replace(queue, settled=settled, status=replace(queue.status, end_time=EPOCH + at)),
        )


@asynccontextmanager
async def running(parts: Keeping) -> AsyncIterator[None]:
    """While inside, old queues are removed."""
    task = asyncio.create_task(parts.retention.run())
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_queue_is_removed_once_it_has_ended_longer_ago_than_it_is_kept() -> None:
    """Not before, and within a tenth of that after it; with what the runner and the bus keep of it."""
    parts = Keeping()
    await parts.ended(at=0.0)
    async with running(parts):
        await asyncio.sleep(KEEP - 1)
        assert await parts.store.get(Q) is not None
        await asyncio.sleep(KEEP / 10 + 2)
    assert await parts.store.get(Q) is None
    assert await parts.records.find(Q) is None
    assert parts.bus.forgotten == [Q]
    assert len(parts.runner.forgotten) == 1


async def test_what_is_not_over_and_done_stays() -> None:
    """One that runs, and one that has ended but is not settled yet."""
    parts = Keeping()
    await parts.begin()
    other = "wf-btcusdt-api-trades-20240601-zzzzzz"
    await parts.ended(other, settled=False)
    async with running(parts):
        await asyncio.sleep(KEEP * 10)
    assert set(parts.store._records) == {Q, other}
    assert parts.bus.forgotten == []


@pytest.mark.parametrize("part", ["runner", "bus"])
async def test_a_record_stays_until_what_is_outside_has_gone(part: str) -> None:
    """An orphan would never be looked for again; the record is."""
    parts = Keeping()
    await parts.ended()
    down = parts.runner if part == "runner" else parts.bus
    down.down = True
    async with running(parts):
        await asyncio.sleep(KEEP * 3)
        assert await parts.store.get(Q) is not None
        down.down = False
        await asyncio.sleep(KEEP)
    assert await parts.store.get(Q) is None


async def test_more_than_a_page_of_old_queues_is_removed_in_one_go() -> None:
    """The next look is an hour away."""
    parts = Keeping()
    for number in range(PAGE + 5):
        await parts.ended(f"wf-btcusdt-api-trades-20240601-{number:06d}")
    await asyncio.sleep(KEEP + 1)
    async with running(parts):
        await asyncio.sleep(1)
    assert parts.store._records == {}


async def test_one_that_cannot_be_read_keeps_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it end the server; it is looked at again the next time."""
    parts = Keeping()
    await parts.ended()
    for number in range(PAGE):
        await parts.ended(f"wf-btcusdt-api-trades-20240601-{number:06d}")
    find, damaged = parts.records.find, [True]

    async def found(queue_id: str) -> Record | None:
        if damaged and queue_id == Q:
            raise ValueError("its record cannot be read")
        return await find(queue_id)

    monkeypatch.setattr(parts.records, "find", found)
    await asyncio.sleep(KEEP + 1)
    async with running(parts):
        await asyncio.sleep(1)
        assert set(parts.store._records) == {Q}
        damaged.clear()
        await asyncio.sleep(KEEP)
    assert parts.store._records == {}


async def test_one_that_is_unavailable_keeps_no_younger_one() -> None:
    """Oldest first, so it is the first one each time. It goes once it can."""
    parts = Keeping()
    await parts.ended()
    await asyncio.sleep(1)
    for number in range(PAGE):
        await parts.ended(f"wf-btcusdt-api-trades-20240601-{number:06d}", at=1.0)
    parts.bus.unavailable = {Q}
    await asyncio.sleep(KEEP + 1)
    async with running(parts):
        await asyncio.sleep(1)
        assert set(parts.store._records) == {Q}
        parts.bus.unavailable = set()
        await asyncio.sleep(KEEP)
    assert parts.store._records == {}


async def test_many_that_are_unavailable_keep_no_other_for_ever() -> None:
    """A look may end before the others' turn comes; the next one begins with them."""
    parts = Keeping()
    oldest = {f"wf-btcusdt-api-trades-20240601-{number:06d}" for number in range(GIVE_UP_AFTER * 3)}
    for queue_id in oldest:
        await parts.ended(queue_id)
    await parts.ended(at=1.0)
    parts.bus.unavailable = oldest
    async with running(parts):
        await asyncio.sleep(KEEP * 2)
    assert set(parts.store._records) == oldest


async def test_where_everything_is_unavailable_only_a_few_are_tried() -> None:
    """Each may take its whole timeout."""
    parts = Keeping()
    for number in range(PAGE):
        await parts.ended(f"wf-btcusdt-api-trades-20240601-{number:06d}")
    parts.bus.down = True
    await asyncio.sleep(KEEP + 1)
    async with running(parts):
        await asyncio.sleep(1)
        assert parts.bus.tries == GIVE_UP_AFTER
        parts.bus.down = False
        await asyncio.sleep(KEEP)
    assert parts.store._records == {}
