"""How queues are found: which index drives a listing, and the statements for it.

A listing walks one index in the order of the answer, newest first, from where the page begins until it is full. A
filter of several terms walks the list of the rarest one, probed up to a bound, and looks the others up for each queue.
So a page costs about its own length, unless every term is common and few queues have them all. Several states are
several walks that are merged lazily: an index has no order across them.

`statements` is pure, so that a test can ask SQLite for the plan of each. `INDEXED BY` and `CROSS JOIN` make SQLite
follow ours, which it might not without statistics.
"""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from queue_manager.server.application.ports import Cursor, QueueFilter
from queue_manager.server.domain.model import QueueState

PROBE_LIMIT: Final = 1000
"""How far a term's list is counted to tell whether it is the rarest."""

UNSETTLED: Final = """SELECT body, version FROM queues INDEXED BY queues_unsettled
    WHERE settled = 0 AND queue_id > ? ORDER BY queue_id LIMIT ?"""
ENDED: Final = """SELECT queue_id FROM queues INDEXED BY queues_ended
    WHERE settled = 1 AND end_time < ? ORDER BY end_time, queue_id LIMIT ?"""

Statement = tuple[str, tuple[object, ...]]
_Walks = tuple[tuple[str, tuple[object, ...]], ...]


@dataclass(frozen=True, slots=True)
class _Term:
    """One condition of a filter: as lists that are walked, and as a check of a queue `q` that another list gave."""

    name: str
    source: str
    """FROM clause. It has the queue as `q`, and the list as `alias`."""
    alias: str
    walks: _Walks
    """WHERE clauses of the lists that together are the term's."""
    check: str = ""
    check_parameters: tuple[object, ...] = ()


def run(connection: sqlite3.Connection, query: QueueFilter, after: Cursor | None, limit: int) -> list[bytes]:
    """The bodies of at most `limit` queues that match, newest first, after the cursor."""
    connection.execute("BEGIN")  # one snapshot for all statements
    try:
        driver = rarest(connection, query)
        walks = [connection.execute(*statement) for statement in statements(query, after, limit, driver)]
        merged = walks[0] if len(walks) == 1 else heapq.merge(*walks, key=_place, reverse=True)
        bodies = [body for _, _, body in islice(merged, limit)]
        for walk in walks:
            walk.close()
        return bodies
    finally:
        connection.execute("COMMIT")


def rarest(connection: sqlite3.Connection, query: QueueFilter) -> str:
    """The name of the term with the shortest list in the filter's time range."""
    terms = _terms(query)
    if len(terms) == 1:
        return terms[0].name
    return min(
        terms, key=lambda term: sum(connection.execute(*probe).fetchone()[0] for probe in _probes(term, query))
    ).name


def drivers(query: QueueFilter) -> Sequence[str]:
    """The names of all terms that a listing could be driven by."""
    return [term.name for term in _terms(query)]


def probes(query: QueueFilter) -> Sequence[Statement]:
    """The statements by which `rarest` decides."""
    return [probe for term in _terms(query) for probe in _probes(term, query)]


def statements(query: QueueFilter, after: Cursor | None, limit: int, driver: str) -> Sequence[Statement]:
    """The walks of a listing, each giving (create_time, queue_id, body), newest first, to be merged."""
    terms = _terms(query)
    chosen = next(term for term in terms if term.name == driver)
    others = [term for term in terms if term is not chosen]
    bounds, bound_parameters = _bounds(query, after, chosen.alias)
    # Taken for certain: SQLite would else expect so few queues of many checks that it would rather sort them.
    checks = "".join(f" AND likelihood({term.check}, 1.0)" for term in others)
    check_parameters = [value for term in others for value in term.check_parameters]
    order = f"{chosen.alias}.create_time DESC, {chosen.alias}.queue_id DESC"
    return [
        (
            f"SELECT q.create_time, q.queue_id, q.body FROM {chosen.source} WHERE {where}{bounds}{checks}"  # noqa: S608
            f" ORDER BY {order} LIMIT ?",
            (*parameters, *bound_parameters, *check_parameters, limit),
        )
        for where, parameters in chosen.walks
    ]


def _probes(term: _Term, query: QueueFilter) -> list[Statement]:
    bounds, bound_parameters = _bounds(query, None, term.alias)
    # The list alone, without the queues it leads to: its entries are what a walk reads first.
    source = term.source.partition(" CROSS JOIN ")[0]
    return [
        (
            f"SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {where}{bounds} LIMIT ?)",  # noqa: S608
            (*parameters, *bound_parameters, PROBE_LIMIT),
        )
        for where, parameters in term.walks
    ]


def _terms(query: QueueFilter) -> list[_Term]:
    """The filter's terms but for the time range, which bounds every list; at least one."""
    terms: list[_Term] = []
    states = sorted(state.value for state in query.states) if len(query.states) < len(QueueState) else []
    # The unary plus keeps SQLite from looking for an index for a mere check.
    among = f"+q.state IN ({', '.join('?' * len(states))})"
    if query.symbol:
        source = "queues q INDEXED BY queues_by_symbol"
        walked = states or sorted(state.value for state in QueueState)
        walks: _Walks = tuple(("q.symbol = ? AND q.state = ?", (query.symbol, state)) for state in walked)
        check = "+q.symbol = ?" + (f" AND {among}" if states else "")
        terms.append(_Term("symbol", source, "q", walks, check, (query.symbol, *states)))
    elif states:
        source = "queues q INDEXED BY queues_by_state"
        walks = tuple(("q.state = ?", (state,)) for state in states)
        terms.append(_Term("state", source, "q", walks, among, tuple(states)))
    if query.target:
        terms.append(_posting("target", "targets", "target = ?", (query.target,)))
    for key, value in query.labels.items():
        if value is None:
            terms.append(_posting(f"label {key}", "labels", "key = ?", (key,), index="labels_by_key"))
        else:
            terms.append(_posting(f"label {key}", "labels", "key = ? AND value = ?", (key, value)))
    return terms or [_Term("time", "queues q INDEXED BY queues_by_time", "q", (("1", ()),))]


def _posting(name: str, table: str, condition: str, parameters: tuple[object, ...], index: str = "") -> _Term:
    hint = f" INDEXED BY {index}" if index else ""
    return _Term(
        name,
        f"{table} d{hint} CROSS JOIN queues q ON q.queue_id = d.queue_id",
        "d",
        (("d." + condition.replace("AND ", "AND d."), parameters),),
        f"EXISTS (SELECT 1 FROM {table} p{hint} WHERE {condition}"  # noqa: S608
        " AND p.create_time = q.create_time AND p.queue_id = q.queue_id)",
        parameters,
    )


def _bounds(query: QueueFilter, after: Cursor | None, alias: str) -> tuple[str, list[object]]:
    """The time range and the cursor as one lower and one upper bound: of two upper ones SQLite would seek to either."""
    clause, parameters = "", list[object]()
    if query.created_after is not None:
        clause += f" AND {alias}.create_time >= ?"
        parameters.append(query.created_after)
    before = query.created_before
    if after is not None and (before is None or after.create_time < before):
        clause += f" AND ({alias}.create_time, {alias}.queue_id) < (?, ?)"
        parameters += [after.create_time, after.queue_id]
    elif before is not None:
        clause += f" AND {alias}.create_time < ?"
        parameters.append(before)
    return clause, parameters


def _place(row: tuple[float, str, bytes]) -> tuple[float, str]:
    return row[0], row[1]
