"""Reading what a worker writes, while it writes it and after, from any offset.

The files and their names are explained in `shim/streams.py`. Nothing is kept open between reads, and a position is only
moved on by `accept`, so lines that could not be handed on are read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from queue_manager.server.adapters.local.shim.streams import LINE_LIMIT, file_name

READ_SIZE: Final = 2 * LINE_LIMIT
"""Bytes read at once: at least a whole line."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some whole lines of a stream, in order."""

    lines: tuple[tuple[int, bytes], ...]
    """Each line without its end, with the offset behind it in the whole stream."""
    end: int
    """Offset behind the last of them."""
    time: float
    """When the file was last written, UTC: no line is younger. Of a file that grows, about now."""
    lost: int = 0
    """Bytes before them that were dropped, because nobody read them in time."""


class Tail:
    """One reader of one stream of a worker. Its methods block; one thread at a time."""

    def __init__(self, directory: Path, stream: str = "stdout") -> None:
        """It begins at the oldest byte that is kept."""
        self._directory = directory
        self._stream = stream
        self._base = 0
        self._offset = 0
        self._looked_at = -1
        self._lost = 0

    @property
    def offset(self) -> int:
        """Where it stands: everything before has been accepted."""
        return self._offset

    def read(self, *, ended: bool = False) -> Chunk | None:
        """The next lines; None: none now. `ended`: nobody writes any more, so what has no line end is a line too."""
        while True:
            path = self._directory / file_name(self._stream, self._base)
            try:
                stat = path.stat()
            except FileNotFoundError:
                if self._skip_what_was_dropped():
                    continue
                return None
            position = self._offset - self._base
            if stat.st_size > position and (ended or stat.st_size != self._looked_at):
                chunk = self._lines(path, position, stat.st_mtime, ended=ended)
                if chunk is not None:
                    return chunk
                self._looked_at = stat.st_size  # the beginning of a line; not worth a look before there is more of it
            if stat.st_size == 0 or not (self._directory / file_name(self._stream, self._base + stat.st_size)).exists():
                return None
            self._base += stat.st_size
            self._offset = max(self._offset, self._base)
            self._looked_at = -1

    def accept(self, chunk: Chunk) -> None:
        """The lines of the chunk that was read last have been taken."""
        self._offset = chunk.end
        self._lost = 0
        self._looked_at = -1

    def _lines(self, path: Path, position: int, mtime: float, *, ended: bool) -> Chunk | None:
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(position)
                data = file.read(READ_SIZE)
        except FileNotFoundError:  # dropped just now
            return None
        end = data.rfind(b"\n") + 1
        if end == 0:
            if not (ended and data):
                return None
            end = len(data)
        lines, offset = [], self._offset
        for line in data[:end].removesuffix(b"\n").split(b"\n"):
            offset += len(line) + 1
            lines.append((offset, line.removesuffix(b"\r")))
        offset = self._offset + end  # one less where the last line has no end
        lines[-1] = (offset, lines[-1][1])
        return Chunk(tuple(lines), offset, mtime, self._lost)

    def _skip_what_was_dropped(self) -> bool:
        prefix = f"{self._stream}."
        try:
            bases = [int(file.suffix[1:]) for file in self._directory.iterdir() if file.name.startswith(prefix)]
        except FileNotFoundError:
            return False
        later = [base for base in bases if base > self._base]
        if not later:
            return False
        self._base = min(later)
        self._lost += max(0, self._base - self._offset)
        self._offset = max(self._offset, self._base)
        self._looked_at = -1
        return True
