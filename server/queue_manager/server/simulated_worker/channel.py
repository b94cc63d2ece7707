"""How a simulated worker talks: JSON lines out, commands and SIGTERM in. It waits here and nowhere else."""

from __future__ import annotations

import json
import os
import select
import signal
import time

from queue_manager.server.simulated_worker.settings import Settings

LINE_LIMIT = 65536


class Channel:
    """Standard output and input, and the signal to stop."""

    def __init__(self, settings: Settings) -> None:
        """Take over SIGTERM."""
        self._settings = settings
        self._input = b""
        self.stopped = False
        """It was told to stop, and obeys."""
        self._wakeup, wakeup = os.pipe()
        for fd in (self._wakeup, wakeup):
            os.set_blocking(fd, False)
        if settings.ignore_stop:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        else:
            signal.signal(signal.SIGTERM, self._terminate)
            signal.set_wakeup_fd(wakeup)
        self._waiting = [0, self._wakeup]

    def report(self, status: str, message: str, *, final: bool = False, **details: object) -> None:
        """Send telemetry, unless nothing is ever to be said. Details that are None are left out."""
        if self._settings.outcome == "silent":
            return
        self._send(
            {
                "queue_id": self._settings.queue_id,
                "telemetry_id": self._settings.telemetry_id,
                "producer": self._settings.telemetry_id,
                "symbol": self._settings.symbol,
                "type": self._settings.type,
                "status": status,
                "message": message,
                "finished": final,
                "timestamp": time.time(),
            }
            | {name: value for name, value in details.items() if value is not None}
        )

    def wait(self, timeout: float) -> None:
        """Wait so many seconds, or less if a command or SIGTERM comes; take it in."""
        try:
            ready = select.select(self._waiting, [], [], max(0.0, timeout))[0]
        except OSError:  # started with a closed standard input
            self._waiting.remove(0)
            return
        if self._wakeup in ready:
            os.read(self._wakeup, 4096)
        if 0 in ready:
            self._listen()

    def _terminate(self, *_: object) -> None:
        self.stopped = True

    def _listen(self) -> None:
        try:
            data = os.read(0, LINE_LIMIT)
        except OSError:
            data = b""
        if not data:  # nobody can send commands any more; that is no reason to stop
            self._waiting.remove(0)
            return
        *lines, self._input = (self._input + data)[-LINE_LIMIT:].split(b"\n")
        for line in lines:
            try:
                command = json.loads(line)
            except ValueError:
                continue
            if isinstance(command, dict) and command.get("queue_id") == self._settings.queue_id:
                self._obey(command)

    def _obey(self, command: dict[str, object]) -> None:
        match command.get("command"):
            case "stop":
                self.stopped = self.stopped or not self._settings.ignore_stop
            case "ping" if self._settings.outcome != "silent":
                now = time.time()
                self._send(
                    {
                        "event": "pong",
                        "queue_id": self._settings.queue_id,
                        "symbol": self._settings.symbol,
                        "type": self._settings.type,
                        "producer": self._settings.telemetry_id,
                        "sent_at": now,
                        "ping_ts": command.get("sent_at"),
                        "ponged_at": now,
                    }
                )

    @staticmethod
    def _send(message: dict[str, object]) -> None:
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError:  # nobody reads any more; the work goes on
            pass
