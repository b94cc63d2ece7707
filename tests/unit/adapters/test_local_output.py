"""Bounded files of whole lines, and reading them at offsets that only grow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from queue_manager.server.adapters.local.output import Tail
from queue_manager.server.adapters.local.shim.streams import LINE_LIMIT, LineFile, file_name

LIMIT = 64


def read_all(tail: Tail, *, ended: bool = False) -> list[tuple[int, bytes]]:
    """Everything that can be read now."""
    lines: list[tuple[int, bytes]] = []
    while (chunk := tail.read(ended=ended)) is not None:
        lines.extend(chunk.lines)
        tail.accept(chunk)
    return lines


def files(folder: Path) -> list[Path]:
    """The files of the stream, oldest first."""
    return sorted(folder.glob("stdout.*"))


CHUNKS = st.lists(st.binary(min_size=1, max_size=40) | st.sampled_from([b"\n", b"a\n", b"\r\n", b"{}\nx"]), max_size=40)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=CHUNKS)
def test_a_reader_that_keeps_up_reads_every_line_once(
    chunks: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However the writes are cut, and wherever files end; the offset behind a line is where it ends in the whole stream."""
    folder = tmp_path_factory.mktemp("out")
    written, tail, got = LineFile(str(folder), "stdout", LIMIT), Tail(folder), []
    for chunk in chunks:
        written.write(chunk)
        got += read_all(tail)
        assert len(files(folder)) <= 2
    written.close()
    got += read_all(tail, ended=True)
    whole = b"".join(chunks)
    lines = whole.split(b"\n")
    if not lines[-1]:
        lines.pop()
    assert [line for _, line in got] == [line.removesuffix(b"\r") for line in lines]
    ends, end = [], 0
    for line in lines:
        end += len(line) + 1
        ends.append(end)
    assert [offset for offset, _ in got] == ends
    assert tail.offset == end


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chunks=CHUNKS)
def test_a_reader_that_comes_late_reads_the_newest_lines_at_the_same_offsets(
    chunks: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """What is kept are whole lines, and it is said how much is lost."""
    folder = tmp_path_factory.mktemp("out")
    written, prompt, in_time = LineFile(str(folder), "stdout", LIMIT), Tail(folder), []
    for chunk in chunks:
        written.write(chunk)
        in_time += read_all(prompt)
    written.close()
    in_time += read_all(prompt, ended=True)
    late = Tail(folder)
    first = late.read(ended=True)
    lost = 0 if first is None else first.lost
    got = read_all(late, ended=True)
    assert got == in_time[len(in_time) - len(got) :]
    assert lost == (in_time[len(in_time) - len(got) - 1][0] if len(got) < len(in_time) else 0)
    assert sum(path.stat().st_size for path in files(folder)[:-1]) <= LIMIT + 41 * 2


def test_a_file_is_followed_by_one_whose_name_says_where_it_begins(tmp_path: Path) -> None:
    """So an offset needs no index."""
    file = LineFile(str(tmp_path), "stdout", 10)
    file.write(b"0123456789ab\ncd\n")
    file.close()
    assert [path.name for path in files(tmp_path)] == [file_name("stdout", 0), file_name("stdout", 13)]
    assert files(tmp_path)[1].read_bytes() == b"cd\n"


def test_lines_that_were_not_accepted_are_read_again(tmp_path: Path) -> None:
    """Whoever could not take them sees them again."""
    file, tail = LineFile(str(tmp_path), "stdout", 1000), Tail(tmp_path)
    file.write(b"one\n")
    assert tail.read() == tail.read()
    file.write(b"two\n")
    again = tail.read()
    assert again is not None
    assert [line for _, line in again.lines] == [b"one", b"two"]
    tail.accept(again)
    assert tail.read() is None
    file.close()


def test_the_beginning_of_a_line_is_not_a_line_until_the_worker_has_ended(tmp_path: Path) -> None:
    """A shim that was killed leaves it so."""
    file, tail = LineFile(str(tmp_path), "stdout", 1000), Tail(tmp_path)
    file.write(b"one\ntw")
    assert read_all(tail) == [(4, b"one")]
    assert tail.read() is None
    assert read_all(tail, ended=True) == [(6, b"tw")]
    file.close()


def test_what_an_over_long_line_has_too_much_is_dropped(tmp_path: Path) -> None:
    """The next one is whole again, and no file can grow without end."""
    file, tail = LineFile(str(tmp_path), "stdout", 1000), Tail(tmp_path)
    for _ in range(40):
        file.write(b"x" * 65536)
    file.write(b"y\nnext\n")
    lines = [line for _, line in read_all(tail)]
    file.close()
    assert [len(line) for line in lines] == [LINE_LIMIT, 4]
    assert sum(path.stat().st_size for path in files(tmp_path)) < LINE_LIMIT + 100


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /dev/full")
def test_a_full_disk_loses_lines_but_never_joins_two(tmp_path: Path) -> None:
    """The shim goes on, and when there is room again a line begins on its own."""
    file, tail = LineFile(str(tmp_path), "stdout", 1000), Tail(tmp_path)
    file.write(b"one\ntw")
    real, file._fd = file._fd, os.open("/dev/full", os.O_WRONLY)
    file.write(b"o\n")
    os.close(file._fd)
    file._fd = real
    file.write(b"three\n")
    file.close()
    assert [line for _, line in read_all(tail)] == [b"one", b"tw", b"three"]


def test_output_that_somebody_removed_ends_nothing(tmp_path: Path) -> None:
    """There is just nothing to read."""
    assert Tail(tmp_path / "nowhere").read() is None
    file, tail = LineFile(str(tmp_path), "stdout", 1000), Tail(tmp_path)
    file.write(b"one\n")
    files(tmp_path)[0].unlink()
    assert tail.read() is None
    file.close()
