"""A simulated worker's life from `started` to its exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import time

from queue_manager.server.simulated_worker.data import topic
from queue_manager.server.simulated_worker.settings import Settings
from queue_manager.server.simulated_worker.work import KINDS, Work
from queue_manager.worker import Exit, Worker

TICK = 0.1
"""Seconds between two steps of work, at most."""


class Life:
    """One run."""

    def __init__(self, settings: Settings) -> None:
        """Nothing has happened yet."""
        self._settings = settings

    async def __call__(self, worker: Worker) -> None:
        """Live. Raises `Exit` with the exit code."""
        settings = self._settings
        async with topic(settings, worker.environment) as data:
            work = KINDS[settings.kind](settings, data)
            try:
                await self._work(worker, work)
                await self._end(worker, work)
            except asyncio.CancelledError:
                await worker.interrupted(records_written=work.records)
                await worker.finished(work.message, records_written=work.records)
                raise

    async def _work(self, worker: Worker, work: Work) -> None:
        settings = self._settings
        turn = {"error_exit_0": 0.5, "crash": 0.5, "hang": 0.5}.get(settings.outcome, 1.0) * settings.duration
        began = time.monotonic()
        next_report = began + settings.interval
        while True:
            now = time.monotonic()
            elapsed = now - began
            await work.advance(elapsed if settings.endless else min(elapsed, turn))
            if not settings.endless and elapsed >= turn:
                return
            if now >= next_report:
                await worker.loading(
                    work.message, records_written=work.records, progress=work.progress, extra=work.extra or None
                )
                next_report = max(next_report + settings.interval, now)
            until = next_report if settings.endless else min(next_report, began + turn)
            await asyncio.sleep(min(TICK, max(0.0, until - now)))

    async def _end(self, worker: Worker, work: Work) -> None:
        settings = self._settings
        match settings.outcome:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                await self._hang(worker)
            case "error_exit_0":
                await worker.failed("the simulated error")
                raise Exit(settings.exit_code)
        if settings.exit_code:
            text = f"failed with exit code {settings.exit_code}, as it was told to"
            await worker.failed(text, records_written=work.records)
            raise Exit(settings.exit_code)
        await worker.finished(work.message, records_written=work.records, progress=work.progress)
        if settings.outcome == "linger":
            await asyncio.Event().wait()

    async def _hang(self, worker: Worker) -> None:
        worker.silent = worker.deaf = True
        if not self._settings.ignore_stop:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
        await asyncio.Event().wait()
