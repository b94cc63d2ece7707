"""Records in memory and the one way to change them: retries, doubt, and bytes that are made once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from msgspec.structs import replace

from queue_manager.server.application import records as module
from queue_manager.server.application.ports import Record
from queue_manager.server.application.records import Records, Transition
from queue_manager.server.domain.errors import Conflict, NotFound, Unavailable
from queue_manager.server.domain.history import Entry, Event, record
from queue_manager.server.domain.model import JobState, Queue, QueueState
from tests.support.stored_queues import new_queue
from tests.unit.application import EPOCH, Parts, Q

pytestmark = pytest.mark.virtual_time


@dataclass
class Told:
    """A listener that remembers."""

    changes: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    reloads: list[int] = field(default_factory=list)

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:
        """See `Listener`."""
        assert event.revision == queue.revision
        self.changes.append(event.revision)
        if entry is not None:
            self.kept.append(entry.revision)

    def reloaded(self, queue: Queue) -> None:
        """See `Listener`."""
        self.reloads.append(queue.revision)


def told(records: Records) -> Told:
    """A listener of these records."""
    listener = Told()
    records.subscribe(listener)
    return listener


def message(text: str) -> Transition:
    """A transition that sets the queue's message."""
    return lambda queue: replace(queue, status=replace(queue.status, message=text))


async def test_every_accepted_change_raises_the_revision_by_one_and_is_told_once() -> None:
    """Kept ones with their entry, progress without."""
    parts = Parts()
    listener = told(parts.records)
    await parts.begin()
    await parts.progress()
    await parts.alter(state=QueueState.RUNNING)
    assert (listener.changes, listener.kept, listener.reloads) == ([1, 2, 3], [1, 3], [])


async def test_a_change_that_changes_nothing_is_not_written() -> None:
    """No write, no revision, nobody told."""
    parts = Parts()
    await parts.begin()
    listener = told(parts.records)
    answer = await parts.records.change(Q, lambda queue: replace(queue, applied={}))
    assert (answer.queue.revision, parts.store.calls["replace"], listener.changes) == (1, 0, [])


async def test_bookkeeping_is_written_without_a_revision() -> None:
    """What no caller sees makes no event."""
    parts = Parts()
    await parts.begin()
    listener = told(parts.records)
    answer = await parts.records.change(Q, lambda queue: replace(queue, applied={"p": 7}, published_revision=1))
    assert (answer.queue.revision, answer.queue.applied, listener.changes) == (1, {"p": 7}, [])
    assert parts.store.calls["replace"] == 1


@pytest.mark.parametrize("exclusive", [True, False])
async def test_a_lost_compare_and_set_is_tried_again_on_what_the_store_has(exclusive: bool) -> None:
    """The other's change stands, ours is made on top of it; listeners learn of both, in order."""
    parts = Parts(exclusive=exclusive)
    await parts.begin()
    listener = told(parts.records)
    seen: list[int] = []

    def meddle(call: str) -> None:
        if call == "replace" and len(seen) == 1:
            stored = parts.store._records[Q].queue
            theirs, _, _ = record(stored, replace(stored, status=replace(stored.status, message="theirs")), now=EPOCH)
            parts.store._records[Q] = Record(theirs, "theirs")

    def ours(queue: Queue) -> Queue:
        seen.append(queue.revision)
        return replace(queue, status=replace(queue.status, state=QueueState.RUNNING))

    parts.store.before = meddle
    after = (await parts.records.change(Q, ours)).queue
    assert (after.revision, after.status.message, after.status.state) == (3, "theirs", QueueState.RUNNING)
    assert (seen, listener.reloads, listener.changes) == ([1, 2], [2], [3])


async def test_changes_of_one_queue_in_one_process_never_conflict() -> None:
    """They wait for each other; every one of them is stored."""
    parts = Parts()
    await parts.begin()
    parts.store.slow = 0.01
    await asyncio.gather(*(parts.progress() for _ in range(20)))
    assert (await parts.records.get(Q)).queue.jobs[0].status.records_written == 20
    assert parts.store.calls["replace"] == 20
    assert not parts.records._locks


async def test_a_failed_write_is_raised_and_changes_nothing() -> None:
    """The next reader asks the store, and finds the record as it was."""
    parts = Parts()
    await parts.begin()
    listener = told(parts.records)
    parts.store.fail["replace"] = 1
    with pytest.raises(Unavailable):
        await parts.alter(state=QueueState.RUNNING)
    assert (await parts.records.get(Q)).queue.status.state is QueueState.PENDING
    assert listener.changes == []


async def test_a_write_without_an_answer_is_found_out_before_the_next() -> None:
    """It may or may not have been stored: memory is not trusted, and whoever listens learns of the revision."""
    parts = Parts()
    await parts.begin()
    listener = told(parts.records)
    parts.store.lose["replace"] = 1
    with pytest.raises(Unavailable):
        await parts.alter(state=QueueState.RUNNING)
    assert (await parts.records.get(Q)).queue.status.state is QueueState.RUNNING
    assert listener.reloads == [2]
    await parts.progress()
    assert (await parts.records.get(Q)).queue.revision == 3
    assert listener.changes == [3]


async def test_a_write_whose_caller_was_cancelled_is_found_out_before_the_next() -> None:
    """The same as a lost answer."""
    parts = Parts()
    await parts.begin()
    parts.store.slow = 1.0
    task = asyncio.create_task(parts.alter(state=QueueState.RUNNING))
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reads = parts.store.calls["get"]
    await parts.records.get(Q)
    assert parts.store.calls["get"] == reads + 1
    assert not parts.records._locks


async def test_where_there_is_no_other_writer_reads_cost_nothing() -> None:
    """What is in memory is the truth."""
    parts = Parts()
    await parts.begin()
    for _ in range(10):
        await parts.records.get(Q)
    assert parts.store.calls["get"] == 0


async def test_where_there_are_other_writers_every_read_asks_the_store() -> None:
    """And listeners learn of what others wrote, once."""
    parts = Parts(exclusive=False)
    await parts.begin()
    listener = told(parts.records)
    await parts.another().change(Q, message("theirs"))
    for _ in range(3):
        assert (await parts.records.get(Q)).queue.status.message == "theirs"
    assert listener.reloads == [2]


async def test_a_queue_that_there_is_not_is_not_found() -> None:
    """To read and to change alike; nothing is remembered of it."""
    parts = Parts()
    assert await parts.records.find(Q) is None
    with pytest.raises(NotFound):
        await parts.records.get(Q)
    with pytest.raises(NotFound):
        await parts.progress()
    assert not parts.records._locks


async def test_a_queue_that_is_made_while_it_is_looked_for_stays_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who polls until it is there has asked before it was: that answer is no longer true when it comes."""
    parts = Parts()
    listener, get = told(parts.records), parts.store.get

    async def late(queue_id: str) -> Record | None:
        found = await get(queue_id)
        await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(parts.store, "get", late)
    looking = asyncio.create_task(parts.records.find(Q))
    await asyncio.sleep(0.005)
    made = await parts.begin()
    found = await looking
    assert found is not None
    assert found.queue is made
    assert parts.records.live[Q].queue is made
    assert listener.reloads == []


async def test_a_taken_id_conflicts() -> None:
    """The caller takes another."""
    parts = Parts()
    await parts.begin()
    with pytest.raises(Conflict):
        await parts.begin()


async def test_a_creation_without_an_answer_is_not_forgotten() -> None:
    """It was stored: the caller who repeats it with the same request_id is answered the queue, which is live then."""
    parts = Parts()
    queue, _ = new_queue(Q, request_id="r-1")
    queue = replace(queue, revision=0, history_revision=0)
    parts.store.lose["create"] = 1
    with pytest.raises(Unavailable):
        await parts.records.create(queue, actor="tests")
    listener = told(parts.records)
    again, _ = new_queue("wf-btcusdt-api-trades-20240601-zzzzzz", request_id="r-1")
    answer, created = await parts.records.create(replace(again, revision=0, history_revision=0), actor="tests")
    assert (answer.queue.queue_id, created) == (Q, False)
    assert Q in parts.records.live
    assert listener.reloads == [1]


# --- Encoded bytes ----------------------------------------------------------------------------------------------------


async def test_the_newest_revision_is_encoded_once() -> None:
    """Whoever asks gets the same bytes."""
    parts = Parts()
    queue = await parts.begin()
    assert parts.records.encoded(queue) is parts.records.encoded(queue)
    queue = await parts.progress()
    assert parts.records.encoded(queue) is parts.records.encoded(queue)
    assert parts.queues_encoded == 2


async def test_an_older_revisions_bytes_do_not_replace_the_newest() -> None:
    """A past form, as history gives it back, is encoded for whoever asked and not kept."""
    parts = Parts()
    past = await parts.begin()
    queue = await parts.progress()
    newest = parts.records.encoded(queue)
    assert parts.records.encoded(past) != newest
    assert parts.records.encoded(queue) is newest


async def test_bookkeeping_does_not_make_new_bytes() -> None:
    """Nothing that a caller sees has changed."""
    parts = Parts()
    data = parts.records.encoded(await parts.begin())
    answer = await parts.records.change(Q, lambda queue: replace(queue, published_revision=1))
    assert parts.records.encoded(answer.queue) is data


# --- What is kept in memory -------------------------------------------------------------------------------------------


async def test_settled_queues_are_kept_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last; live ones without a bound. What was dropped is read again."""
    monkeypatch.setattr(module, "KEPT_SETTLED", 5)
    parts = Parts()
    ids = [f"wf-btcusdt-api-trades-20240601-{number:06d}" for number in range(8)]
    for queue_id in ids:
        parts.records.encoded(await parts.begin(queue_id))
        await parts.alter(queue_id, state=QueueState.FINISHED, job=JobState.FINISHED)
        await parts.records.change(queue_id, lambda queue: replace(queue, settled=True))
    assert not parts.records.live
    assert not parts.records._by_suffix
    assert len(parts.records._settled) == 5
    assert len(parts.records._encoded) <= 5
    assert (await parts.records.get(ids[0])).queue.settled
    assert parts.store.calls["get"] == 1


async def test_a_change_that_changes_nothing_counts_as_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody stops a queue that has long ended: its record is not the next to be dropped."""
    monkeypatch.setattr(module, "KEPT_SETTLED", 2)
    parts = Parts()
    ids = [f"wf-btcusdt-api-trades-20240601-{number:06d}" for number in range(3)]
    for queue_id in ids:
        await parts.begin(queue_id)
        await parts.alter(queue_id, state=QueueState.FINISHED, job=JobState.FINISHED)
        if queue_id == ids[2]:
            await parts.records.change(ids[0], lambda queue: queue)
        await parts.records.change(queue_id, lambda queue: replace(queue, settled=True))
    assert set(parts.records._settled) == {ids[0], ids[2]}


async def test_a_live_queue_is_found_by_its_suffix() -> None:
    """To resolve what names only a worker; a settled one no more."""
    parts = Parts()
    await parts.begin()
    assert parts.records.live_queue_of("a1b2c3") == Q
    await parts.records.change(Q, lambda queue: replace(queue, settled=True))
    assert parts.records.live_queue_of("a1b2c3") is None


async def test_a_deleted_queue_leaves_nothing_behind() -> None:
    """In memory and in the store."""
    parts = Parts()
    parts.records.encoded(await parts.begin())
    await parts.records.delete(Q)
    assert await parts.records.find(Q) is None
    assert not parts.records.live
    assert not parts.records._encoded
    assert not parts.records._by_suffix


async def test_a_queue_that_is_deleted_while_it_is_looked_for_stays_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was read before, and the answer came after: nobody finds it from then on. Another one is found all the same."""
    parts = Parts()
    other = "wf-btcusdt-api-trades-20240601-zzzzzz"
    for queue_id in (Q, other):
        await parts.begin(queue_id)
    records, get = parts.another(), parts.store.get  # has neither in memory yet
    listener = told(records)

    async def late(queue_id: str) -> Record | None:
        found = await get(queue_id)
        await asyncio.sleep(0.01)
        return found

    monkeypatch.setattr(parts.store, "get", late)
    looking = [asyncio.create_task(records.find(queue_id)) for queue_id in (Q, other)]
    await asyncio.sleep(0.005)
    await records.delete(Q)
    deleted, there = [await one for one in looking]
    assert deleted is None
    assert there is not None
    assert await records.find(Q) is None
    assert list(records.live) == [other]
    assert listener.reloads == [1]


async def test_after_a_restart_every_unsettled_queue_is_loaded_and_told() -> None:
    """And no settled one."""
    parts = Parts()
    for number in range(3):
        await parts.begin(f"wf-btcusdt-api-trades-20240601-{number:06d}")
    await parts.records.change("wf-btcusdt-api-trades-20240601-000001", lambda queue: replace(queue, settled=True))
    records = parts.another()
    listener = told(records)
    assert await records.load_unsettled() == 2
    assert sorted(records.live) == [f"wf-btcusdt-api-trades-20240601-{number:06d}" for number in (0, 2)]
    assert listener.reloads == [1, 1]


async def test_what_was_asked_for_while_loading_is_not_put_back() -> None:
    """A page was read before a queue changed; what is in memory is newer than what the page has."""
    parts = Parts()
    await parts.begin()
    records = parts.another()
    page = await parts.store.unsettled(after="", limit=9)

    async def old_page(*, after: str, limit: int) -> Sequence[Record]:
        if after:
            return []
        await records.change(Q, lambda queue: replace(queue, status=replace(queue.status, message="newer")))
        return page

    parts.store.unsettled = old_page  # type: ignore[method-assign]
    assert await records.load_unsettled() == 1
    assert records.live[Q].queue.status.message == "newer"
