"""Telling processes apart, writing files durably, locking: what shim and server must agree on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from queue_manager.server.adapters.local.shim import process
from tests.support.local_workers import PATIENCE

PS = pytest.mark.skipif(shutil.which("ps") is None, reason="needs ps")


@pytest.mark.parametrize("mark", [process.start_mark, pytest.param(process.start_mark_ps, marks=PS)])
def test_a_start_mark_is_the_same_whenever_it_is_read_and_none_once_the_process_is_gone(mark: object) -> None:
    """A zombie is gone too: it runs no more."""
    assert callable(mark)
    with subprocess.Popen(["sleep", "300"]) as child:
        first = mark(child.pid)
        assert first
        assert mark(child.pid) == first
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert mark(child.pid) is None
    assert mark(child.pid) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="marks of /proc have the resolution of a clock tick")
def test_a_process_that_got_the_same_id_later_has_another_mark() -> None:
    """Its start time differs."""
    with subprocess.Popen(["sleep", "300"]) as one:
        time.sleep(0.03)  # two clock ticks: what it takes at the very least to use an id again
        with subprocess.Popen(["sleep", "300"]) as two:
            marks = process.start_mark(one.pid), process.start_mark(two.pid)
            two.kill()
        one.kill()
    assert marks[0] != marks[1]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_processs_own_name_cannot_confuse_the_mark(tmp_path: Path) -> None:
    """It stands in the same line, and may hold spaces and parentheses."""
    odd = tmp_path / "a) R 1 (b"
    shutil.copy(shutil.which("sleep") or "/bin/sleep", odd)
    with subprocess.Popen([str(odd), "300"]) as child:
        try:
            mark = process.start_mark(child.pid)
            fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
            assert mark is not None
            assert mark.endswith(f":{fields[19]}")
        finally:
            child.kill()


def test_a_durable_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    """Also over an older one, and when it fails."""
    path = tmp_path / "file"
    process.write_durably(str(path), "one")
    process.write_durably(str(path), "two")
    assert path.read_text() == "two"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        process.write_durably(str(tmp_path / "folder"), "three")
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder"}


def test_a_lock_is_one_shims_and_ends_with_its_process(tmp_path: Path) -> None:
    """Those who only look are not in each other's way."""
    looks = [process.take_lock(str(tmp_path), exclusive=False) for _ in range(2)]
    assert None not in looks
    assert process.take_lock(str(tmp_path), exclusive=True) is None
    for fd in looks:
        assert fd is not None
        os.close(fd)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from shim import process; "
        "process.take_lock(sys.argv[2], exclusive=True); print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(Path(process.__file__).parents[1]), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        assert process.take_lock(str(tmp_path), exclusive=False) is None
        holder.kill()
    until = time.monotonic() + PATIENCE
    while (fd := process.take_lock(str(tmp_path), exclusive=True)) is None:
        assert time.monotonic() < until
    os.close(fd)


def test_a_shim_starts_quickly_because_it_imports_next_to_nothing() -> None:
    """It is started for every worker: what makes it slow is named here rather than timed."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import shim.main; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(Path(process.__file__).parents[1])],
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    heavy = {"json", "pathlib", "typing", "enum", "signal", "re", "subprocess", "contextlib", "site", "queue_manager"}
    assert heavy.isdisjoint(output.split())
