"""A simulated worker's life from `started` to its exit code."""

from __future__ import annotations

import os
import signal
import time

from queue_manager.server.simulated_worker.channel import Channel
from queue_manager.server.simulated_worker.settings import Settings
from queue_manager.server.simulated_worker.work import KINDS

TICK = 0.1
"""Seconds between two steps of work, at most."""


class Life:
    """One run."""

    def __init__(self, settings: Settings, channel: Channel) -> None:
        """Nothing has happened yet."""
        self._settings = settings
        self._channel = channel
        self._work = KINDS[settings.kind](settings)

    def run(self) -> int:
        """Live; answers the exit code."""
        settings, channel, work = self._settings, self._channel, self._work
        channel.report("started", f"simulated {settings.kind} started", records_written=0)
        turn = {"error_exit_0": 0.5, "crash": 0.5, "hang": 0.5}.get(settings.outcome, 1.0) * settings.duration
        began = time.monotonic()
        next_report = began + settings.interval
        while not channel.stopped:
            now = time.monotonic()
            elapsed = now - began
            work.advance(elapsed if settings.endless else min(elapsed, turn))
            if not settings.endless and elapsed >= turn:
                return self._end()
            if now >= next_report:
                self._report_loading()
                next_report = max(next_report + settings.interval, now)
            until = next_report if settings.endless else min(next_report, began + turn)
            channel.wait(min(TICK, until - now))
        return self._interrupted()

    def _report_loading(self) -> None:
        work = self._work
        self._channel.report(
            "loading",
            work.message,
            records_written=work.records,
            progress=work.progress,
            extra=work.extra or None,
        )

    def _end(self) -> int:
        settings, channel, work = self._settings, self._channel, self._work
        match settings.outcome:
            case "crash":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                self._hang()
            case "error_exit_0":
                channel.report("error", "the simulated error", final=True, error_message="the simulated error")
                return settings.exit_code
        if settings.exit_code:
            text = f"failed with exit code {settings.exit_code}, as it was told to"
            channel.report("error", text, final=True, error_message=text, records_written=work.records)
            return settings.exit_code
        channel.report("finished", work.message, final=True, records_written=work.records, progress=work.progress)
        if settings.outcome == "linger":
            while not channel.stopped:
                channel.wait(3600.0)
        return 0

    def _interrupted(self) -> int:
        self._channel.report("interrupted", "stopped", records_written=self._work.records)
        self._channel.report("finished", self._work.message, final=True, records_written=self._work.records)
        return 0

    def _hang(self) -> None:
        if not self._settings.ignore_stop:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            time.sleep(3600.0)
