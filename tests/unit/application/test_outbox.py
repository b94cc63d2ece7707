"""Publishing every event: in order per queue, at least once, from memory or from history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest
from msgspec.structs import replace

from queue_manager.server.application.outbox import KEPT, Outbox
from queue_manager.server.application.ports import Publication
from queue_manager.server.application.records import Records
from queue_manager.server.domain.model import JobState, QueueState
from tests.unit.application import Bus, Parts, Q

pytestmark = pytest.mark.virtual_time

OTHER = "wf-btcusdt-api-trades-20240601-zzzzzz"


class Publishing(Parts):
    """An outbox over records."""

    def __init__(self) -> None:
        super().__init__()
        self.bus = Bus()
        self.done: list[str] = []
        self.outbox = self.outbox_of(self.records)

    def outbox_of(self, records: Records) -> Outbox:
        """Another process's."""
        return Outbox(records, self.store, self.bus, done=self.done.append, rng=Random(1), instruments=self.counters)

    def revisions(self, queue_id: str = Q) -> list[int]:
        """Of the events that are out, without the repetitions of one revision."""
        found = [int(event.event_id.split(":")[1]) for event in self.bus.published if event.queue_id == queue_id]
        return [revision for n, revision in enumerate(found) if n == 0 or found[n - 1] != revision]

    async def many(self, count: int, queue_id: str = Q) -> None:
        """So many changes that history keeps."""
        for number in range(count):
            await self.alter(queue_id, job=JobState.STARTING if number % 2 else JobState.LAUNCHING)


@asynccontextmanager
async def working(*outboxes: Outbox) -> AsyncIterator[None]:
    """While inside, they publish."""
    tasks = [asyncio.create_task(outbox.work.run()) for outbox in outboxes]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_nobody_can_hear_is_out_without_being_made() -> None:
    """The embedded bus has no topic; who begins to listen gets what happens from then on."""
    parts = Publishing()
    parts.bus.is_heard = False
    await parts.begin()
    async with working(parts.outbox):
        await parts.many(3)
        await parts.outbox.work.idle()
        assert (parts.bus.published, parts.outbox.depth) == ([], 0)
        parts.bus.is_heard = True
        await parts.alter(job=JobState.STARTING)
        await parts.outbox.work.idle()
    assert parts.revisions() == [5]


@pytest.mark.parametrize(("takes", "out"), [(0.5, [1]), (60.0, [])])
async def test_at_the_end_events_are_given_a_moment(
    monkeypatch: pytest.MonkeyPatch, takes: float, out: list[int]
) -> None:
    """The last of them is what dashboards wait for; a bus that is stuck is not waited for."""
    parts = Publishing()
    publish = parts.bus.publish

    async def slow(events: Sequence[Publication]) -> None:
        await asyncio.sleep(takes)
        await publish(events)

    monkeypatch.setattr(parts.bus, "publish", slow)
    async with working(parts.outbox):
        await parts.begin()
        await parts.outbox.drain()
    assert parts.revisions() == out
    assert asyncio.get_running_loop().time() < 3


async def test_every_kept_event_is_published_in_order_and_progress_is_not() -> None:
    """One message per change of a queue's or job's state."""
    parts = Publishing()
    async with working(parts.outbox):
        await parts.begin()
        await parts.alter(job=JobState.LAUNCHING)
        await parts.progress()
        await parts.alter(state=QueueState.RUNNING)
        await asyncio.sleep(1)
    assert parts.revisions() == [1, 2, 4]
    assert parts.outbox.depth == 0
    assert parts.outbox.published((await parts.records.get(Q)).queue) == 4


async def test_while_the_bus_is_down_events_wait_and_changes_go_on() -> None:
    """They go out in order when it is back, each queue for itself."""
    parts = Publishing()
    async with working(parts.outbox):
        parts.bus.down = True
        await parts.begin()
        await parts.begin(OTHER)
        await parts.many(5)
        await asyncio.sleep(100)
        assert (parts.bus.published, parts.outbox.depth) == ([], 2)
        assert parts.outbox.waiting_since == (await parts.store.history(Q))[0].event.time
        parts.bus.down = False
        await asyncio.sleep(100)
    assert parts.outbox.waiting_since is None
    assert (parts.revisions(), parts.revisions(OTHER)) == ([1, 2, 3, 4, 5, 6], [1])


async def test_more_than_memory_holds_is_read_from_history() -> None:
    """A long outage costs no memory and loses nothing."""
    parts = Publishing()
    async with working(parts.outbox):
        parts.bus.down = True
        await parts.begin()
        await parts.many(KEPT * 3)
        waiting = parts.outbox._waiting[Q]
        assert waiting is None or len(waiting) <= KEPT
        parts.bus.down = False
        await asyncio.sleep(100)
        await parts.alter(state=QueueState.RUNNING)
        await asyncio.sleep(1)
    assert parts.revisions() == list(range(1, KEPT * 3 + 3))
    assert parts.outbox.depth == 0


async def test_after_a_crash_what_may_not_be_out_is_published_again_under_the_same_ids() -> None:
    """At least once: from the last position that was written."""
    parts = Publishing()
    async with working(parts.outbox):
        await parts.begin()
        await parts.many(3)
        await parts.records.change(Q, lambda queue: replace(queue, published_revision=2))
        await asyncio.sleep(1)
    before = {event.event_id: event.value for event in parts.bus.published}
    parts.bus.published.clear()
    records = parts.another()
    outbox = parts.outbox_of(records)
    await records.load_unsettled()
    async with working(outbox):
        await asyncio.sleep(1)
    assert parts.revisions() == [3, 4]
    assert all(before[event.event_id] == event.value for event in parts.bus.published)


async def test_an_event_of_a_write_without_an_answer_is_published_too() -> None:
    """It was stored, so it happened; nobody here was told."""
    parts = Publishing()
    async with working(parts.outbox):
        await parts.begin()
        await asyncio.sleep(1)
        parts.store.lose["replace"] = 1
        with pytest.raises(Exception, match="lost"):
            await parts.alter(job=JobState.LAUNCHING)
        await parts.alter(state=QueueState.RUNNING)
        await asyncio.sleep(1)
    assert parts.revisions() == [1, 2, 3]


async def test_what_comes_while_it_publishes_is_published_next() -> None:
    """Nothing is skipped, nothing overtakes."""
    parts = Publishing()
    await parts.begin()
    publish = parts.bus.publish

    async def slowly(events: object) -> None:
        await asyncio.sleep(1)
        await publish(events)  # type: ignore[arg-type]

    parts.bus.publish = slowly  # type: ignore[method-assign]
    async with working(parts.outbox):
        for _ in range(10):
            await asyncio.sleep(0.3)
            await parts.many(1)
            await parts.alter(job=JobState.STARTING)
        await asyncio.sleep(100)
    assert parts.revisions() == list(range(1, 22))


async def test_an_ended_queue_is_reported_when_its_last_event_is_out() -> None:
    """Not before; then its record can be closed, and nothing of it is kept."""
    parts = Publishing()
    async with working(parts.outbox):
        await parts.begin()
        await asyncio.sleep(1)
        parts.bus.down = True
        await parts.alter(state=QueueState.FINISHED, job=JobState.FINISHED)
        await asyncio.sleep(10)
        assert parts.done == []
        parts.bus.down = False
        await asyncio.sleep(100)
        assert set(parts.done) == {Q}
        parts.outbox.forget(Q)
    assert (parts.outbox.depth, parts.outbox._published) == (0, {})


async def test_a_queue_that_is_gone_has_nothing_to_publish() -> None:
    """It was deleted while its events waited."""
    parts = Publishing()
    parts.bus.down = True
    async with working(parts.outbox):
        await parts.begin()
        await asyncio.sleep(1)
        await parts.records.delete(Q)
        parts.bus.down = False
        await asyncio.sleep(100)
    assert (parts.bus.published, parts.outbox.depth) == ([], 0)
