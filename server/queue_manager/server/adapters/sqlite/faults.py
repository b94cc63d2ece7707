"""What SQLite and msgspec raise, as the core's errors: no library's exception leaves this adapter."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

import msgspec

from queue_manager.server.adapters.sqlite.files import RESTORE, StateFileError
from queue_manager.server.domain.errors import QueueManagerError, Unavailable

RETRY_AFTER: Final = 1.0
"""Seconds after which a caller may try again: what passes by itself (a lock, a full disk) takes about as long."""

_PASSING: Final = {
    sqlite3.SQLITE_FULL: "the disk is full; make room and the store goes on by itself",
    sqlite3.SQLITE_BUSY: "another program has it locked",
    sqlite3.SQLITE_LOCKED: "another program has it locked",
    sqlite3.SQLITE_PROTOCOL: "another program has it locked",
    sqlite3.SQLITE_IOERR: "the disk does not read or write",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened",
    sqlite3.SQLITE_READONLY: "it cannot be written",
    sqlite3.SQLITE_PERM: "it cannot be written",
    sqlite3.SQLITE_NOMEM: "memory has run out",
    sqlite3.SQLITE_INTERRUPT: "the call was interrupted",
    # Not passing at all, but for callers the store is out of reach until somebody has repaired it.
    sqlite3.SQLITE_CORRUPT: f"it is damaged; stop the server, then {RESTORE}",
    sqlite3.SQLITE_NOTADB: f"it is damaged; stop the server, then {RESTORE}",
}


def concerns_all(error: Exception) -> bool:
    """Whether the whole file is concerned, not just the one document or call that met the error."""
    return isinstance(error, QueueManagerError) or (isinstance(error, sqlite3.Error) and _code(error) in _PASSING)


def translate(error: Exception, path: Path) -> Exception:
    """The core's error for this one, to be raised from it; errors that are not a library's come back as they are."""
    if isinstance(error, sqlite3.Error):
        what = _PASSING.get(_code(error))
        if what is not None:
            return Unavailable(f"the store {path} is out of reach: {what} ({error})", retry_after=RETRY_AFTER)
        return QueueManagerError(f"the store {path} refused a statement: {error}")
    if isinstance(error, msgspec.MsgspecError):
        return StateFileError(path, f"has a document that cannot be read ({error})", RESTORE)
    return error


def _code(error: sqlite3.Error) -> int:
    """The primary result code; extended ones have it in their lowest byte. 0 where Python itself raised."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
