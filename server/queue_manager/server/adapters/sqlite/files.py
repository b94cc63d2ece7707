"""The data directory and the state file in it: who may use them, and whether the file is one that can be trusted.

Everything here only looks; a file that is refused is left as it was, byte for byte, for whoever repairs it. How the
file is laid out is `schema`'s business.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Final

from queue_manager.server.domain.errors import QueueManagerError

FILE_NAME: Final = "queues.sqlite3"
LOCK_NAME: Final = "lock"
MAGIC: Final = b"SQLite format 3\x00"
ALWAYS_CHECKED: Final = 256 * 2**20
"""Files up to this size, in bytes, are checked page by page at every start (about a second); larger ones only after an
unclean shutdown."""

RESTORE: Final = "restore a backup of it together with its -wal file, or move both away to begin with an empty store"


class StateFileError(QueueManagerError):
    """The state file or its directory cannot be used; the message says what is wrong, where, and what to do."""

    reason = "STATE_FILE_UNUSABLE"

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        """`problem` continues "<path> …"; `remedy` is an imperative."""
        super().__init__(f"{path} {problem}; {remedy}", path=str(path))
        self.path = path


class DataDirInUseError(StateFileError):
    """Another server uses the data directory."""

    reason = "DATA_DIR_IN_USE"


class DataDir:
    """A data directory that this process has for itself, from `claim` until `release` or the end of the process."""

    def __init__(self, path: Path) -> None:
        """The directory; it need not exist."""
        self.path = path
        self.file = path / FILE_NAME
        self._lock: int | None = None

    def claim(self) -> None:
        """Make the directory if need be and lock it. Raises `StateFileError`, `DataDirInUseError`.

        The lock is flock(2) on a file of its own: it ends with the process whatever ends it, so it is never stale, and
        it does not meet the POSIX locks that SQLite takes on the state file.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            remedy = "set QM_DATA_DIR to a directory that this user can write"
            raise StateFileError(self.path, f"cannot be used as data directory ({error.strerror})", remedy) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                who = f"process {owner}" if owner.isdecimal() else "another process"
                remedy = f"stop that server first (kill {owner or 'PID'}), or give this one its own QM_DATA_DIR"
                raise DataDirInUseError(self.path, f"is in use by {who}", remedy) from error
            remedy = "set QM_DATA_DIR to a directory on a local disk"
            raise StateFileError(self.path, f"cannot be locked ({error.strerror})", remedy) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._lock = descriptor

    def release(self) -> None:
        """Let others use the directory. The lock file stays: removing it would let two processes lock two files."""
        if self._lock is not None:
            with suppress(OSError):
                os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def is_new(self) -> bool:
        """Whether the state file is yet to be made. Raises `StateFileError` where what is there is not a SQLite file.

        An empty file counts as new: SQLite makes one before it writes the first page, so a crash at that moment leaves
        it, and it can hold nothing. With a log beside it, though, something has emptied it, and SQLite would now throw
        the log away.
        """
        wal = self.file.with_name(self.file.name + "-wal")
        has_log = wal.exists() and wal.stat().st_size > 0
        if not self.file.exists() or (self.file.is_file() and self.file.stat().st_size == 0):
            if has_log:
                what = "is empty" if self.file.exists() else "is missing"
                raise StateFileError(self.file, f"{what}, but its log {wal.name} holds changes", RESTORE)
            return True
        try:
            with self.file.open("rb") as stream:
                magic = stream.read(len(MAGIC))
        except OSError as error:
            remedy = "make it readable for the user that the server runs as"
            raise StateFileError(self.file, f"cannot be read ({error.strerror})", remedy) from error
        if not os.access(self.file, os.W_OK):
            remedy = "make it writable for the user that the server runs as"
            raise StateFileError(self.file, "cannot be written (Permission denied)", remedy)
        if magic != MAGIC:
            raise StateFileError(self.file, "is not a SQLite file (or its beginning is overwritten)", RESTORE)
        return False

    def verify(self, *, application_id: int, newest_version: int) -> None:
        """Look whether the file is ours, whole, and of a version that this release reads. Raises `StateFileError`.

        Uses a read-only connection, which unlike another one leaves file and log alone when it is closed. Without a log
        the file is also taken as immutable, or SQLite would make an empty log.
        """
        wal = self.file.with_name(self.file.name + "-wal")
        unclean = wal.exists() and wal.stat().st_size > 0
        try:
            mode = "mode=ro" if unclean else "mode=ro&immutable=1"
            connection = sqlite3.connect(f"{self.file.resolve().as_uri()}?{mode}", uri=True, isolation_level=None)
            try:
                self._verify(connection, application_id, newest_version)
                (page_size,) = connection.execute("PRAGMA page_size").fetchone()
                if not unclean and self.file.stat().st_size % page_size:
                    raise StateFileError(self.file, "is damaged (its end is cut off)", RESTORE)
                if unclean or self.file.stat().st_size <= ALWAYS_CHECKED:
                    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
                    if found != "ok":
                        raise StateFileError(self.file, f"is damaged ({' '.join(found.split())})", RESTORE)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise unusable(self.file, error) from error

    def _verify(self, connection: sqlite3.Connection, application_id: int, newest_version: int) -> None:
        (found_id,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if tables == 0 and version == 0:
            return  # a crash while it was made: nothing is in it
        if found_id != application_id:
            remedy = "move it away, or set QM_DATA_DIR to another directory"
            raise StateFileError(self.file, "is a SQLite file of some other program", remedy)
        if version > newest_version:
            remedy = "run the newer release, or move the file away to begin with an empty store"
            problem = f"was written by a newer release (schema {version}, this one reads up to {newest_version})"
            raise StateFileError(self.file, problem, remedy)


def unusable(path: Path, error: sqlite3.Error) -> StateFileError:
    """What SQLite said while the file was being opened, as an error for people."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}:
        remedy = "make the file and its directory writable for the user that the server runs as"
        return StateFileError(path, f"cannot be written ({error})", remedy)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StateFileError(path, f"is locked by another program ({error})", "end that program, then start again")
    if code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
        return StateFileError(path, f"cannot be written ({error})", "make room on the disk and see that it is healthy")
    return StateFileError(path, f"is damaged ({error})", RESTORE)
