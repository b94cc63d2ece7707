"""Files that the SQLite store does not trust are refused and left as they are; a data directory has one server."""

# ruff: noqa: ASYNC220, ASYNC240  # tests may block their own loop

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from queue_manager.server.adapters.sqlite import DataDirInUseError, SqliteStore, StateFileError
from queue_manager.server.adapters.sqlite.files import FILE_NAME, LOCK_NAME
from queue_manager.server.adapters.sqlite.schema import VERSION
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.errors import Unavailable
from tests.support.observed import Observed
from tests.support.stored_queues import create

# --- files that cannot be trusted -------------------------------------------------------------------------------------


async def filled(folder: Path) -> Path:
    """A state file with some queues, cleanly closed."""
    async with SqliteStore(folder) as store:
        await asyncio.gather(*(create(store, f"wf-{n}", labels={"k": "v" * 500}) for n in range(100)))
    return folder / FILE_NAME


def snapshot(folder: Path) -> dict[str, bytes]:
    """What is in the files that must not be touched."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(("-shm", LOCK_NAME))}


async def refused(folder: Path, match: str) -> None:
    """The store does not open, says why and what to do, changes nothing, and lets go of the directory."""
    before = snapshot(folder)
    for _ in range(2):
        with pytest.raises(StateFileError, match=match) as caught:
            await SqliteStore(folder).open()
        assert str(folder) in caught.value.message
        assert ";" in caught.value.message
        assert "Traceback" not in caught.value.message
    assert snapshot(folder) == before


@pytest.mark.parametrize("size", [10, 50, 100, 4096, 4097, 30_000, -4096, -1])
async def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    """Wherever it was cut."""
    path = await filled(tmp_path)
    os.truncate(path, size if size > 0 else path.stat().st_size + size)
    await refused(tmp_path, "damaged|not a SQLite file")


@pytest.mark.parametrize("garbage", [b"hello", b"\x00" * 8192, b"SQLite format 3\x00" + b"\xff" * 8000])
async def test_a_file_of_something_else_is_refused(tmp_path: Path, garbage: bytes) -> None:
    """With the right beginning too."""
    (tmp_path / FILE_NAME).write_bytes(garbage)
    await refused(tmp_path, "damaged|not a SQLite file")


async def test_a_file_with_an_overwritten_page_is_refused(tmp_path: Path) -> None:
    """Header and length are right."""
    path = await filled(tmp_path)
    with path.open("r+b") as stream:
        stream.seek(3 * 4096)
        stream.write(os.urandom(4096))
    await refused(tmp_path, "damaged")


def killed_after_writing(folder: Path) -> None:
    """Leave a state file with a log that has not been brought into it, as a killed process does."""
    code = f"""
        import asyncio, os
        from pathlib import Path
        from queue_manager.server.adapters.sqlite import SqliteStore
        from tests.support.stored_queues import create
        async def run():
            store = SqliteStore(Path({str(folder)!r}))
            await store.open()
            for n in range(20):
                await create(store, f"wf-{{n}}")
            os._exit(0)
        asyncio.run(run())
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=60)
    assert (folder / f"{FILE_NAME}-wal").stat().st_size > 0


@pytest.mark.parametrize("damage", ["garbage", "empty", "missing"])
async def test_a_good_log_beside_a_bad_file_is_refused_and_kept(tmp_path: Path, damage: str) -> None:
    """SQLite by itself would throw the log away."""
    killed_after_writing(tmp_path)
    path = tmp_path / FILE_NAME
    if damage == "garbage":
        path.write_bytes(os.urandom(path.stat().st_size))
    elif damage == "empty":
        os.truncate(path, 0)
    else:
        path.unlink()
    await refused(tmp_path, {"garbage": "not a SQLite file", "empty": "is empty", "missing": "is missing"}[damage])


async def test_an_unclean_shutdown_is_recovered(tmp_path: Path) -> None:
    """A good log and a good file are just read."""
    killed_after_writing(tmp_path)
    async with SqliteStore(tmp_path) as store:
        assert len(await store.list(QueueFilter(), after=None, limit=50)) == 20


async def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    """A crash at the first start leaves it; it can hold nothing."""
    (tmp_path / FILE_NAME).touch()
    async with SqliteStore(tmp_path) as store:
        await create(store, "wf-a")


async def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    """An older release would not know what it drops."""
    path = await filled(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    await refused(tmp_path, "newer release")


async def test_another_programs_file_is_refused(tmp_path: Path) -> None:
    """It is a good SQLite file, but not ours."""
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    await refused(tmp_path, "some other program")


async def test_a_directory_in_the_files_place_is_refused(tmp_path: Path) -> None:
    """Without a traceback."""
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StateFileError, match="cannot be read"):
        await SqliteStore(tmp_path).open()


@pytest.mark.parametrize("place", ["file/data", "file"])
async def test_a_data_dir_that_cannot_be_made_is_refused(tmp_path: Path, place: str) -> None:
    """The message says which and names the variable."""
    (tmp_path / "file").touch()
    with pytest.raises(StateFileError, match="QM_DATA_DIR"):
        await SqliteStore(tmp_path / place).open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
async def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    """And a read-only directory."""
    path = await filled(tmp_path)
    path.chmod(0o444)
    await refused(tmp_path, "writable")
    path.chmod(0o644)
    tmp_path.chmod(0o555)
    try:
        await refused(tmp_path, "writable|can write")
    finally:
        tmp_path.chmod(0o755)


async def test_a_path_with_odd_characters_works(tmp_path: Path) -> None:
    """Readers name the file by URI."""
    async with SqliteStore(tmp_path / "a b?mode=memory#%41é") as store:
        await create(store, "wf-a")
        assert await store.get("wf-a") is not None


async def test_a_document_that_cannot_be_read_names_the_file(tmp_path: Path) -> None:
    """Damage within a page is found when it is met, and concerns only what met it."""
    await filled(tmp_path)
    connection = sqlite3.connect(tmp_path / FILE_NAME)
    connection.execute("UPDATE queues SET body = '{' WHERE queue_id = 'wf-5'")
    connection.commit()
    connection.close()
    async with SqliteStore(tmp_path) as store:
        with pytest.raises(StateFileError, match="cannot be read"):
            await store.get("wf-5")
        assert await store.get("wf-6") is not None


async def test_a_file_that_is_replaced_under_the_server_takes_no_more_writes(tmp_path: Path) -> None:
    """They would be acknowledged into a file that nobody finds again."""
    async with SqliteStore(tmp_path) as store:
        await create(store, "wf-a")
        shutil.move(store.path, tmp_path / "moved")
        with pytest.raises(Unavailable, match="moved"):
            await create(store, "wf-b")
        with pytest.raises(Unavailable):
            await store.check()
        shutil.move(tmp_path / "moved", store.path)
        await store.check()
        await create(store, "wf-b")


async def test_a_full_disk_is_unavailable_until_there_is_room(tmp_path: Path) -> None:
    """Nothing of a write that failed is there; the store goes on by itself."""
    observed = Observed()
    async with SqliteStore(tmp_path, observe=observed) as store:
        record = await create(store, "wf-a")
        writer = store._writer
        assert writer is not None
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        large = {"k": "v" * 100_000}
        results = await asyncio.gather(
            *(create(store, f"wf-{n}", labels=large) for n in range(5)), return_exceptions=True
        )
        assert {type(result) for result in results} == {Unavailable}
        assert all("disk is full" in str(result) for result in results)
        assert all(
            isinstance(error.__cause__, sqlite3.OperationalError) for error in results if isinstance(error, Exception)
        )
        assert len({id(result) for result in results}) == 5
        assert (await store.get("wf-0"), writer.failing) == (None, True)
        assert await store.get("wf-a") == record
        writer._connection.execute("PRAGMA max_page_count = 1000000")
        await store.check()
        assert writer.failing is False
        await create(store, "wf-0", labels=large)
    assert observed.count["create", False] == 5


# --- one server -------------------------------------------------------------------------------------------------------


async def test_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    """And the first one goes on."""
    async with SqliteStore(tmp_path) as store:
        with pytest.raises(DataDirInUseError, match=f"process {os.getpid()}"):
            await SqliteStore(tmp_path).open()
        await create(store, "wf-a")


async def test_a_data_dir_of_another_process_is_refused_until_that_is_killed(tmp_path: Path) -> None:
    """The message names the process and the remedy; SIGKILL leaves no stale lock."""
    code = f"""
        import asyncio
        from pathlib import Path
        from queue_manager.server.adapters.sqlite import SqliteStore
        async def run():
            async with SqliteStore(Path({str(tmp_path)!r})):
                print("open", flush=True)
                await asyncio.Event().wait()
        asyncio.run(run())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(DataDirInUseError) as caught:
            await SqliteStore(tmp_path).open()
        assert f"process {process.pid}" in caught.value.message
        assert "QM_DATA_DIR" in caught.value.message
    finally:
        process.kill()
        process.communicate()
    async with SqliteStore(tmp_path) as store:
        await store.check()
