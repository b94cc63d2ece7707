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

GIVE_UP_AFTER: Final = 5
"""Queues in a row that cannot be removed because something is unavailable; then it most likely is so for all."""


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
        self._left: set[str] = set()
        """Queues that could not be removed when that was tried last."""

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
        tried: set[str] = set()
        in_a_row = 0
        while True:
            before = self._clock.now() - self._keep
            ids = await self._store.ended_before(before, limit=PAGE + len(self._left))
            if tried.issuperset(ids):
                return
            for queue_id in sorted(ids, key=self._left.__contains__):  # those that could be removed come first
                if queue_id in tried:
                    continue
                tried.add(queue_id)
                self._left.add(queue_id)
                try:
                    await self._remove(queue_id)
                except Unavailable as error:
                    in_a_row += 1
                    if in_a_row == GIVE_UP_AFTER:
                        raise
                    log.warning("an old queue stays until later", queue_id=queue_id, error=error.message)
                except Exception:  # a record that cannot be read keeps no other
                    log.exception("an old queue cannot be removed", queue_id=queue_id)
                else:
                    in_a_row = 0
                    self._left.discard(queue_id)

    async def _remove(self, queue_id: str) -> None:
        record = await self._records.find(queue_id)
        if record is None:
            return
        # What is outside goes first: a record that is still there is tried again, an orphan never would be.
        await self._runner.forget(list(_workers(record.queue)))
        await self._bus.forget(record.queue)
        await self._records.delete(queue_id)
        log.info("old queue removed", queue_id=queue_id)
