"""A server killed with SIGKILL at any instruction of its launches, again and again, and what the next one finds.

The promise: no worker runs twice under its name, none is forgotten, one that was seen ABSENT and given up never runs
later, and what was said is heard.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.observation import Phase
from tests.support.launching_server import script
from tests.support.local_workers import (
    PATIENCE,
    Heard,
    ended,
    key,
    launched,
    local_runner,
    shim_lives,
    spec,
    until,
)

LIVES = 14
WORKERS = 4
FIRST_GUESS = 0.1
"""Seconds that the launches may take; the lives find out how long they do, for that is when a server is to be killed."""


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where workers leave a mark each time they run."""
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


class Doomed:
    """Servers that launch and are killed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def live(self, seconds: float, names: list[str]) -> None:
        """One life: launch these, be killed after so many seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds:.4f} {' '.join(names)}\n".encode())
        async with asyncio.timeout(PATIENCE):
            assert await self._process.stdout.readline() == b"killed\n"


@pytest.fixture
async def doomed(data_dir: Path, marks: Path) -> AsyncIterator[Doomed]:
    """The process that forks them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.launching_server", str(data_dir), str(marks),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert process.stdin is not None
    yield Doomed(process)
    process.stdin.close()
    await process.wait()


def runs(marks: Path, name: str) -> int:
    """How often a worker has run."""
    mark = marks / name
    return mark.read_text().count("started") if mark.exists() else 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_worker_runs_twice_and_none_is_forgotten_whenever_the_server_is_killed(
    doomed: Doomed, data_dir: Path, marks: Path, seed: int
) -> None:
    """Killed; the next server is killed too, half of the times; the third looks, and does what the core would do."""
    random = Random(seed)
    given_up: list[str] = []
    seen_absent = seen_running = 0
    longest = FIRST_GUESS
    for life in range(LIVES):
        names = [f"w{life}-{number}" for number in range(WORKERS)]
        await doomed.live(longest * random.random() if life else 0.0, names)
        if random.random() < 0.3:
            await doomed.live(longest * random.random(), names)
        heard = Heard()
        async with local_runner(data_dir, heard=heard) as runner:
            wanted = []
            statuses = await runner.observe([key(name) for name in names])
            longest *= 1.4 if statuses[-1].phase is Phase.ABSENT else 0.75
            for seen in statuses:
                assert seen.phase in (Phase.ABSENT, Phase.RUNNING), seen
                seen_absent += seen.phase is Phase.ABSENT
                seen_running += seen.phase is Phase.RUNNING
                match random.choice(("launch", "delete", "give up")):
                    case "delete":
                        await runner.delete(seen.key, grace=0)
                        given_up += [seen.key.name] * (seen.phase is Phase.ABSENT)
                    case "give up" if seen.phase is Phase.ABSENT:
                        given_up.append(seen.key.name)
                    case _:
                        answer = await launched(runner, spec(seen.key.name, script(marks, seen.key.name)))
                        assert answer.phase is Phase.RUNNING
                        assert seen.ref in (None, answer.ref)
                        wanted.append(answer.key)
            await heard.until(lambda values, wanted=wanted: {said(one) for one in wanted} <= set(values))  # type: ignore[misc]
            assert [runs(marks, one.name) for one in wanted] == [1] * len(wanted)
            for one in wanted:
                await runner.delete(one, grace=0)
                assert (await ended(runner, one.name)).exit_code == 137
        for name in names:
            await until(lambda name=name: not shim_lives(data_dir, name))
    assert [name for name in given_up if runs(marks, name)] == []
    assert all(runs(marks, f"w{life}-{number}") <= 1 for life in range(LIVES) for number in range(WORKERS))
    assert seen_absent
    assert seen_running


def said(worker: WorkerKey) -> bytes:
    """What a worker says."""
    return b'{"said":"%s"}' % worker.name.encode()


async def test_what_workers_said_and_how_they_ended_while_no_server_was_there_is_found(
    doomed: Doomed, data_dir: Path, marks: Path
) -> None:
    """The shims went on with their work."""
    names = [f"w{number}" for number in range(WORKERS)]
    async with local_runner(
        data_dir
    ) as runner:  # the data directory is there, so the first life is long enough for sure
        await runner.check()
    await doomed.live(0.01, [])
    life = asyncio.create_task(doomed.live(1.0, names))
    for name in names:
        await until((marks / name).exists)
    await life
    heard = Heard()
    async with local_runner(data_dir, heard=heard) as runner:
        for name in names:
            assert (await launched(runner, spec(name, "exit 1"))).phase is Phase.RUNNING, "the first one still"
            await runner.delete(key(name), grace=0)
        for name in names:
            seen = await ended(runner, name)
            assert (seen.exit_code, seen.telemetry_complete) == (137, True)
    assert set(heard.values) == {said(key(name)) for name in names}
    assert [runs(marks, name) for name in names] == [1] * WORKERS
