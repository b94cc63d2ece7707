"""What every `StateStore` does: each sentence of the port's docstrings, on each adapter.

The memory store is itself an adapter here, and in the listing tests its filter is the oracle, being brute force.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_manager.server.adapters.inprocess.store import MemoryStore, matches
from queue_manager.server.adapters.sqlite import SqliteStore
from queue_manager.server.application.ports import Cursor, QueueFilter, Record, StateStore
from queue_manager.server.domain.errors import Conflict
from queue_manager.server.domain.history import replay
from queue_manager.server.domain.model import JobState, Queue, QueueState
from tests.support.stored_queues import change, changed, create, new_queue

Opener = Callable[..., AbstractAsyncContextManager[StateStore]]


@asynccontextmanager
async def memory(*, keep: int = 512) -> AsyncIterator[StateStore]:
    """The dict."""
    yield MemoryStore(keep=keep)


@asynccontextmanager
async def sqlite(*, keep: int = 512) -> AsyncIterator[StateStore]:
    """The file."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder), keep=keep) as store:
            yield store


@pytest.fixture(params=[memory, sqlite], ids=lambda opener: opener.__name__)
def opener(request: pytest.FixtureRequest) -> Opener:
    """How to open each adapter."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def store(opener: Opener) -> AsyncIterator[StateStore]:
    """Each adapter, empty."""
    async with opener() as opened:
        yield opened


# --- create, get ------------------------------------------------------------------------------------------------------


async def test_a_created_queue_is_read_back_as_it_was_with_its_first_entry(store: StateStore) -> None:
    """Nothing of the document is lost, and the version of create is the version of get."""
    queue, entry = new_queue("wf-a", labels={"team": "α"}, targets=("x", "y"), request_id="r")
    made = await store.create(queue, entry)
    assert made.queue == queue
    assert await store.get("wf-a") == made
    assert list(await store.history("wf-a")) == [entry]


async def test_an_unknown_queue_is_none_and_has_no_history(store: StateStore) -> None:
    """No error: asking is how one finds out."""
    assert await store.get("wf-a") is None
    assert await store.get_by_request_id("r") is None
    assert list(await store.history("wf-a")) == []


async def test_a_taken_queue_id_is_a_conflict_and_changes_nothing(store: StateStore) -> None:
    """The first one stays, with its history."""
    first = await create(store, "wf-a", symbol="BTCUSDT")
    with pytest.raises(Conflict):
        await create(store, "wf-a", symbol="ETHUSDT", labels={"k": "v"}, targets=("z",))
    assert await store.get("wf-a") == first
    assert len(await store.history("wf-a")) == 1
    assert not await store.list(QueueFilter(labels={"k": None}), after=None, limit=9)
    assert not await store.list(QueueFilter(target="z"), after=None, limit=9)


async def test_a_known_request_id_writes_nothing_and_answers_the_queue_that_has_it(store: StateStore) -> None:
    """Whatever the new queue is called, also like the old one; and the record is the newest."""
    first = await create(store, "wf-a", request_id="r")
    first = await change(store, first, state=QueueState.RUNNING)
    assert await create(store, "wf-b", request_id="r") == first
    assert await create(store, "wf-a", request_id="r") == first
    assert await store.get("wf-b") is None
    assert list(await store.history("wf-b")) == []
    assert await store.get_by_request_id("r") == first


async def test_queues_without_request_id_are_never_taken_for_each_other(store: StateStore) -> None:
    """The empty request id is none."""
    await create(store, "wf-a")
    made = await create(store, "wf-b")
    assert made.queue.queue_id == "wf-b"
    assert await store.get_by_request_id("") is None


async def test_of_many_creates_with_one_request_id_one_is_stored(store: StateStore) -> None:
    """All callers get that one."""
    records = await asyncio.gather(*(create(store, f"wf-{n}", request_id="r") for n in range(50)))
    assert len({record.queue.queue_id for record in records}) == 1
    assert len(await store.list(QueueFilter(), after=None, limit=100)) == 1


async def test_of_many_creates_with_one_queue_id_one_wins(store: StateStore) -> None:
    """The others lose, each with a Conflict of its own."""
    results = await asyncio.gather(*(create(store, "wf-a", symbol=f"S{n}") for n in range(50)), return_exceptions=True)
    (winner,) = [result for result in results if isinstance(result, Record)]
    losers = [result for result in results if isinstance(result, Conflict)]
    assert len(losers) == 49
    assert len({id(loser) for loser in losers}) == 49
    assert await store.get("wf-a") == winner


# --- replace ----------------------------------------------------------------------------------------------------------


async def test_replace_stores_the_queue_and_its_entry_under_a_new_version(store: StateStore) -> None:
    """And the queue is found by its new state, not by the old one."""
    first = await create(store, "wf-a")
    queue, entry = changed(first.queue, state=QueueState.RUNNING, job=0)
    second = await store.replace(queue, version=first.version, entry=entry)
    assert second.queue == queue
    assert second.version != first.version
    assert await store.get("wf-a") == second
    assert [kept.revision for kept in await store.history("wf-a")] == [1, 2]
    assert await store.list(QueueFilter(states=frozenset({QueueState.RUNNING})), after=None, limit=9) == [queue]
    assert not await store.list(QueueFilter(states=frozenset({QueueState.PENDING})), after=None, limit=9)


async def test_replace_without_entry_adds_none(store: StateStore) -> None:
    """Progress is not history."""
    record = await change(store, await create(store, "wf-a"), records_written=7)
    assert record.queue.revision == 2
    assert await store.get("wf-a") == record
    assert len(await store.history("wf-a")) == 1


async def test_replace_of_another_version_is_a_conflict_and_writes_neither_queue_nor_entry(store: StateStore) -> None:
    """Both or nothing."""
    first = await create(store, "wf-a")
    second = await change(store, first, state=QueueState.RUNNING)
    queue, entry = changed(first.queue, state=QueueState.FAILED)
    for version in (first.version, "0", "", "something else", "9" * 40):
        with pytest.raises(Conflict):
            await store.replace(queue, version=version, entry=entry)
    assert await store.get("wf-a") == second
    assert len(await store.history("wf-a")) == 2


async def test_replace_of_a_queue_that_is_gone_is_a_conflict(store: StateStore) -> None:
    """Also where another one has its id now: a version belongs to one life of a queue."""
    first = await create(store, "wf-a")
    await store.delete("wf-a")
    queue, entry = changed(first.queue, state=QueueState.RUNNING)
    with pytest.raises(Conflict):
        await store.replace(queue, version=first.version, entry=entry)
    again = await create(store, "wf-a")
    with pytest.raises(Conflict):
        await store.replace(queue, version=first.version, entry=entry)
    assert await store.get("wf-a") == again


async def test_of_many_replacements_of_one_version_exactly_one_wins(store: StateStore) -> None:
    """Whatever order they arrive in, and the stored queue is the winner's."""
    record = await create(store, "wf-a")
    for _ in range(5):
        results = await asyncio.gather(
            *(change(store, record, records_written=record.queue.revision * 100 + n) for n in range(1, 21)),
            return_exceptions=True,
        )
        (winner,) = [result for result in results if isinstance(result, Record)]
        assert sum(isinstance(result, Conflict) for result in results) == 19
        assert await store.get("wf-a") == winner
        record = winner


async def test_a_lost_conflict_does_not_concern_writes_beside_it(store: StateStore) -> None:
    """Each write has its own outcome."""
    records = [await create(store, f"wf-{n}") for n in range(20)]
    stale = [record if n % 2 else Record(record.queue, "0") for n, record in enumerate(records)]
    results = await asyncio.gather(
        *(change(store, record, state=QueueState.RUNNING) for record in stale), return_exceptions=True
    )
    assert [isinstance(result, Record) for result in results] == [bool(n % 2) for n in range(20)]
    for n in range(20):
        record = await store.get(f"wf-{n}")
        assert record is not None
        assert record.queue.status.state == (QueueState.RUNNING if n % 2 else QueueState.PENDING)


async def test_increments_under_contention_are_all_counted(store: StateStore) -> None:
    """Read, change, replace, and again after a Conflict: no update is lost."""
    await create(store, "wf-a")

    async def add_ten() -> None:
        for _ in range(10):
            while True:
                record = await store.get("wf-a")
                assert record is not None
                try:
                    await change(store, record, records_written=record.queue.jobs[0].status.records_written + 1)
                    break
                except Conflict:
                    continue

    await asyncio.gather(*(add_ten() for _ in range(5)))
    record = await store.get("wf-a")
    assert record is not None
    assert record.queue.jobs[0].status.records_written == 50
    assert record.queue.revision == 51


async def test_a_read_is_not_overtaken_by_a_write_whose_caller_gave_up(store: StateStore) -> None:
    """What is read after a cancelled write stays the truth until the next write."""
    record = await create(store, "wf-a")
    for turns in range(12):
        task = asyncio.create_task(change(store, record, records_written=turns + 1))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        read = await store.get("wf-a")
        assert read is not None
        record = await change(store, read, records_written=100 + turns)  # raises Conflict if it was not the truth


# --- list -------------------------------------------------------------------------------------------------------------

TIMES = (1000.0, 1000.5, 1001.0, 1002.0)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
TARGETS = ("loader-producer", "arango-connector", "visualizer")
KEYS = ("team", "env")
VALUES = ("a", "b", "")


@st.composite
def queues(draw: st.DrawFn) -> list[Queue]:
    """Up to 30 queues, many of which share times and values."""
    found = []
    for number in range(draw(st.integers(0, 30))):
        queue, _ = new_queue(
            f"wf-{draw(st.sampled_from('abé'))}-{number}",
            create_time=draw(st.sampled_from(TIMES)),
            symbol=draw(st.sampled_from(SYMBOLS)),
            labels=draw(st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))),
            targets=draw(st.lists(st.sampled_from(TARGETS), min_size=1, max_size=4)),
            state=draw(st.sampled_from(QueueState)),
        )
        found.append(queue)
    return found


filters = st.builds(
    QueueFilter,
    states=st.frozensets(st.sampled_from(QueueState)),
    symbol=st.sampled_from(("", *SYMBOLS, "XRPUSDT")),
    target=st.sampled_from(("", *TARGETS, "none-such")),
    labels=st.dictionaries(st.sampled_from((*KEYS, "none")), st.none() | st.sampled_from(VALUES)),
    created_after=st.none() | st.sampled_from(TIMES),
    created_before=st.none() | st.sampled_from(TIMES),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=queues(), queries=st.lists(filters, min_size=1, max_size=12), limit=st.integers(1, 7))
def test_list_pages_through_exactly_what_matches_newest_first(
    opener: Opener, stored: list[Queue], queries: list[QueueFilter], limit: int
) -> None:
    """Every filter, page by page, against a filter by hand."""

    async def run() -> None:
        async with opener() as store:
            _, entry = new_queue("entry")
            await asyncio.gather(*(store.create(queue, entry) for queue in stored))
            for query in queries:
                matching = [queue for queue in stored if matches(queue, query)]
                matching.sort(key=lambda queue: (queue.spec.create_time, queue.queue_id), reverse=True)
                found: list[Queue] = []
                after = None
                while page := await store.list(query, after=after, limit=limit):
                    assert len(page) <= limit
                    found += page
                    after = Cursor(page[-1].spec.create_time, page[-1].queue_id)
                assert found == matching

    asyncio.run(run())


async def test_pages_neither_repeat_nor_skip_while_queues_come_and_go(store: StateStore) -> None:
    """A cursor is a place, not a count: newer queues stay before it, and its own queue may be deleted."""
    for number in range(10):
        await create(store, f"wf-{number}", create_time=1000.0 + number)
    page = await store.list(QueueFilter(), after=None, limit=4)
    last = page[-1]
    await create(store, "wf-new", create_time=2000.0)
    await store.delete(last.queue_id)
    rest = await store.list(QueueFilter(), after=Cursor(last.spec.create_time, last.queue_id), limit=100)
    assert [queue.queue_id for queue in rest] == [f"wf-{number}" for number in range(5, -1, -1)]


# --- unsettled, ended_before ------------------------------------------------------------------------------------------


async def test_unsettled_pages_through_ids_in_order_and_leaves_settled_ones_out(store: StateStore) -> None:
    """Ended is not settled."""
    for number in range(25):
        await create(store, f"wf-{number:02}", settled=number % 3 == 0, state=QueueState.FINISHED, end_time=1.0)
    found: list[str] = []
    after = ""
    while page := await store.unsettled(after=after, limit=4):
        assert len(page) <= 4
        for record in page:
            assert record == await store.get(record.queue.queue_id), (
                "it is the newest, with the version to replace it by"
            )
        found += [record.queue.queue_id for record in page]
        after = found[-1]
    assert found == [f"wf-{number:02}" for number in range(25) if number % 3]


async def test_a_queue_that_settles_leaves_unsettled(store: StateStore) -> None:
    """And one that is retried comes back."""
    record = await create(store, "wf-a")
    record = await change(store, record, state=QueueState.FINISHED, end_time=5.0, settled=True)
    assert list(await store.unsettled(after="", limit=9)) == []
    assert list(await store.ended_before(6.0, limit=9)) == ["wf-a"]
    await change(store, record, state=QueueState.RUNNING, settled=False)
    assert [record.queue.queue_id for record in await store.unsettled(after="", limit=9)] == ["wf-a"]
    assert list(await store.ended_before(6.0, limit=9)) == []


async def test_ended_before_gives_settled_queues_that_ended_earlier_oldest_first(store: StateStore) -> None:
    """The bound is exclusive; what has not ended, or is not settled, is not among them."""
    await create(store, "wf-late", end_time=30.0, settled=True, state=QueueState.FINISHED)
    await create(store, "wf-early", end_time=10.0, settled=True, state=QueueState.FAILED)
    await create(store, "wf-middle", end_time=20.0, settled=True, state=QueueState.STOPPED)
    await create(store, "wf-unsettled", end_time=10.0, state=QueueState.FINISHED)
    await create(store, "wf-running", state=QueueState.RUNNING)
    assert list(await store.ended_before(30.0, limit=9)) == ["wf-early", "wf-middle"]
    assert list(await store.ended_before(30.1, limit=2)) == ["wf-early", "wf-middle"]
    assert list(await store.ended_before(30.1, limit=9)) == ["wf-early", "wf-middle", "wf-late"]


# --- history ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [3, 20, 60])
async def test_history_replays_the_queue_as_it_was_at_each_kept_revision(opener: Opener, changes: int) -> None:
    """All, or where older ones have been dropped the newest, of which the first has the statuses of all jobs."""
    keep = 16
    async with opener(keep=keep) as store:
        record = await create(store, "wf-a", targets=("a", "b", "c"))
        await create(store, "wf-b")
        past = {1: record.queue}
        for number in range(changes):
            record = await change(store, record, records_written=number + 1)  # in no entry of its own
            state = (JobState.RUNNING, JobState.PENDING)[number // 3 % 2]
            record = await change(store, record, job=number % 3, job_state=state)
            past[record.queue.revision] = record.queue
        entries = await store.history("wf-a")
        assert min(changes + 1, keep) <= len(entries) <= keep * 1.25
        assert [entry.revision for entry in entries] == sorted(past)[-len(entries) :]
        assert set(entries[0].jobs) == {job.name for job in record.queue.jobs}
        for queue, event in replay(record.queue, entries):
            was = past[event.revision]
            assert (queue.revision, queue.status, queue.jobs) == (was.revision, was.status, was.jobs)
        assert len(await store.history("wf-b")) == 1


async def test_history_keeps_every_entry_whose_event_is_not_out(opener: Opener) -> None:
    """It is the outbox: while the bus is away it grows, and it is cut again once the events are out."""
    keep = 16
    async with opener(keep=keep) as store:
        record = await create(store, "wf-a", targets=("a", "b", "c"))

        async def toggle(number: int, *, published: bool) -> Record:
            state = (JobState.RUNNING, JobState.PENDING)[number // 3 % 2]
            return await change(store, record, job=number % 3, job_state=state, published=published)

        for number in range(10):
            record = await toggle(number, published=True)
        for number in range(10, 70):
            record = await toggle(number, published=False)
            revisions = [entry.revision for entry in await store.history("wf-a")]
            assert revisions[0] <= record.queue.published_revision + 1
            assert revisions == list(range(revisions[0], record.queue.revision + 1))
        record = await toggle(70, published=True)
        entries = await store.history("wf-a")
        assert keep <= len(entries) <= keep * 1.25
        (*_, (newest, _)) = replay(record.queue, entries)
        assert newest.jobs == record.queue.jobs


# --- delete, check ----------------------------------------------------------------------------------------------------


async def test_delete_removes_the_queue_everywhere(store: StateStore) -> None:
    """From lists, history and request ids, and nothing else with it."""
    fields = {"labels": {"k": "v"}, "targets": ("x", "x"), "settled": True, "end_time": 1.0}
    await create(store, "wf-a", request_id="r", **fields)
    other = await create(store, "wf-b", **fields)
    await store.delete("wf-a")
    assert await store.get("wf-a") is None
    assert await store.get_by_request_id("r") is None
    assert list(await store.history("wf-a")) == []
    assert list(await store.ended_before(9.0, limit=9)) == ["wf-b"]
    for query in (
        QueueFilter(),
        QueueFilter(target="x"),
        QueueFilter(labels={"k": "v"}),
        QueueFilter(symbol="BTCUSDT"),
    ):
        assert await store.list(query, after=None, limit=9) == [other.queue]
    again = await create(store, "wf-a", request_id="r", **fields)
    assert again.queue.queue_id == "wf-a"
    assert len(await store.history("wf-a")) == 1


async def test_delete_of_a_queue_that_is_gone_does_nothing(store: StateStore) -> None:
    """So it can be repeated."""
    await store.delete("wf-a")
    await create(store, "wf-a")
    await asyncio.gather(*(store.delete("wf-a") for _ in range(3)))
    assert await store.get("wf-a") is None


async def test_check_of_a_store_in_order_says_nothing(store: StateStore) -> None:
    """It raises only where the store is out of reach."""
    await store.check()
