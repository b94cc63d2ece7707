"""`scripts/demo.py`, with a fake in the server's place: it ends as it says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FAKE = Path(__file__).with_name("fake_server.py")
RUN = f"import sys; sys.path.insert(0, {str(ROOT / 'scripts')!r}); import demo; sys.exit(demo.run(sys.argv[1:]))"


async def demo(directory: Path, **settings: str) -> Process:
    """The demo, with its temporary directory in ours."""
    environment = {**os.environ, "TMPDIR": str(directory), "FAKE_TICK": "0.01", **settings}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, sys.executable, str(FAKE), env=environment, stdout=PIPE, stderr=STDOUT
    )


def running(directory: Path) -> list[str]:
    """Processes whose data is in the directory: the server has it in its environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "environ").read_bytes()
        except OSError:
            continue
        if f"QM_DATA_DIR={directory}".encode() in text:
            found.append(entry.name)
    return found


def left_in(directory: Path) -> list[Path]:
    """What is still there."""
    return list(directory.iterdir())


async def test_it_shows_a_queue_until_it_has_finished(tmp_path: Path) -> None:
    process = await demo(tmp_path)
    out, _ = await process.communicate()
    text = out.decode()
    assert process.returncode == 0, text
    assert "$ queuectl start -f examples/historical-pipeline.json" in text
    assert "queue ended FINISHED" in text
    assert "Both ended with exit code 0" in text
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"FAKE_DIE": "1"}, ["the database is locked", "the server ended with exit code 1 before it served"]),
        ({"FAKE_FAIL_JOB": "graph-builder"}, ["queue ended FAILED", "queuectl watch ended with exit code 6"]),
    ],
)
async def test_a_failure_is_told(settings: dict[str, str], said: list[str], tmp_path: Path) -> None:
    process = await demo(tmp_path, **settings)
    out, _ = await process.communicate()
    assert process.returncode == 1
    for words in said:
        assert words in out.decode()
    assert left_in(tmp_path) == []
    assert running(tmp_path) == []


async def test_an_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    """Neither the server, nor the queue's workers, nor the directory."""
    process = await demo(tmp_path, FAKE_TICK="5")
    assert process.stdout is not None
    while b" rev " not in await process.stdout.readline():
        pass
    assert running(tmp_path)
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    assert process.returncode == 1
    assert "the demo failed: interrupted" in out.decode()
    assert "Traceback" not in out.decode()
    assert running(tmp_path) == []
    assert left_in(tmp_path) == []
