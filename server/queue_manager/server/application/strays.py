"""Workers that nobody is in charge of.

An *orphan* is a worker of ours that no record knows: its record was lost, or another manager with another store uses the
same place. It is told of, and ended only where that is wished. A *leftover* is one whose job is over all the same, e.g.
a pod whose Job was deleted without it: nobody would ever end it, so it is ended here. Both must have been so at two
looks, because a runner's list may be a moment old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import Runner
from queue_manager.server.application.records import Records
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import Job
from queue_manager.server.domain.naming import worker_name

log = structlog.get_logger(__name__)

INTERVAL: Final = 30.0
"""Seconds between two looks."""


class Strays:
    """Looks for them for ever while `run` runs."""

    def __init__(
        self,
        records: Records,
        runner: Runner,
        *,
        instruments: Instruments,
        grace: float,
        end_orphans: bool = False,
    ) -> None:
        """`grace`: seconds between SIGTERM and SIGKILL of those that are ended. `end_orphans`: whether orphans are."""
        self.orphans: Sequence[WorkerKey] = ()
        """Those that there are now, by name."""
        self._records = records
        self._runner = runner
        self._instruments = instruments
        self._grace = grace
        self._end_orphans = end_orphans
        self._suspects: set[WorkerKey] = set()

    async def run(self) -> None:
        """Look now and then."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.info("strays not looked for; tried again later", error=error.message)
            except Exception:  # the server is more than this; the next look may find it mended
                log.exception("looking for strays failed")
            await asyncio.sleep(INTERVAL)

    async def look(self) -> None:
        """Look once. Raises `Unavailable`."""
        orphans, leftovers = [], []
        for worker in await self._runner.alive():
            record = await self._records.find(worker.queue_id)
            job = None if record is None else next((job for job in record.queue.jobs if job.name == worker.job), None)
            name = worker_name(worker.queue_id, worker.job, worker.attempt)
            if job is None or worker.attempt > job.status.attempt or worker.name != name:
                orphans.append(worker)
            elif _is_over(job, worker):
                leftovers.append(worker)
        before, self._suspects = self._suspects, {*orphans, *leftovers}
        self._tell(sorted((worker for worker in orphans if worker in before), key=lambda worker: worker.name))
        for worker in [*leftovers, *(orphans if self._end_orphans else ())]:
            if worker in before:
                await self._end(worker)

    async def _end(self, worker: WorkerKey) -> None:
        log.warning("a worker without a job is ended", queue_id=worker.queue_id, worker=worker.name)
        try:
            await self._runner.delete(worker, grace=self._grace)
        except Unavailable as error:  # that of one is no reason to leave the others
            log.warning("it is tried again", worker=worker.name, error=error.message)

    def _tell(self, orphans: Sequence[WorkerKey]) -> None:
        for worker in orphans:
            if worker not in self.orphans:
                log.warning("no record knows this worker", queue_id=worker.queue_id, worker=worker.name)
        self.orphans = orphans
        self._instruments.orphans(len(orphans))


def _is_over(job: Job, worker: WorkerKey) -> bool:
    return job.ended or worker.attempt < job.status.attempt
