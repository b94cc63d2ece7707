"""What the core has recorded of queues and jobs, and waiting until it is as expected.

A listener of the core's records: every change wakes whoever waits. Waits are bounded; errors name what there is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Final

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.history import Entry, Event
from queue_manager.server.domain.launch import worker_key
from queue_manager.server.domain.model import Job, JobState, Queue
from queue_manager.server.domain.observation import Phase
from queue_manager.server.embedded.runner import ScriptedRunner, Worker

PATIENCE: Final = 10.0
"""Seconds that anything may take. It takes milliseconds, so more means a fault of the core."""
NAMED: Final = 20
"""How many queues an error names at most."""
COMING: Final = frozenset({JobState.LAUNCHING, JobState.STARTING})
"""States of a job whose worker will soon run."""


class Recorded:
    """Raises `LookupError` for a queue or job that is not there, `RuntimeError` for one that is in another state."""

    def __init__(self, core: Core, runner: ScriptedRunner) -> None:
        """The core, and what runs its workers."""
        self._core = core
        self._runner = runner
        self._news = asyncio.Event()
        core.records.subscribe(self)

    async def queue(self, queue_id: str) -> Queue:
        """The queue as it stands."""
        record = await self._core.records.find(queue_id)
        if record is not None:
            return record.queue
        newest, _ = await self._core.service.list(QueueFilter(), after=None, limit=NAMED)
        raise LookupError(f"there is no queue {queue_id!r}; there are {listed(queue.queue_id for queue in newest)}")

    async def job(self, queue_id: str, job: str) -> tuple[Queue, Job]:
        """A queue and one of its jobs, as they stand."""
        queue = await self.queue(queue_id)
        found = queue.job(job)
        if found is None:
            raise LookupError(f"queue {queue_id} has no job {job!r}; it has {listed(one.name for one in queue.jobs)}")
        return queue, found

    async def running(self, queue_id: str, job: str) -> tuple[Job, Worker]:
        """A job and its worker, once it is recorded that that runs. One that is not on its way there is an error."""
        async with patience(f"job {job!r} of {queue_id} to run"):
            while True:
                news = self._news
                queue, found = await self.job(queue_id, job)
                worker = self._runner.worker(worker_key(queue, found))
                phase = Phase.ABSENT if worker is None else worker.phase
                state = found.status.state
                if worker is not None and phase is Phase.RUNNING and state is JobState.RUNNING:
                    return found, worker
                if state not in COMING or phase is Phase.WAITING:
                    raise RuntimeError(self._why_not(queue, found, worker))
                await news.wait()

    async def until(self, worker: Worker, so: Callable[[Job], bool]) -> None:
        """Wait until the worker's job is recorded like that."""
        key = worker.key
        async with patience(f"the core to take in what became of {key.job!r} of {key.queue_id}"):
            while True:
                news = self._news
                _, found = await self.job(key.queue_id, key.job)
                if so(found):
                    return
                await news.wait()

    # --- `records.Listener` ---

    def changed(self, queue: Queue, event: Event, entry: Entry | None) -> None:  # noqa: ARG002 - see Listener
        """Something has been recorded."""
        news, self._news = self._news, asyncio.Event()
        news.set()

    def reloaded(self, queue: Queue) -> None:
        """Nobody else writes this store."""

    def _why_not(self, queue: Queue, job: Job, worker: Worker | None) -> str:
        status = job.status
        why = f"job {job.name!r} of {queue.queue_id} is {status.state}"
        if worker is not None and worker.waits is not None:
            why += ", because its launch is held: release it first"
        elif status.reason is not None and status.reason.message:
            why += f" ({status.reason.message})"
        elif worker is not None and not job.ended:
            why += ", and its worker has just ended"
        return f"{why}; running: {listed(one.key.job for one in self._runner.running(queue.queue_id))}"


@asynccontextmanager
async def patience(what: str) -> AsyncIterator[None]:
    """A bound on a wait that ought to be short."""
    try:
        async with asyncio.timeout(PATIENCE):
            yield
    except TimeoutError as e:
        raise TimeoutError(f"waited {PATIENCE:g} s in vain for {what}") from e


def listed(names: Iterable[str]) -> str:
    """Names for an error."""
    return ", ".join(names) or "none"
