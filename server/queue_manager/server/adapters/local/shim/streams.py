# ruff: noqa: PTH108, SIM105
# pathlib and contextlib would cost the shim 13 ms at each start.
"""Keeping what a worker writes in bounded files, whose names say where in the whole stream they begin.

`stdout.<base>`: a file's first byte is byte `base` of all that was kept, so an offset into the stream only grows,
across files too, and whoever reads needs no index. A full file is followed by `stdout.<base + size>`, always at a
line's end; the current file and the one before it are kept. `output.py` reads them.
"""

from __future__ import annotations

import os

LINE_LIMIT = 256 * 1024
"""Longest line kept, in bytes; the rest of a longer one is dropped."""


def file_name(stream: str, base: int) -> str:
    """Name of the file of a stream that begins at byte `base`; names sort like their bases."""
    return f"{stream}.{base:016d}"


class LineFile:
    """One stream, written by the shim alone. A full disk loses lines, never the shim."""

    def __init__(self, directory: str, stream: str, limit: int) -> None:
        """Begin the stream. `limit`: a file is full at so many bytes (it ends with the line that fills it)."""
        self._directory = directory
        self._stream = stream
        self._limit = limit
        self._base = 0
        self._size = 0
        self._line = 0
        self._torn = False
        self._path = self._file(0)
        self._previous = ""
        self._fd = self._create(self._path)

    def write(self, chunk: bytes) -> None:
        """Take what the worker wrote, in pieces of any size."""
        if self._line + len(chunk) <= LINE_LIMIT and self._size + len(chunk) < self._limit:
            self._put(chunk)
            tail = len(chunk) - chunk.rfind(b"\n") - 1
            self._line = tail if tail < len(chunk) else self._line + len(chunk)
            return
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            self._put(line[: max(0, LINE_LIMIT - self._line)] + b"\n")
            self._line = 0
            if self._size >= self._limit:
                self._rotate()
        self._put(rest[: max(0, LINE_LIMIT - self._line)])
        self._line += len(rest)

    def close(self) -> None:
        """The worker will write no more: its last line is completed, and all of it made durable."""
        if self._line:
            self._put(b"\n")
        try:
            os.fsync(self._fd)
        except OSError:  # a full or broken disk; what can be read is read
            pass
        os.close(self._fd)

    def _file(self, base: int) -> str:
        return f"{self._directory}/{file_name(self._stream, base)}"

    @staticmethod
    def _create(path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _put(self, data: bytes) -> None:
        if self._torn:  # a line broke off when the disk was full: what comes now is not its end
            data = b"\n" + data
        while data:
            try:
                count = os.write(self._fd, data)
            except OSError:
                self._torn = True
                return
            self._size += count
            data = data[count:]
            self._torn = False

    def _rotate(self) -> None:
        base = self._base + self._size
        path = self._file(base)
        try:
            fd = self._create(path)
        except OSError:
            return
        os.close(self._fd)
        if self._previous:
            try:
                os.unlink(self._previous)
            except OSError:  # somebody tidied up
                pass
        self._fd, self._previous, self._path = fd, self._path, path
        self._base, self._size = base, 0
