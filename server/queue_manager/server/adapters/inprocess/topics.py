"""Data topics without a broker: files that loaders append to and consumer groups read on from where they were.

    <topics>/<kafka topic>/records           append-only; one line a batch: how many records it holds
    <topics>/<kafka topic>/<group>.offset    up to which byte a group has read and stored, in decimal

This carries no data, only that there is some: enough for simulated workers, and for any local worker that wants its
consumer drained by the manager. Both sides use it, the bus and the workers, so it imports nothing but `os`.
"""
# ruff: noqa: PTH103, PTH105, PTH106, PTH108, PTH116, PTH123, PTH208
# pathlib would add a third to the start of a simulated worker.

from __future__ import annotations

import os

RECORDS = "records"
READ_SIZE = 65536


class DataTopic:
    """One topic. Appends and commits are atomic; there may be many writers, and one reader a group."""

    def __init__(self, topics: str, name: str) -> None:
        """`topics`: the folder of all; `name` must be a plain file name, as Kafka's rules for topics make it."""
        if not name or "/" in name or name in (".", ".."):
            raise ValueError(f"{name!r} cannot be the name of a data topic")
        self.path = f"{topics}/{name}"

    def create(self) -> None:
        """Make it exist, empty if it did not."""
        os.makedirs(self.path, mode=0o700, exist_ok=True)

    def append(self, count: int) -> None:
        """Write a batch of `count` records."""
        self.create()
        fd = os.open(f"{self.path}/{RECORDS}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, b"%d\n" % count)  # so short that it is written whole or not at all
        finally:
            os.close(fd)

    def size(self) -> int:
        """Bytes written."""
        try:
            return os.stat(f"{self.path}/{RECORDS}").st_size
        except FileNotFoundError:
            return 0

    def committed(self, group: str) -> int:
        """Up to which byte a group has read; a new group begins at the start."""
        try:
            with open(self._offset_file(group), "rb") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):  # empty after a crash of the machine: what was read is read again
            return 0

    def commit(self, group: str, offset: int) -> None:
        """Everything before `offset` has been stored."""
        self.create()
        path = self._offset_file(group)
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(b"%d\n" % offset)
        os.replace(temporary, path)

    def read(self, offset: int) -> tuple[int, int]:
        """Records in the whole batches that follow `offset`, some or all of them, and the offset behind those."""
        try:
            with open(f"{self.path}/{RECORDS}", "rb") as file:
                file.seek(offset)
                data = file.read(READ_SIZE)
        except FileNotFoundError:
            return 0, offset
        data = data[: data.rfind(b"\n") + 1]
        return sum(int(line) for line in data.split()), offset + len(data)

    def lag(self, group: str) -> int:
        """Bytes that a group has yet to read."""
        return max(0, self.size() - self.committed(group))

    def remove(self) -> None:
        """Remove it with all its offsets; nothing happens where there is none."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return
        for name in names:
            try:
                os.unlink(f"{self.path}/{name}")
            except FileNotFoundError:  # a commit's temporary file, renamed just now
                continue
        try:
            os.rmdir(self.path)
        except OSError:  # a worker that is being killed wrote once more
            return

    def _offset_file(self, group: str) -> str:
        return f"{self.path}/{group.replace('/', '_')}.offset"
