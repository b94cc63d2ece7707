"""How the state file is laid out, and how it is opened: tables, indexes, version, pragmas.

`queues` has a queue's document and, in columns, what can be asked for without reading it. `labels` and `targets` are
lists of postings: for each value the queues that have it, in the order in which queues are listed, so that a page is a
seek and a few steps however many queues there are. What they hold never changes while a queue lives. Queries over them
are in `query`, changes in `writes`.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from queue_manager.server.adapters.sqlite.files import StateFileError, unusable

APPLICATION_ID: Final = 0x5146514D
"""Marks the file as ours in its header ("SFQM" backwards), so that another program's file is never written to."""

BUSY_TIMEOUT: Final = 5.0
"""Seconds to wait for another program (a backup, a shell) that has the file locked."""

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # `seq` is the rowid: the document, which is large, is found in one step from any index. It comes last in the
        # row so that columns are read without it. `version` is what compare-and-set compares; `entries` counts the
        # queue's rows in `history`, so that nobody has to.
        """CREATE TABLE queues (
            seq INTEGER PRIMARY KEY,
            queue_id TEXT NOT NULL UNIQUE,
            version INTEGER NOT NULL,
            create_time REAL NOT NULL,
            state TEXT NOT NULL,
            symbol TEXT NOT NULL,
            end_time REAL,
            settled INTEGER NOT NULL,
            request_id TEXT NOT NULL,
            entries INTEGER NOT NULL,
            body BLOB NOT NULL
        )""",
        "CREATE UNIQUE INDEX queues_by_request ON queues (request_id) WHERE request_id <> ''",
        "CREATE INDEX queues_by_time ON queues (create_time, queue_id)",
        "CREATE INDEX queues_by_state ON queues (state, create_time, queue_id)",
        "CREATE INDEX queues_by_symbol ON queues (symbol, state, create_time, queue_id)",
        "CREATE INDEX queues_unsettled ON queues (queue_id) WHERE settled = 0",
        "CREATE INDEX queues_ended ON queues (end_time, queue_id) WHERE settled = 1",
        """CREATE TABLE labels (
            key TEXT NOT NULL,
            value TEXT NOT NULL,
            create_time REAL NOT NULL,
            queue_id TEXT NOT NULL,
            PRIMARY KEY (key, value, create_time, queue_id)
        ) WITHOUT ROWID""",
        "CREATE INDEX labels_by_key ON labels (key, create_time, queue_id)",
        """CREATE TABLE targets (
            target TEXT NOT NULL,
            create_time REAL NOT NULL,
            queue_id TEXT NOT NULL,
            PRIMARY KEY (target, create_time, queue_id)
        ) WITHOUT ROWID""",
        """CREATE TABLE history (
            queue_id TEXT NOT NULL,
            revision INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (queue_id, revision)
        ) WITHOUT ROWID""",
        # One row that is written to see whether the file can be written again after it could not.
        "CREATE TABLE probe (id INTEGER PRIMARY KEY CHECK (id = 1), tries INTEGER NOT NULL)",
        "INSERT INTO probe VALUES (1, 0)",
    ),
)
"""Statements that take the file from version n (its index) to n + 1. A released one is never changed."""

VERSION: Final = len(MIGRATIONS)

CONFLICT: Final = "the queue has changed, or is gone"
"""What a replacement fails with whose `before` is no queue's version."""

STORING: Final = (
    # A queue is stored with one statement: every step of a statement gives the interpreter's lock away and has to get
    # it back from a busy event loop, and with a dozen steps that would cost more than the writing.
    """CREATE TEMP VIEW forms AS SELECT queue_id, 0 AS before, version, state, settled, end_time, body, 0 AS revision,
        x'' AS entry, create_time, symbol, request_id, '' AS labels, '' AS targets FROM queues""",
    """CREATE TEMP TRIGGER create_queue INSTEAD OF INSERT ON forms WHEN NEW.before IS NULL BEGIN
        INSERT INTO queues
            (queue_id, version, create_time, state, symbol, end_time, settled, request_id, entries, body)
            VALUES (NEW.queue_id, NEW.version, NEW.create_time, NEW.state, NEW.symbol, NEW.end_time, NEW.settled,
                NEW.request_id, 1, NEW.body);
        INSERT INTO labels SELECT key, value, NEW.create_time, NEW.queue_id FROM json_each(NEW.labels);
        INSERT INTO targets SELECT value, NEW.create_time, NEW.queue_id FROM json_each(NEW.targets);
        INSERT INTO history VALUES (NEW.queue_id, NEW.revision, NEW.entry);
    END""",
    # Most changes leave the indexed columns alone. SQLite rewrites an index whose column is assigned, changed or not, so
    # those changes have a statement of their own that assigns none; where one does change, it is the second that finds
    # the row.
    f"""CREATE TEMP TRIGGER replace_queue INSTEAD OF INSERT ON forms WHEN NEW.before IS NOT NULL BEGIN
        SELECT RAISE(ABORT, '{CONFLICT}')
            WHERE NOT EXISTS (SELECT 1 FROM queues WHERE queue_id = NEW.queue_id AND version = NEW.before);
        UPDATE queues SET version = NEW.version, entries = entries + (NEW.entry IS NOT NULL), body = NEW.body
            WHERE queue_id = NEW.queue_id AND version = NEW.before
                AND state = NEW.state AND settled = NEW.settled AND end_time IS NEW.end_time;
        UPDATE queues SET version = NEW.version, entries = entries + (NEW.entry IS NOT NULL), body = NEW.body,
                state = NEW.state, settled = NEW.settled, end_time = NEW.end_time
            WHERE queue_id = NEW.queue_id AND version = NEW.before;
        INSERT INTO history SELECT NEW.queue_id, NEW.revision, NEW.entry WHERE NEW.entry IS NOT NULL;
    END""",  # noqa: S608 - a constant of ours
)
"""A view into which a form of a queue can be inserted: its first one (`before` is NULL) with all that belongs to it, or
one that replaces the one with the version `before`, with what it adds to the history, if anything. The view is the
connection's, not the file's."""


def open_writer(path: Path) -> sqlite3.Connection:
    """A connection that may write, on a file of the newest version. Raises `StateFileError`.

    WAL, so that readers never wait for the writer; `synchronous=FULL`, so that a commit is on the disk when it returns
    (with NORMAL a power cut loses the last ones); `fullfsync`, because macOS' fsync alone does not reach the disk.
    """
    connection = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT)
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StateFileError(path, "is on a file system without shared memory", "set QM_DATA_DIR to a local disk")
        for pragma in (
            "synchronous = FULL",
            "fullfsync = ON",
            "checkpoint_fullfsync = ON",
            "wal_autocheckpoint = 2000",
            f"journal_size_limit = {64 * 2**20}",
            "cache_size = -32768",
            "temp_store = MEMORY",
            "cell_size_check = ON",
            "trusted_schema = OFF",
            "secure_delete = OFF",  # some builds overwrite what is deleted; nothing here is secret
        ):
            connection.execute(f"PRAGMA {pragma}")
        migrate(connection)
        for statement in STORING:
            connection.execute(statement)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise unusable(path, error) from error
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads; it may be used from any one thread at a time. Raises `StateFileError`."""
    try:
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT,
        )
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cache_size = -8192")
    except sqlite3.Error as error:
        raise unusable(path, error) from error
    return connection


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to the newest version, all or nothing. Also proves that it can be written."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        if version < VERSION:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        else:
            # A transaction alone begins on a read-only file too.
            connection.execute("UPDATE probe SET tries = tries + 1")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
