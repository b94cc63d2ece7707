"""Removing queues that ended longer ago than they are kept, with what the runner and the bus still keep of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import structlog
from msgspec.structs import replace

from queue_manager.server.application.ports import Bus, Clock, Runner, StateStore
from queue_manager.server.application.records import Records
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey, worker_key
from queue_manager.server.domain.model import Queue

log = structlog.get_logger(__name__)

LONGEST_PAUSE: Final = 3600.0
PAGE: Final = 100


def _workers(queue: Queue) -> Iterator[WorkerKey]:
    """The workers that a queue ever had, of all attempts."""
    for job in queue.jobs:
        for attempt in range(1, job.status.attempt + 1):
            yield worker_key(queue, replace(job, status=replace(job.status, attempt=attempt)))


class Retention:
    """Looks for old queues once an hour, or ten times within `keep` where that is shorter."""

    def __init__(
        self, records: Records, store: StateStore, runner: Runner, bus: Bus, *, clock: Clock, keep: float
    ) -> None:
        """`keep`: for how long after their end queues are kept, in seconds."""
        self._records = records
        self._store = store
        self._runner = runner
        self._bus = bus
        self._clock = clock
        self._keep = keep

    async def run(self) -> None:
        """Remove old queues for ever."""
        while True:
            try:
                await self._sweep()
            except Unavailable as error:
                log.warning("old queues not removed; tried again later", error=error.message)
            except Exception:  # the server is more than this
                log.exception("removing old queues failed")
            await asyncio.sleep(min(LONGEST_PAUSE, max(1.0, self._keep / 10)))

    async def _sweep(self) -> None:
        left: set[str] = set()
        while True:
            ids = await self._store.ended_before(self._clock.now() - self._keep, limit=PAGE + len(left))
            if left.issuperset(ids):
                return
            for queue_id in ids:
                if queue_id in left:
                    continue
                try:
                    await self._remove(queue_id)
                except Unavailable:
                    raise
                except Exception:  # a record that cannot be read keeps no other
                    log.exception("an old queue cannot be removed", queue_id=queue_id)
                    left.add(queue_id)

    async def _remove(self, queue_id: str) -> None:
        record = await self._records.find(queue_id)
        if record is None:
            return
        # What is outside goes first: a record that is still there is tried again, an orphan never would be.
        await self._runner.forget(list(_workers(record.queue)))
        await self._bus.forget(record.queue)
        await self._records.delete(queue_id)
        log.info("old queue removed", queue_id=queue_id)
