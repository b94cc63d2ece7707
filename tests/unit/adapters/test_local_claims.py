"""One worker a name: never started twice, never taken for another."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from queue_manager.server.adapters.local import LocalRunner, LocalSettings
from queue_manager.server.adapters.local.identity import Process
from queue_manager.server.adapters.local.shim import process
from queue_manager.server.adapters.local.spawn import Order, spawn
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.observation import Phase, Refused
from tests.support.local_launches import order, spec_file
from tests.support.local_workers import (
    PATIENCE,
    directory,
    key,
    launched,
    local_runner,
    spec,
    status,
    until,
)

# --- never twice ------------------------------------------------------------------------------------------------------


async def test_two_servers_that_launch_the_same_name_start_one_worker(data_dir: Path, tmp_path: Path) -> None:
    """As when one is replaced by another, and both believe that it is theirs to do."""
    async with local_runner(data_dir) as one, local_runner(data_dir) as two:
        for number in range(5):
            launch = spec(f"w{number}", f"echo started >> {tmp_path}/{number}; exec sleep 300")
            answers = await asyncio.gather(one.launch(launch), two.launch(launch), return_exceptions=True)
            uids = {
                answer.ref.uid for answer in answers if not isinstance(answer, (BaseException, Refused)) and answer.ref
            }
            assert len(uids) == 1, answers
            await until(
                lambda file=tmp_path / f"{number}": file.exists() and bool(file.read_text())
            )  # the shell makes it first
        for number in range(5):
            assert (tmp_path / f"{number}").read_text() == "started\n"


async def test_a_late_shim_of_a_launch_that_was_deleted_starts_nothing(
    runner: LocalRunner, data_dir: Path, tmp_path: Path
) -> None:
    """The server died between making the directory ready and spawning; its shim comes after the deletion."""
    ticket = directory(data_dir).grant(spec_file())
    assert ticket is not None
    await runner.delete(key(), grace=5)
    pid, report = await asyncio.to_thread(
        spawn, sys.executable, directory(data_dir).path, order(ticket, "touch", f"{tmp_path}/ran"), timeout=PATIENCE
    )
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert report == "superseded"
    assert not (tmp_path / "ran").exists()
    assert (await status(runner)).phase is Phase.ENDED
    answer = await launched(runner, spec(script=f"touch {tmp_path}/ran"))
    assert (answer.phase, answer.exit_code) == (Phase.ENDED, None)
    assert not (tmp_path / "ran").exists()


async def test_a_worker_once_seen_absent_is_not_started_by_an_earlier_launch(
    runner: LocalRunner, data_dir: Path, tmp_path: Path
) -> None:
    """ABSENT is firm, which is why nothing has to settle; a new launch still may start it."""
    ticket = directory(data_dir).grant(spec_file())
    assert ticket is not None
    assert (await status(runner)).phase is Phase.ABSENT
    pid, report = await asyncio.to_thread(
        spawn, sys.executable, directory(data_dir).path, order(ticket, "touch", f"{tmp_path}/ran"), timeout=PATIENCE
    )
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert report == "superseded"
    assert not (tmp_path / "ran").exists()
    assert (await launched(runner, spec(spec_hash="hash-2"))).spec_hash == "hash-2"


async def test_a_shim_whose_order_is_cut_off_starts_nothing(data_dir: Path, tmp_path: Path) -> None:
    """The server died while it was writing."""
    whole = order("t", "touch", f"{tmp_path}/ran").encode()
    ticket = directory(data_dir).grant(spec_file())
    assert ticket is not None
    whole = whole.replace(b"t\0", ticket.encode() + b"\0", 1)

    class CutOff(Order):
        def encode(self) -> bytes:
            return whole[:-3]

    cut = CutOff(**{name: getattr(order("t", "true"), name) for name in Order.__slots__})
    pid, report = await asyncio.to_thread(spawn, sys.executable, directory(data_dir).path, cut, timeout=PATIENCE)
    await asyncio.to_thread(os.waitpid, pid, 0)
    assert report == ""
    assert directory(data_dir).inspect().phase is Phase.ABSENT


async def test_a_launch_that_its_shim_does_not_answer_is_unavailable_and_can_be_made_again(data_dir: Path) -> None:
    """Nothing is left of it that could start later."""
    async with local_runner(data_dir, settings=LocalSettings(python="/bin/false", poll_interval=0.01)) as broken:
        with pytest.raises(Unavailable):
            await broken.launch(spec())
    async with local_runner(data_dir) as runner:
        assert (await status(runner)).phase is Phase.ABSENT
        assert (await launched(runner, spec())).phase is Phase.RUNNING


async def test_a_call_that_is_cancelled_still_comes_to_its_result(runner: LocalRunner) -> None:
    """The next one joins it or finds it."""
    call = asyncio.create_task(runner.launch(spec()))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await status(runner)).phase is Phase.RUNNING


# --- never taken for another ------------------------------------------------------------------------------------------


async def test_a_process_that_has_only_the_workers_id_is_not_the_worker(runner: LocalRunner, data_dir: Path) -> None:
    """The id was used again; here by this very process, which would notice a signal."""
    directory(data_dir).grant(spec_file())
    mine = process.start_mark(os.getpid())
    (directory(data_dir).path / process.IDENTITY).write_text(
        f'{{"uid": "u", "pid": {os.getpid()}, "start": "{mine}0", "shim_pid": {os.getpid()}, '
        f'"shim_start": "another boot:1", "time": 1.5}}'
    )
    await runner.delete(key(), grace=0)
    seen = await status(runner)
    assert (seen.phase, seen.exit_code, seen.start_time) == (Phase.ENDED, None, 1.5)
    assert seen.ref is not None
    assert seen.ref.uid == "u"


async def test_no_signal_goes_to_a_process_that_started_at_another_time() -> None:
    """Neither to it nor to its group."""
    child = await asyncio.create_subprocess_exec("sleep", "300", start_new_session=True)
    try:
        mark = process.start_mark(child.pid)
        assert mark is not None
        other = Process(child.pid, mark + "0")
        assert not other.alive()
        assert not other.signal(signal.SIGKILL)
        assert not other.signal_group(signal.SIGKILL)
        assert child.returncode is None
        assert Process(child.pid, mark).signal(signal.SIGTERM)
        assert await child.wait() == -signal.SIGTERM
        assert not Process(child.pid, mark).signal(signal.SIGTERM)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
