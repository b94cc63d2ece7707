"""The changes that the writer can make, each with its own outcome: what `apply` returns, or the `Conflict` it raises.

`apply` runs in the writer's thread, inside a transaction that it shares with others. It raises `Conflict` before it has
changed anything, so that the others are not concerned; any other exception undoes the whole transaction. What can be
computed before (encoding above all) is done where the object is made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
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
from queue_manager.server.adapters.sqlite.schema import CONFLICT
from queue_manager.server.application.ports import Record
from queue_manager.server.domain.errors import Conflict
from queue_manager.server.domain.history import Entry, compact
from queue_manager.server.domain.model import Queue

T_co = TypeVar("T_co", covariant=True)

_ROW: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROWS_LIMIT: Final = 64
"""Forms in a statement at most, so that the statements for all numbers of them stay prepared."""
_VERSIONS: Final = Random()  # noqa: S311 - no secret; not the system's, which gives the interpreter's lock away


class Write(Generic[T_co]):
    """A change to the file."""

    operation: str
    size: int = 0
    """Bytes that it holds in memory while it waits, about."""

    def apply(self, connection: sqlite3.Connection) -> T_co:
        """Make the change, or raise `Conflict` without having made any."""
        raise NotImplementedError


class Store(Write[Record]):
    """Store a form of a queue: one row for `schema.STORING`."""

    row: tuple[str | int | float | bytes | None, ...]
    record: Record
    crowded = False
    """Its queue's history may have become too long."""

    def apply(self, connection: sqlite3.Connection) -> Record:
        """The record of this form, or of the one that makes it unnecessary."""
        try:
            _store(connection, [self])
        except sqlite3.IntegrityError as error:
            return self.refused(connection, error)
        return self.record

    def refused(self, connection: sqlite3.Connection, error: sqlite3.IntegrityError) -> Record:
        """What is to be answered, or raised, where the row was not taken."""
        raise NotImplementedError


class Create(Store):
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
            *(spec.queue_id, None, version, status.state.value, queue.settled, status.end_time, body),
            *(entry.revision, entry_body, spec.create_time, spec.symbol, spec.request_id),
            *(encode_json(spec.labels), encode_json(_targets(queue))),
        )
        self.size = len(body) + len(entry_body)

    def refused(self, connection: sqlite3.Connection, error: sqlite3.IntegrityError) -> Record:
        """The record of the older queue that has the request id. Raises `Conflict` where the queue id is taken."""
        spec = self.record.queue.spec
        if not str(error).startswith("UNIQUE constraint failed: queues."):
            raise error  # what belongs to a queue that is not there
        if spec.request_id:
            row = connection.execute(
                "SELECT body, version FROM queues WHERE request_id = ? AND request_id <> ''", (spec.request_id,)
            ).fetchone()
            if (known := decode_record(row)) is not None:
                return known
        raise Conflict(f"queue {spec.queue_id} exists") from error


class Replace(Store):
    """Replace a queue whose version is known."""

    operation = "replace"

    def __init__(self, queue: Queue, version: str, entry: Entry | None, *, keep: int) -> None:
        """`keep`: how many entries its history is cut to when it has a quarter more."""
        before = int(version) if version.isdecimal() and len(version) <= 18 else -1
        status, body = queue.status, encode(queue)
        added = (None, None) if entry is None else (entry.revision, encode(entry))
        self.record = Record(queue, str(before + 1))
        self.row = (
            *(queue.queue_id, before, before + 1, status.state.value, queue.settled, status.end_time, body),
            *(*added, None, None, None, None, None),
        )
        self.size = len(body) + len(added[1] or b"")
        self._keep = keep
        self._most = keep + keep // 4
        self.crowded = entry is not None and entry.revision > self._most  # it has at most one for each revision

    def apply(self, connection: sqlite3.Connection) -> Record:
        """The new record."""
        record = super().apply(connection)
        if self.crowded:
            self._compact(connection)
        return record

    def refused(self, _: sqlite3.Connection, error: sqlite3.IntegrityError) -> Record:
        """Raises `Conflict` where there is no such version."""
        if str(error) != CONFLICT:
            raise error
        raise Conflict(f"queue {self.record.queue.queue_id} has changed since it was read, or is gone") from error

    def _compact(self, connection: sqlite3.Connection) -> None:
        queue, keep = self.record.queue, self._keep
        (entries,) = connection.execute("SELECT entries FROM queues WHERE queue_id = ?", (queue.queue_id,)).fetchone()
        if entries > self._most:
            _compact(connection, queue, surplus=entries - keep, least=keep // 4 + 1)


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

    Queues are stored with as few statements as possible, because after each the interpreter's lock has to be got back
    from a busy event loop. Only where one of them has a conflict, they are stored one by one, to see which.
    """
    groups = [(together, list(group)) for together, group in groupby(writes, key=_may_be_stored_with_others)]
    if len(groups) == 1 and groups[0][0] and len(writes) <= _ROWS_LIMIT:
        with suppress(sqlite3.IntegrityError):
            return _store(connection, writes)  # one statement is a transaction by itself
    connection.execute("BEGIN IMMEDIATE")
    outcomes: list[object] = []
    for together, group in groups:
        if together:
            for start in range(0, len(group), _ROWS_LIMIT):
                outcomes += _together(connection, group[start : start + _ROWS_LIMIT])
        else:
            outcomes += _one_by_one(connection, group)
    connection.execute("COMMIT")
    return outcomes


def _may_be_stored_with_others(write: Write[object]) -> bool:
    return isinstance(write, Store) and not write.crowded


def _store(connection: sqlite3.Connection, writes: Sequence[Write[object]]) -> list[object]:
    """Store forms with one statement. `sqlite3.IntegrityError`: one has a conflict, and none is stored."""
    forms = [write for write in writes if isinstance(write, Store)]
    statement = "INSERT INTO forms VALUES " + ", ".join([_ROW] * len(forms))  # noqa: S608 - question marks alone
    connection.execute(statement, [value for form in forms for value in form.row])
    return [form.record for form in forms]


def _together(connection: sqlite3.Connection, writes: Sequence[Write[object]]) -> list[object]:
    try:
        return _store(connection, writes)
    except sqlite3.IntegrityError:
        return _one_by_one(connection, writes)


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
