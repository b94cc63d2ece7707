"""The changes that the writer can make, each with its own outcome: what `apply` returns, or the `Conflict` it raises.

`apply` runs in the writer's thread, inside a transaction that it shares with others. It raises `Conflict` before it has
changed anything, so that the others are not concerned; any other exception undoes the whole transaction. What can be
computed before (encoding above all) is done where the object is made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import groupby
from random import Random
from typing import Final, Generic, TypeVar

from queue_manager.server.adapters.sqlite.documents import (
    decode_entry,
    decode_queue,
    decode_record,
    encode,
    encode_json,
)
from queue_manager.server.application.ports import Record
from queue_manager.server.domain.errors import Conflict
from queue_manager.server.domain.history import Entry, compact
from queue_manager.server.domain.model import Queue

T_co = TypeVar("T_co", covariant=True)

_INTO_NEW: Final = "INTO new_queues VALUES"
_CREATE_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# A queue is checked before anything of it is written, so where it conflicts there is nothing to take back: with FAIL
# SQLite need not keep a journal of the statement to do that.
_CREATE_ONE: Final = f"INSERT OR FAIL {_INTO_NEW} {_CREATE_ROW}"
_ROWS_LIMIT: Final = 64
"""New queues in a statement at most, so that the statements for all numbers of them stay prepared."""
_VERSIONS: Final = Random()  # noqa: S311 - no secret; not the system's, which gives the interpreter's lock away
# Most changes leave the indexed columns alone. SQLite rewrites an index whose column is assigned, changed or not, so
# those changes have a statement of their own that assigns none: it finds no row where one of them does change.
_UPDATE_BODY = """UPDATE queues SET version = version + 1, entries = entries + ?, body = ?
    WHERE queue_id = ? AND version = ? AND state = ? AND settled = ? AND end_time IS ? RETURNING version, entries"""
_UPDATE_ALL = """UPDATE queues SET version = version + 1, entries = entries + ?, body = ?,
    state = ?, settled = ?, end_time = ? WHERE queue_id = ? AND version = ? RETURNING version, entries"""
_ADD_ENTRY = "INSERT INTO history (queue_id, revision, body) VALUES (?, ?, ?)"


class Write(Generic[T_co]):
    """A change to the file."""

    operation: str
    size: int = 0
    """Bytes that it holds in memory while it waits, about."""

    def apply(self, connection: sqlite3.Connection) -> T_co:
        """Make the change, or raise `Conflict` without having made any."""
        raise NotImplementedError


class Create(Write[Record]):
    """Store a new queue, unless its request id is known."""

    operation = "create"

    def __init__(self, queue: Queue, entry: Entry) -> None:
        """The queue and the first entry of its history."""
        spec, status = queue.spec, queue.status
        body, entry_body = encode(queue), encode(entry)
        # Random, so that a version of a deleted queue is never one of a later queue with the same id.
        version = _VERSIONS.getrandbits(48)
        self.record = Record(queue, str(version))
        self.row = (
            *(spec.queue_id, version, spec.create_time, status.state.value, spec.symbol, status.end_time),
            *(queue.settled, spec.request_id, body, entry.revision, entry_body),
            *(encode_json(spec.labels), encode_json(_targets(queue))),
        )
        self.size = len(body) + len(entry_body)

    def apply(self, connection: sqlite3.Connection) -> Record:
        """The record: the new one, or the older one that has the request id."""
        spec = self.record.queue.spec
        try:
            connection.execute(_CREATE_ONE, self.row)
        except sqlite3.IntegrityError as error:
            if not str(error).startswith("UNIQUE constraint failed: queues."):
                raise  # what belongs to a queue that is not there: some of this one is written
            if spec.request_id:
                row = connection.execute(
                    "SELECT body, version FROM queues WHERE request_id = ? AND request_id <> ''", (spec.request_id,)
                ).fetchone()
                if (known := decode_record(row)) is not None:
                    return known
            raise Conflict(f"queue {spec.queue_id} exists") from error
        return self.record


class Replace(Write[Record]):
    """Replace a queue whose version is known."""

    operation = "replace"

    def __init__(self, queue: Queue, version: str, entry: Entry | None, *, keep: int) -> None:
        """`keep`: how many entries its history is cut to when it has a quarter more."""
        self._queue = queue
        self._version = int(version) if version.isdecimal() and len(version) <= 18 else -1
        self._body = encode(queue)
        self._entry = None if entry is None else (queue.queue_id, entry.revision, encode(entry))
        self._keep = keep
        self.size = len(self._body) + (len(self._entry[2]) if self._entry else 0)

    def apply(self, connection: sqlite3.Connection) -> Record:
        """The new record."""
        queue, added = self._queue, int(self._entry is not None)
        key = (queue.queue_id, self._version)
        columns = (queue.status.state.value, queue.settled, queue.status.end_time)
        rows = connection.execute(_UPDATE_BODY, (added, self._body, *key, *columns)).fetchall()
        if not rows:
            rows = connection.execute(_UPDATE_ALL, (added, self._body, *columns, *key)).fetchall()
        if not rows:
            raise Conflict(f"queue {queue.queue_id} has changed since it was read, or is gone")
        ((version, entries),) = rows
        if self._entry is not None:
            connection.execute(_ADD_ENTRY, self._entry)
            if entries > self._keep + self._keep // 4:
                _compact(connection, queue, surplus=entries - self._keep, least=self._keep // 4 + 1)
        return Record(queue, str(version))


class Delete(Write[None]):
    """Remove a queue and its history."""

    operation = "delete"

    def __init__(self, queue_id: str) -> None:
        """It need not exist."""
        self._queue_id = queue_id

    def apply(self, connection: sqlite3.Connection) -> None:
        """Nothing to say."""
        rows = connection.execute("DELETE FROM queues WHERE queue_id = ? RETURNING body", (self._queue_id,)).fetchall()
        for (body,) in rows:
            queue = decode_queue(body)
            connection.executemany(
                "DELETE FROM labels WHERE key = ? AND value = ? AND create_time = ? AND queue_id = ?",
                _label_rows(queue),
            )
            connection.executemany(
                "DELETE FROM targets WHERE target = ? AND create_time = ? AND queue_id = ?", _target_rows(queue)
            )
            connection.execute("DELETE FROM history WHERE queue_id = ?", (self._queue_id,))


class Probe(Write[None]):
    """Change nothing of value: a barrier behind the writes before it or, with `really`, a test that writing works."""

    operation = "probe"

    def __init__(self, *, really: bool) -> None:
        """`really`: write a row."""
        self._really = really

    def apply(self, connection: sqlite3.Connection) -> None:
        """Nothing to say."""
        if self._really:
            connection.execute("UPDATE probe SET tries = tries + 1")


def commit(connection: sqlite3.Connection, writes: Sequence[Write[object]]) -> list[object]:
    """Make all changes in one transaction: the outcome of each, in their order. Nothing is made where it raises.

    New queues are made with as few statements as possible, because after each the interpreter's lock has to be got back
    from a busy event loop. Only where one of them has a conflict, they are made one by one, to see which.
    """
    groups = [(new, list(group)) for new, group in groupby(writes, key=lambda write: isinstance(write, Create))]
    try:
        if len(groups) == 1 and groups[0][0] and len(writes) <= _ROWS_LIMIT:
            return list(_create(connection, writes))  # one statement is a transaction by itself
        connection.execute("BEGIN IMMEDIATE")
        outcomes: list[object] = []
        for new, group in groups:
            if new:
                for start in range(0, len(group), _ROWS_LIMIT):
                    outcomes += _create(connection, group[start : start + _ROWS_LIMIT])
            else:
                outcomes += _one_by_one(connection, group)
    except sqlite3.IntegrityError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        outcomes = _one_by_one(connection, writes)
    connection.execute("COMMIT")
    return outcomes


def _create(connection: sqlite3.Connection, writes: Sequence[Write[object]]) -> list[Record]:
    """Store new queues with one statement. `sqlite3.IntegrityError`: one has a conflict; all is rolled back."""
    creates = [write for write in writes if isinstance(write, Create)]
    rows = ", ".join([_CREATE_ROW] * len(creates))
    connection.execute(f"INSERT OR ROLLBACK {_INTO_NEW} {rows}", [value for create in creates for value in create.row])
    return [create.record for create in creates]


def _one_by_one(connection: sqlite3.Connection, writes: Sequence[Write[object]]) -> list[object]:
    outcomes: list[object] = []
    for write in writes:
        try:
            outcomes.append(write.apply(connection))
        except Conflict as conflict:
            outcomes.append(conflict)
    return outcomes


def _label_rows(queue: Queue) -> list[tuple[str, str, float, str]]:
    spec = queue.spec
    return [(key, value, spec.create_time, spec.queue_id) for key, value in spec.labels.items()]


def _target_rows(queue: Queue) -> list[tuple[str, float, str]]:
    spec = queue.spec
    return [(target, spec.create_time, spec.queue_id) for target in _targets(queue)]


def _targets(queue: Queue) -> list[str]:
    return sorted({job.spec.target for job in queue.jobs})


def _compact(connection: sqlite3.Connection, queue: Queue, *, surplus: int, least: int) -> None:
    """Fold the oldest `surplus` entries, as far as their events are out, into the one after them.

    Nothing is done for fewer than `least`, or every write would do it while events cannot go out. The rest is not read.
    """
    queue_id = queue.queue_id
    rows = connection.execute(
        "SELECT revision, body FROM history WHERE queue_id = ? AND revision <= ? ORDER BY revision LIMIT ?",
        (queue_id, queue.published_revision, surplus),
    ).fetchall()
    if len(rows) < least:
        return
    rows += connection.execute(
        "SELECT revision, body FROM history WHERE queue_id = ? AND revision > ? ORDER BY revision LIMIT 1",
        (queue_id, rows[-1][0]),
    ).fetchall()
    (first,) = compact([decode_entry(body) for _, body in rows], keep=1, published=queue.published_revision)
    connection.execute("DELETE FROM history WHERE queue_id = ? AND revision < ?", (queue_id, first.revision))
    connection.execute(
        "UPDATE history SET body = ? WHERE queue_id = ? AND revision = ?", (encode(first), queue_id, first.revision)
    )
    connection.execute("UPDATE queues SET entries = entries - ? WHERE queue_id = ?", (len(rows) - 1, queue_id))
