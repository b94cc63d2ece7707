"""A local worker one of whose files is damaged: never started again, no other worker's business, and over in the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from queue_manager.server.adapters.local import LocalRunner
from queue_manager.server.adapters.local.shim import process
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.observation import Phase, WorkerStatus
from tests.support.local_launches import spec_file
from tests.support.local_workers import (
    directory,
    ended,
    key,
    launched,
    local_runner,
    shim_lives,
    shim_process,
    spec,
    status,
    until,
    worker_process,
)

DAMAGED = pytest.mark.parametrize("content", [b"", b'{"time": 17', b"\xff\x00"], ids=["empty", "cut off", "binary"])


@pytest.fixture(autouse=True)
def whole(data_dir: Path) -> Iterator[None]:
    """Damaged identities are whole again at the end, so that the workers can be ended."""
    yield
    for path in (data_dir / "workers").glob("*/whole"):
        path.rename(path.with_name(process.IDENTITY))


def damage(data_dir: Path, *files: str, content: bytes = b"") -> None:
    """Write something else into files of the worker `w`."""
    for name in files:
        path = directory(data_dir).path / name
        if name == process.IDENTITY and path.exists():
            path.rename(path.with_name("whole"))
        path.write_bytes(content)


async def ran(data_dir: Path) -> WorkerStatus:
    """A worker that has run and ended with 3, and whose shim and server are gone."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec(script=f"echo >> {data_dir}/runs; exit 3"))
        seen = await ended(runner)
        await until(lambda: not shim_lives(data_dir, "w"))
    return seen


# --- a damaged record of the end --------------------------------------------------------------------------------------


@DAMAGED
async def test_a_worker_whose_end_cannot_be_read_has_ended_nobody_knows_how(data_dir: Path, content: bytes) -> None:
    """Like one that vanished; a deletion has nothing to do, and a launch starts nothing."""
    before = await ran(data_dir)
    damage(data_dir, process.EXIT, content=content)
    async with local_runner(data_dir) as runner:
        await runner.delete(key(), grace=0)
        seen = await status(runner)
        assert (seen.phase, seen.exit_code, seen.ref) == (Phase.ENDED, None, before.ref)
        assert await runner.alive() == []
        assert (await launched(runner, spec())).phase is Phase.ENDED
    async with local_runner(data_dir) as another:
        assert (await status(another)).end_time == seen.end_time, "it is on record again"
    assert (data_dir / "runs").read_text() == "\n"


async def test_a_worker_that_runs_has_not_ended_whatever_a_damaged_record_says(data_dir: Path) -> None:
    """Its shim writes the record anew."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec())
    damage(data_dir, process.EXIT)
    async with local_runner(data_dir) as runner:
        assert (await status(runner)).phase is Phase.RUNNING
        assert await runner.alive() == [key()]
        await runner.delete(key(), grace=0)
        assert (await ended(runner)).exit_code == 137


async def orphaned(data_dir: Path) -> None:
    """A worker that runs, and whose shim was killed."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec())
        shim_process(data_dir).signal(signal.SIGKILL)
        await until(lambda: not shim_lives(data_dir, "w"))


async def test_a_worker_that_outlives_its_shim_has_not_ended_whatever_a_damaged_record_says(data_dir: Path) -> None:
    """It can be ended."""
    await orphaned(data_dir)
    damage(data_dir, process.EXIT)
    async with local_runner(data_dir) as runner:
        assert (await status(runner)).phase is Phase.RUNNING
        await runner.delete(key(), grace=0)
        assert (await ended(runner)).exit_code is None
    assert not worker_process(data_dir).alive()


@pytest.mark.parametrize("name", [process.EXIT, process.TOMBSTONE])
async def test_a_worker_that_never_started_and_is_over_stays_over(data_dir: Path, name: str) -> None:
    """A damaged tombstone is still one."""
    directory(data_dir).grant(spec_file())
    damage(data_dir, name)
    async with local_runner(data_dir) as runner:
        assert (await launched(runner, spec())).phase is Phase.ENDED
        await runner.delete(key(), grace=0)
        assert (await status(runner)).exit_code is None


# --- a damaged identity -----------------------------------------------------------------------------------------------


@DAMAGED
async def test_a_worker_whose_identity_cannot_be_read_has_ended_once_that_is_on_record(
    data_dir: Path, content: bytes
) -> None:
    """Its exit code counts. Which worker it was nobody can tell, so it is not mistaken for another one."""
    await ran(data_dir)
    damage(data_dir, process.IDENTITY, content=content)
    async with local_runner(data_dir) as runner:
        await runner.delete(key(), grace=0)
        seen = await status(runner)
        assert (seen.phase, seen.exit_code, seen.ref) == (Phase.ENDED, 3, None)
        assert (await launched(runner, spec())).phase is Phase.ENDED
    assert (data_dir / "runs").read_text() == "\n"


async def test_a_worker_of_which_nothing_can_be_read_has_ended_if_its_end_was_recorded(data_dir: Path) -> None:
    """A shim records it when nothing of the worker runs any more."""
    await ran(data_dir)
    damage(data_dir, process.IDENTITY, process.EXIT)
    async with local_runner(data_dir) as runner:
        await runner.delete(key(), grace=0)
        assert ((seen := await status(runner)).phase, seen.exit_code) == (Phase.ENDED, None)


@pytest.mark.parametrize("files", [[process.IDENTITY], [process.IDENTITY, process.EXIT]])
async def test_nothing_is_decided_on_a_damaged_identity_while_the_shim_lives(data_dir: Path, files: list[str]) -> None:
    """Nobody knows whom to end, and it is not forgotten. Once its shim has recorded its end, all is well."""
    async with local_runner(data_dir) as runner:
        await launched(runner, spec())
        await launched(runner, spec("other"))
    worker = worker_process(data_dir)
    damage(data_dir, *files)
    async with local_runner(data_dir) as runner:
        for call in (runner.observe([key()]), runner.delete(key(), grace=0), runner.forget([key()])):
            with pytest.raises(Unavailable, match="identity"):
                await call
        assert [one.name for one in await runner.alive()] == ["other"], "it hides no other worker"
        worker.signal(signal.SIGKILL)
        assert (await ended_at_last(runner)).exit_code == 137


async def ended_at_last(runner: LocalRunner) -> WorkerStatus:
    """Wait for the end of one that cannot be looked at before."""

    async def over() -> bool:
        try:
            return (await status(runner)).phase is Phase.ENDED
        except Unavailable:
            return False

    await until(over)
    return await status(runner)


async def test_an_orphan_whose_identity_cannot_be_read_may_still_run(data_dir: Path) -> None:
    """So it counts neither as ended nor as absent."""
    await orphaned(data_dir)
    damage(data_dir, process.IDENTITY)
    async with local_runner(data_dir) as runner:
        for call in (runner.observe([key()]), runner.delete(key(), grace=0), runner.launch(spec())):
            with pytest.raises(Unavailable, match="identity"):
                await call


# --- forgetting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [process.SPEC, process.IDENTITY, process.EXIT])
@DAMAGED
async def test_a_worker_whose_shim_is_gone_is_forgotten_whatever_its_files_say(
    data_dir: Path, name: str, content: bytes
) -> None:
    """Its job is over."""
    await ran(data_dir)
    damage(data_dir, name, content=content)
    async with local_runner(data_dir) as runner:
        await runner.forget([key()])
    assert not directory(data_dir).path.exists()


async def test_a_worker_without_a_readable_identity_or_a_recorded_end_is_forgotten(data_dir: Path) -> None:
    """Nothing else would ever remove it."""
    directory(data_dir).grant(spec_file())
    damage(data_dir, process.IDENTITY)
    async with local_runner(data_dir) as runner:
        await runner.forget([key()])
    assert not directory(data_dir).path.exists()
