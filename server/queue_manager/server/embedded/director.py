"""Says what workers that run do now, and comes back when the core has taken it in.

Each call waits for what it needs (a worker that is being launched) and for what follows from it (the job's new state),
so that whoever reads the queue afterwards sees it. It runs in the core's event loop. What becomes of launches to come
is in `launches`.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Clock, Message
from queue_manager.server.domain.model import Job, Lifetime
from queue_manager.server.domain.rules import feeders
from queue_manager.server.embedded.bus import ScriptedBus
from queue_manager.server.embedded.recorded import Recorded, listed, patience
from queue_manager.server.embedded.runner import ScriptedRunner, Worker

Word = Literal["started", "loading", "finished", "interrupted", "error"]
"""What a worker can say of itself: the `status` of its telemetry."""
WORDS: Final = get_args(Word)
MOST_RECORDS: Final = 2**63 - 1


class Director:
    """Raises `LookupError` and `RuntimeError` as `Recorded` does."""

    def __init__(
        self, core: Core, recorded: Recorded, *, runner: ScriptedRunner, bus: ScriptedBus, clock: Clock
    ) -> None:
        """The core, and the parts of it that can be directed."""
        self._core = core
        self._recorded = recorded
        self._runner = runner
        self._bus = bus
        self._clock = clock

    async def report(
        self,
        queue_id: str,
        job: str,
        *,
        status: Word = "loading",
        records_written: int | None = None,
        progress: float | None = None,
        message: str | None = None,
    ) -> None:
        """The worker says something about its work. `progress`: 0 to 1. Raises `ValueError` for what is no such value."""
        if status not in WORDS:
            raise ValueError(f"status is one of {', '.join(WORDS)}, not {status!r}")
        if progress is not None and not 0 <= progress <= 1:
            raise ValueError(f"progress is from 0 to 1, not {progress}")
        check_count(records_written)
        found, worker = await self._recorded.running(queue_id, job)
        await self._say(found, worker, status, records_written=records_written, progress=progress, message=message)

    async def finish(
        self, queue_id: str, job: str, *, records_written: int | None = None, message: str | None = None
    ) -> None:
        """The worker says that it has finished, and exits with 0."""
        check_count(records_written)
        found, worker = await self._recorded.running(queue_id, job)
        await self._say(found, worker, "finished", records_written=records_written, message=message)
        await self._end(worker, 0)

    async def fail(self, queue_id: str, job: str, *, exit_code: int = 1, message: str | None = None) -> None:
        """The worker reports an error, where there is a message, and exits."""
        check_failure(exit_code, message)
        found, worker = await self._recorded.running(queue_id, job)
        if message is not None:
            await self._say(found, worker, "error", message=message)
        await self._end(worker, exit_code)

    async def lose(self, queue_id: str, job: str) -> None:
        """The worker is gone, as if somebody had deleted it behind the manager's back."""
        _, worker = await self._recorded.running(queue_id, job)
        self._runner.lose(worker)
        await self._recorded.until(worker, lambda found: found.ended)

    async def drain(self, queue_id: str, job: str) -> None:
        """The worker, one that reads until it is ended, has read everything: the manager ends it."""
        found, worker = await self._recorded.running(queue_id, job)
        if found.spec.lifetime is not Lifetime.DRAINS:
            raise RuntimeError(
                f"job {job!r} drains nothing: a worker of type {found.spec.type} is {found.spec.lifetime}"
            )
        queue = await self._recorded.queue(queue_id)
        feeding = [other.name for other in feeders(queue, found) if not other.ended]
        if feeding:
            raise RuntimeError(f"job {job!r} is still fed by {listed(feeding)}; let that end first")
        self._bus.drain(queue_id, job)
        self._core.controller.work.add(queue_id)
        await self._recorded.until(worker, lambda found: found.ended)

    async def ignore_stop(self, queue_id: str, job: str) -> None:
        """From now on the worker ignores the stop command and SIGTERM; only SIGKILL ends it."""
        _, worker = await self._recorded.running(queue_id, job)
        worker.stubborn = True

    async def _say(
        self,
        job: Job,
        worker: Worker,
        status: Word,
        *,
        records_written: int | None = None,
        progress: float | None = None,
        message: str | None = None,
    ) -> None:
        """Telemetry, in the form of contracts section 5, taken in and stored."""
        now = self._clock.now()
        fields = {"records_written": records_written, "progress": progress, "message": message}
        value = {
            "telemetry_id": job.spec.telemetry_id,
            "queue_id": worker.key.queue_id,
            "type": job.spec.type,
            "status": status,
            "timestamp": now,
            **{name: field for name, field in fields.items() if field is not None},
        }
        worker.said += 1
        said = Message(msgspec.json.encode(value), now, source=f"scripted/{worker.key.name}", position=worker.said)
        async with patience(f"what {job.name!r} said to be stored"):
            await self._bus.deliver(said)

    async def _end(self, worker: Worker, exit_code: int) -> None:
        self._runner.end(worker, exit_code)
        await self._recorded.until(worker, lambda found: found.ended)


def check_failure(exit_code: int, message: str | None) -> None:
    """Raise `ValueError` for what is no failure."""
    if not 0 <= exit_code <= 255:
        raise ValueError(f"an exit code is from 0 to 255, not {exit_code}")
    if exit_code == 0 and not message:
        raise ValueError("a worker that exits with 0 has failed only where it reports an error: give a message")


def check_count(records_written: int | None) -> None:
    """Raise `ValueError` for what is no number of records."""
    if records_written is not None and not 0 <= records_written <= MOST_RECORDS:
        raise ValueError(f"records_written is from 0 to {MOST_RECORDS}, not {records_written}")
