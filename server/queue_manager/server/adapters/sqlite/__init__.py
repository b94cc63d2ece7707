"""The embedded state store: one SQLite file, one writer, many writes to one fsync. See `store`."""

from queue_manager.server.adapters.sqlite.files import DataDirInUseError, StateFileError
from queue_manager.server.adapters.sqlite.store import SqliteStore

__all__ = ["DataDirInUseError", "SqliteStore", "StateFileError"]
