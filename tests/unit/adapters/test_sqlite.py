"""What only the SQLite store promises: one fsync for many writes, listings by index, durability."""

# ruff: noqa: ASYNC220, ASYNC240  # tests may block their own loop

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as with_fields

from queue_manager.server.adapters.sqlite import SqliteStore, StateFileError, query, writer
from queue_manager.server.adapters.sqlite.documents import encode
from queue_manager.server.adapters.sqlite.files import FILE_NAME, LOCK_NAME
from queue_manager.server.adapters.sqlite.schema import open_reader, open_writer
from queue_manager.server.adapters.sqlite.writes import Create
from queue_manager.server.application.ports import Cursor, QueueFilter, Record
from queue_manager.server.domain.errors import QueueManagerError, Unavailable
from queue_manager.server.domain.model import QueueState
from tests.support.observed import Observed
from tests.support.stored_queues import change, create, new_queue

# --- group commit -----------------------------------------------------------------------------------------------------


async def test_concurrent_writes_share_a_commit(tmp_path: Path) -> None:
    """200 creates that wait together cost a few transactions."""
    observed = Observed()
    async with SqliteStore(tmp_path, observe=observed) as store:
        await asyncio.gather(*(create(store, f"wf-{n}") for n in range(200)))
        assert observed.count["create", True] == 200
        assert observed.count["commit", True] <= 3
        assert len(await store.list(QueueFilter(), after=None, limit=500)) == 200


async def test_where_many_write_a_batch_waits_until_it_is_about_as_large_as_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or until its time is over."""
    monkeypatch.setattr(writer, "GATHERING", 60.0)
    observed = Observed()

    def some(first: int, count: int) -> list[asyncio.Task[Record]]:
        return [asyncio.create_task(create(store, f"wf-{n}")) for n in range(first, first + count)]

    async with asyncio.timeout(20), SqliteStore(tmp_path, observe=observed) as store:
        await asyncio.gather(*some(0, 8))
        early = some(8, 5)
        for _ in range(20):
            assert await store.get("wf-8") is None
        await asyncio.gather(*early, *some(13, 1))
        assert observed.count["commit", True] == 2
        monkeypatch.setattr(writer, "GATHERING", 0.05)
        await asyncio.gather(*some(14, 1))
        assert observed.count["commit", True] == 3


async def test_a_write_that_is_alone_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, they are as fast as the disk."""
    monkeypatch.setattr(writer, "GATHERING", 60.0)
    async with asyncio.timeout(10), SqliteStore(tmp_path) as store:
        record = await create(store, "wf-a")
        for number in range(10):
            record = await change(store, record, records_written=number + 1)


async def test_those_who_write_again_and_again_do_not_wait_for_one_who_came_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch need not be quite as large as the last one."""
    monkeypatch.setattr(writer, "GATHERING", 4.0)

    async def again_and_again(number: int) -> None:
        for turn in range(20):
            await create(store, f"wf-{number}-{turn}")
            if number == 0 and turn % 3 == 0:
                passing.append(asyncio.create_task(create(store, f"wf-passing-{turn}")))

    passing: list[asyncio.Task[Record]] = []
    async with asyncio.timeout(12), SqliteStore(tmp_path) as store:
        await asyncio.gather(*(again_and_again(number) for number in range(8)))
        monkeypatch.setattr(writer, "GATHERING", 0.0)
        await asyncio.gather(*passing)


async def test_a_write_that_can_never_succeed_fails_alone(tmp_path: Path) -> None:
    """Its batch is undone and then done without it."""
    async with SqliteStore(tmp_path) as store:
        record = await create(store, "wf-bad")
        clash = store.replace(record.queue, version=record.version, entry=new_queue("wf-bad")[1])  # revision 1 again
        results = await asyncio.gather(
            *(create(store, f"wf-{n}") for n in range(10)),
            clash,
            *(create(store, f"wf-{n}") for n in range(10, 20)),
            return_exceptions=True,
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        assert [type(error) for error in failed] == [QueueManagerError]
        assert isinstance(failed[0].__cause__, sqlite3.IntegrityError)
        assert len(await store.list(QueueFilter(), after=None, limit=50)) == 21
        await store.check()


async def test_the_event_loop_is_free_while_the_disk_is_busy(tmp_path: Path) -> None:
    """A write waits for another program's lock; a read and the loop do not."""
    async with SqliteStore(tmp_path) as store:
        await create(store, "wf-a")
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(create(store, "wf-b"))
        for _ in range(20):
            assert await store.get("wf-a") is not None
        assert not waiting.done()
        other.execute("ROLLBACK")
        other.close()
        await waiting


async def test_a_full_write_queue_is_unavailable_at_once(tmp_path: Path) -> None:
    """Bounded in number and in bytes; what is in it goes through."""
    async with SqliteStore(tmp_path / "number", max_pending=10) as store:
        results = await asyncio.gather(*(create(store, f"wf-{n}") for n in range(15)), return_exceptions=True)
        refused = [result for result in results if isinstance(result, Unavailable)]
        assert len(refused) == 5
        assert refused[0].retry_after
        assert "10 writes waiting" in refused[0].message
        assert len(await store.list(QueueFilter(), after=None, limit=50)) == 10
    size = Create(*new_queue("wf-0")).size
    async with SqliteStore(tmp_path / "bytes", max_pending_bytes=4 * size) as store:
        results = await asyncio.gather(*(create(store, f"wf-{n}") for n in range(9)), return_exceptions=True)
        assert sum(isinstance(result, Unavailable) for result in results) == 5
        large, entry = new_queue("wf-large", labels={"k": "v" * 10_000})
        await store.create(large, entry)  # larger than the bound, but nothing else waits


async def test_a_disk_that_hangs_is_unavailable_after_the_timeout(tmp_path: Path) -> None:
    """Every call is bounded in time."""
    async with SqliteStore(tmp_path, timeout=0.05) as store:
        other = sqlite3.connect(store.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="not answered"):
            await create(store, "wf-a")
        with pytest.raises(Unavailable):
            await store.check()
        other.execute("ROLLBACK")
        other.close()


async def test_close_finishes_what_waits_and_later_calls_are_unavailable(tmp_path: Path) -> None:
    """Everything is in the one file afterwards."""
    store = SqliteStore(tmp_path)
    await store.open()
    writes = [asyncio.create_task(create(store, f"wf-{n}")) for n in range(50)]
    await asyncio.sleep(0)  # they have begun
    await store.close()
    assert len(await asyncio.gather(*writes)) == 50
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK_NAME, FILE_NAME]
    for call in (store.get("wf-0"), store.delete("wf-0"), store.check()):
        with pytest.raises(Unavailable):
            await call
    await store.close()
    async with SqliteStore(tmp_path) as again:
        assert len(await again.list(QueueFilter(), after=None, limit=500)) == 50


async def test_threads_end_with_the_store(tmp_path: Path) -> None:
    """None is left behind."""
    async with SqliteStore(tmp_path) as store:
        await create(store, "wf-a")
        await store.get("wf-a")
        assert any(thread.name.startswith("store-") for thread in threading.enumerate())
    assert not any(thread.name.startswith("store-") for thread in threading.enumerate())


async def test_outcomes_are_observed(tmp_path: Path) -> None:
    """A conflict is an answer, a store out of reach is none."""
    observed = Observed()
    async with SqliteStore(tmp_path, observe=observed) as store:
        record = await create(store, "wf-a")
        results = await asyncio.gather(create(store, "wf-a"), change(store, record), return_exceptions=True)
        assert len(results) == 2
        await store.history("wf-a")
    assert observed.count["create", True] == 2
    assert observed.count["replace", True] == 1
    assert observed.count["history", True] == 1


# --- listings by index ------------------------------------------------------------------------------------------------

COMMON = {
    "all": QueueFilter(),
    "one state": QueueFilter(states=frozenset({QueueState.RUNNING})),
    "several states": QueueFilter(states=frozenset({QueueState.RUNNING, QueueState.PENDING, QueueState.STOPPING})),
    "symbol": QueueFilter(symbol="BTCUSDT"),
    "symbol and states": QueueFilter(symbol="BTCUSDT", states=frozenset({QueueState.FAILED, QueueState.FINISHED})),
    "target": QueueFilter(target="visualizer"),
    "label": QueueFilter(labels={"team": "a"}),
    "any value of a label": QueueFilter(labels={"team": None}),
    "everything": QueueFilter(
        states=frozenset({QueueState.RUNNING, QueueState.FAILED}),
        symbol="BTCUSDT",
        target="visualizer",
        labels={"team": "a", "env": None},
        created_after=1.0,
        created_before=9.0,
    ),
}
CURSOR = Cursor(5.0, "wf-5")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    """A state file to ask for plans."""
    connection = open_writer(tmp_path_factory.mktemp("plans") / FILE_NAME)
    yield connection
    connection.close()


def assert_by_index(connection: sqlite3.Connection, sql: str, parameters: tuple[object, ...]) -> None:
    """Fail where the plan of a statement reads a whole table or index, or sorts."""
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", parameters)]
    for step in plan:
        assert "TEMP B-TREE" not in step, (sql, plan)
        unbounded = step.startswith("SCAN") and "queues_by_time" not in step and "SCAN (subquery" not in step
        assert not unbounded, (sql, plan)


@pytest.mark.parametrize("after", [None, CURSOR], ids=["first page", "next page"])
@pytest.mark.parametrize("name", COMMON)
def test_a_listing_seeks_and_never_sorts(empty: sqlite3.Connection, name: str, after: Cursor | None) -> None:
    """Whichever term drives it. All queues are walked by time from the newest on, which is their order already."""
    for driver in query.drivers(COMMON[name]):
        for sql, parameters in query.statements(COMMON[name], after, 50, driver):
            assert_by_index(empty, sql, parameters)
    for sql, parameters in query.probes(COMMON[name]):
        assert_by_index(empty, sql, parameters)


@settings(deadline=None, max_examples=60)
@given(
    query_filter=st.builds(
        QueueFilter,
        states=st.frozensets(st.sampled_from(QueueState)),
        symbol=st.sampled_from(("", "BTCUSDT")),
        target=st.sampled_from(("", "visualizer")),
        labels=st.dictionaries(st.sampled_from("abcdefghijklmnop"), st.none() | st.just("v")),
        created_after=st.none() | st.just(1.0),
        created_before=st.none() | st.just(9.0),
    ),
    after=st.none() | st.just(CURSOR),
)
def test_any_combination_seeks_and_never_sorts(
    empty: sqlite3.Connection, query_filter: QueueFilter, after: Cursor | None
) -> None:
    """Up to 16 labels with everything else."""
    for driver in query.drivers(query_filter):
        for sql, parameters in query.statements(query_filter, after, 50, driver):
            assert_by_index(empty, sql, parameters)


def test_sweeps_seek_and_never_sort(empty: sqlite3.Connection) -> None:
    """`unsettled` and `ended_before`."""
    assert_by_index(empty, query.UNSETTLED, ("wf-a", 100))
    assert_by_index(empty, query.ENDED, (1.0, 100))


def test_a_page_costs_the_same_however_many_queues_there_are(tmp_path: Path) -> None:
    """Counted in steps of SQLite's virtual machine, with 30 times the queues; also where only one term is rare."""
    writer = open_writer(tmp_path / FILE_NAME)
    reader = open_reader(tmp_path / FILE_NAME)

    def add(first: int, end: int) -> None:
        writer.execute("BEGIN")
        for number in range(first, end):
            rare = number % 1500 == 0
            queue, entry = new_queue(
                f"wf-{number:06}",
                create_time=float(number),
                symbol="BTCUSDT",
                targets=("loader-producer", "rare") if rare else ("loader-producer",),
                labels={"team": "a", "env": "rare" if rare else "common"},
                state=QueueState.RUNNING if rare else QueueState.FINISHED,
            )
            Create(queue, entry).apply(writer)
        writer.execute("COMMIT")

    def steps(query_filter: QueueFilter, after: Cursor | None) -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        reader.set_progress_handler(count, 10)
        query.run(reader, query_filter, after, 20)
        reader.set_progress_handler(None, 0)
        return counted

    filters = [
        QueueFilter(),
        QueueFilter(states=frozenset({QueueState.FINISHED})),
        QueueFilter(states=frozenset({QueueState.FINISHED, QueueState.RUNNING})),
        QueueFilter(symbol="BTCUSDT"),
        QueueFilter(target="loader-producer"),
        QueueFilter(labels={"team": "a"}),
        QueueFilter(labels={"team": "a"}, states=frozenset({QueueState.RUNNING})),
        QueueFilter(labels={"team": "a"}, target="rare"),
        QueueFilter(labels={"team": "a", "env": "rare"}, symbol="BTCUSDT", target="loader-producer"),
        QueueFilter(symbol="BTCUSDT", states=frozenset({QueueState.STOPPED, QueueState.RUNNING})),
    ]
    add(0, 200)
    few = [steps(query_filter, Cursor(100.0, "wf-000100")) for query_filter in filters]
    add(200, 6000)
    many = [steps(query_filter, Cursor(5000.0, "wf-005000")) for query_filter in filters]
    writer.close()
    reader.close()
    probing = 10 * query.PROBE_LIMIT  # a few steps for each of the entries counted, in tens, for a few terms
    for index, query_filter in enumerate(filters):
        assert many[index] <= few[index] * 2 + (probing if len(query.drivers(query_filter)) > 1 else 60), query_filter


async def test_history_stays_bounded_in_the_file(tmp_path: Path) -> None:
    """The count that decides when to compact is that of the rows."""
    async with SqliteStore(tmp_path, keep=8) as store:
        record = await create(store, "wf-a")
        for number in range(57):
            record = await change(store, record, job=0, job_state=("RUNNING", "PENDING")[number % 2])
    connection = open_reader(tmp_path / FILE_NAME)
    (rows,) = connection.execute("SELECT count(*) FROM history").fetchone()
    (entries,) = connection.execute("SELECT entries FROM queues").fetchone()
    connection.close()
    assert 8 <= rows == entries <= 10


# --- durability -------------------------------------------------------------------------------------------------------


async def test_everything_acknowledged_survives_sigkill(tmp_path: Path) -> None:
    """Killed in the midst of concurrent creates and replacements."""
    code = f"""
        import asyncio
        from pathlib import Path
        from queue_manager.server.adapters.sqlite import SqliteStore
        from tests.support.stored_queues import change, create
        async def work(store, worker):
            for n in range(100_000):
                record = await create(store, f"wf-{{worker}}-{{n}}")
                print(record.queue.queue_id, 1, flush=True)
                record = await change(store, record, job=0)
                print(record.queue.queue_id, 2, flush=True)
        async def run():
            store = SqliteStore(Path({str(tmp_path)!r}))
            await store.open()
            await asyncio.gather(*(work(store, worker) for worker in range(16)))
        asyncio.run(run())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        lines = list(islice(process.stdout, 2000))
    finally:
        process.kill()
        rest, _ = process.communicate()
    lines += [line for line in rest.splitlines() if line.endswith((" 1", " 2"))]
    acknowledged: dict[str, int] = {}
    for line in lines:
        acknowledged[line.split()[0]] = int(line.split()[1])
    assert len(lines) >= 2000
    async with SqliteStore(tmp_path) as store:
        for queue_id, revision in acknowledged.items():
            record = await store.get(queue_id)
            assert record is not None
            assert record.queue.revision >= revision
            assert len(await store.history(queue_id)) == record.queue.revision


def test_writes_are_synced_before_they_are_acknowledged(tmp_path: Path) -> None:
    """A killed process proves nothing about power cuts; this setting does (sqlite.org, "PRAGMA synchronous")."""
    connection = open_writer(tmp_path / FILE_NAME)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA fullfsync").fetchone() == (1,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All or nothing, also for the first one."""
    schema = "queue_manager.server.adapters.sqlite.schema"
    monkeypatch.setattr(f"{schema}.MIGRATIONS", (("CREATE TABLE t (x)", "no such statement"),))
    with pytest.raises(StateFileError):
        open_writer(tmp_path / FILE_NAME)
    monkeypatch.undo()
    connection = open_writer(tmp_path / FILE_NAME)
    assert connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 't'").fetchone() == (0,)
    connection.close()


def test_documents_are_json_for_people_with_a_shell() -> None:
    """And without the fields that have their defaults."""
    queue, _ = new_queue("wf-a")
    body = encode(with_fields(queue, revision=0))
    assert body.startswith(b'{"spec":{"queue_id":"wf-a"')
    assert b"labels" not in body
