"""The `StateStore` port in a dict: for servers that live as long as a test, and what the other stores are compared with.

It answers at once and never fails. Nothing survives it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from queue_manager.server.application.ports import Cursor, QueueFilter, Record
from queue_manager.server.domain.errors import Conflict
from queue_manager.server.domain.history import Entry, compact
from queue_manager.server.domain.model import Queue


class MemoryStore:
    """Queues in memory."""

    name = "memory"
    exclusive = True

    def __init__(self, *, keep: int = 512) -> None:
        """`keep`: history entries a queue; up to a quarter more are kept at times."""
        self._keep = keep
        self._records: dict[str, Record] = {}
        self._history: dict[str, list[Entry]] = {}
        self._by_request: dict[str, str] = {}
        self._versions = count(1)  # never used twice, so a version of a deleted queue is none of a later one's

    async def create(self, queue: Queue, entry: Entry) -> Record:
        """See `StateStore.create`."""
        known = await self.get_by_request_id(queue.spec.request_id)
        if known is not None:
            return known
        if queue.queue_id in self._records:
            raise Conflict(f"queue {queue.queue_id} exists")
        record = self._records[queue.queue_id] = Record(queue, str(next(self._versions)))
        self._history[queue.queue_id] = [entry]
        if queue.spec.request_id:
            self._by_request[queue.spec.request_id] = queue.queue_id
        return record

    async def get(self, queue_id: str) -> Record | None:
        """See `StateStore.get`."""
        return self._records.get(queue_id)

    async def get_by_request_id(self, request_id: str) -> Record | None:
        """See `StateStore.get_by_request_id`."""
        queue_id = self._by_request.get(request_id)
        return None if queue_id is None else self._records[queue_id]

    async def replace(self, queue: Queue, *, version: str, entry: Entry | None) -> Record:
        """See `StateStore.replace`."""
        stored = self._records.get(queue.queue_id)
        if stored is None or stored.version != version:
            raise Conflict(f"queue {queue.queue_id} has changed since it was read, or is gone")
        record = self._records[queue.queue_id] = Record(queue, str(next(self._versions)))
        if entry is not None:
            entries = self._history[queue.queue_id]
            entries.append(entry)
            if len(entries) > self._keep + self._keep // 4:
                self._history[queue.queue_id] = compact(entries, self._keep, published=queue.published_revision)
        return record

    async def list(self, query: QueueFilter, *, after: Cursor | None, limit: int) -> Sequence[Queue]:
        """See `StateStore.list`."""
        found = [record.queue for record in self._records.values() if matches(record.queue, query)]
        found.sort(key=_place, reverse=True)
        if after is not None:
            found = [queue for queue in found if _place(queue) < (after.create_time, after.queue_id)]
        return found[:limit]

    async def unsettled(self, *, after: str, limit: int) -> Sequence[Record]:
        """See `StateStore.unsettled`."""
        found = (queue_id for queue_id, record in self._records.items() if not record.queue.settled)
        return [self._records[queue_id] for queue_id in sorted(found) if queue_id > after][:limit]

    async def history(self, queue_id: str) -> Sequence[Entry]:
        """See `StateStore.history`."""
        return list(self._history.get(queue_id, ()))

    async def ended_before(self, time: float, *, limit: int) -> Sequence[str]:
        """See `StateStore.ended_before`."""
        found = [
            (queue.status.end_time, queue.queue_id)
            for queue in (record.queue for record in self._records.values())
            if queue.settled and queue.status.end_time is not None and queue.status.end_time < time
        ]
        return [queue_id for _, queue_id in sorted(found)][:limit]

    async def delete(self, queue_id: str) -> None:
        """See `StateStore.delete`."""
        record = self._records.pop(queue_id, None)
        if record is not None:
            del self._history[queue_id]
            self._by_request.pop(record.queue.spec.request_id, None)

    async def check(self) -> None:
        """See `StateStore.check`."""


def matches(queue: Queue, query: QueueFilter) -> bool:
    """Whether every field of the filter that is set holds."""
    spec = queue.spec
    return (
        (not query.states or queue.status.state in query.states)
        and (not query.symbol or spec.symbol == query.symbol)
        and (not query.target or any(job.spec.target == query.target for job in queue.jobs))
        and all(
            key in spec.labels and (value is None or spec.labels[key] == value) for key, value in query.labels.items()
        )
        and (query.created_after is None or spec.create_time >= query.created_after)
        and (query.created_before is None or spec.create_time < query.created_before)
    )


def _place(queue: Queue) -> tuple[float, str]:
    return queue.spec.create_time, queue.queue_id
