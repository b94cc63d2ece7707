"""Says what becomes of the launches from now on, of one job or of all. What runs already is `director`'s.

A job's own script goes before that for all jobs; both hold until `release`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import Reason, StateReason
from queue_manager.server.embedded.director import Director, check_count, check_failure
from queue_manager.server.embedded.recorded import COMING, Recorded, listed
from queue_manager.server.embedded.runner import Hold, Refuse, Run, Script, ScriptedRunner, Worker


class Launches:
    """`job` None: every job that has no script of its own. Raises `LookupError` for a name that no job ever has."""

    def __init__(self, catalogue: Catalogue, recorded: Recorded, runner: ScriptedRunner, director: Director) -> None:
        """The director has workers finish or fail that are to do so by themselves."""
        self._targets = sorted(catalogue.targets)
        self._recorded = recorded
        self._runner = runner
        self._director = director
        self._playing: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """No worker does anything by itself any more."""
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)

    async def hold(self, job: str | None, *, message: str) -> None:
        """Workers are accepted and wait: the job is STARTING, and `message` says why."""
        self._set(job, Hold(StateReason(code=Reason.UNSCHEDULABLE, message=message)))

    async def refuse(self, job: str | None, *, message: str) -> None:
        """Workers are refused for good: the job is FAILED, and `message` says why."""
        self._set(job, Refuse(StateReason(code=Reason.CONFIG_ERROR, message=message)))

    async def finish(self, job: str | None, *, records_written: int | None, message: str | None) -> None:
        """Workers finish as soon as they run."""
        check_count(records_written)

        def then(worker: Worker) -> None:
            key = worker.key
            self._play(self._director.finish(key.queue_id, key.job, records_written=records_written, message=message))

        self._set(job, Run(then))

    async def fail(self, job: str | None, *, exit_code: int, message: str | None) -> None:
        """Workers fail as soon as they run."""
        check_failure(exit_code, message)

        def then(worker: Worker) -> None:
            key = worker.key
            self._play(self._director.fail(key.queue_id, key.job, exit_code=exit_code, message=message))

        self._set(job, Run(then))

    async def release(self, job: str | None) -> None:
        """What is held runs, and workers run again when they are launched; comes back when that is recorded."""
        self._set(job, Run())
        if job is None:
            self._runner.scripts.clear()
        held = self._runner.held(job)
        for worker in held:
            self._runner.begin(worker)
        for worker in held:
            await self._recorded.until(worker, lambda found: found.status.state not in COMING)

    def _set(self, job: str | None, script: Script) -> None:
        if job is not None and job not in self._targets and job.rpartition("-")[0] not in self._targets:
            raise LookupError(
                f"no job is ever named {job!r}: jobs have their targets' names, which are {listed(self._targets)}, "
                "and from the second of the same target on -2, -3, … behind it"
            )
        self._runner.scripts[job] = script

    def _play(self, act: Coroutine[Any, Any, None]) -> None:
        """Have it done once the launch is recorded. A worker that has been ended meanwhile does nothing any more."""

        async def play() -> None:
            with suppress(RuntimeError):
                await act

        task = asyncio.create_task(play(), name="scripted worker")
        self._playing.add(task)
        task.add_done_callback(self._playing.discard)
