"""What a worker's function is given: whom it works for, and how to tell how far it is."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from queue_manager.worker.environment import Environment

ERROR_LIMIT: Final = 4096
"""Characters of an error that are told: the manager keeps no more, and a broker takes no message of any size."""

Send = Callable[[bytes], Awaitable[None]]


class Worker:
    """Made by `run`."""

    def __init__(self, environment: Environment, send: Send) -> None:
        """`send` sends telemetry."""
        self.environment = environment
        self.has_ended = False
        """It has said its last words."""
        self.silent = False
        """Nothing is said from now on; for those who play a worker that hangs."""
        self.deaf = False
        """No command is heeded from now on; SIGTERM is."""
        self._send = send

    async def started(self, message: str = "", **details: object) -> None:
        """Tell that the work begins. `run` does so."""
        await self.say("started", message, details)

    async def loading(
        self,
        message: str = "",
        *,
        records_written: int | None = None,
        progress: float | None = None,
        **details: object,
    ) -> None:
        """Tell how far the work is: records since the start, and which part of it all is done, 0 to 1."""
        await self.say("loading", message, {"records_written": records_written, "progress": progress, **details})

    async def note(self, error: str) -> None:
        """Tell of an error that does not end the work."""
        error = error[:ERROR_LIMIT]
        await self.say("error", error, {"error_message": error})

    async def finished(self, message: str = "", **details: object) -> None:
        """Tell that all is done. `run` does so when the function returns; nothing is said after it."""
        await self.say("finished", message, details, final=True)

    async def failed(self, error: str, **details: object) -> None:
        """Tell of an error that ends the work. `run` does so when the function raises; nothing is said after it."""
        error = error[:ERROR_LIMIT]
        await self.say("error", error, {"error_message": error, **details}, final=True)

    async def interrupted(self, message: str = "stopped", **details: object) -> None:
        """Tell that the work was cut off by a stop. `run` does so."""
        await self.say("interrupted", message, details)

    async def say(
        self, status: str, message: str = "", details: Mapping[str, object] | None = None, *, final: bool = False
    ) -> None:
        """Send telemetry of any status. Details that are None are left out."""
        if self.silent or self.has_ended:
            return
        self.has_ended = final
        known = {name: value for name, value in (details or {}).items() if value is not None}
        await self._tell({"status": status, "message": message, "finished": final, "timestamp": time.time(), **known})

    async def pong(self, ping: dict[str, object]) -> None:
        """Answer a `ping`. `run` does so."""
        if self.silent:
            return
        now = time.time()
        await self._tell({"event": "pong", "sent_at": now, "ping_ts": ping.get("sent_at"), "ponged_at": now})

    async def _tell(self, fields: dict[str, object]) -> None:
        environment = self.environment
        message = {
            "queue_id": environment.queue_id,
            "telemetry_id": environment.telemetry_id,
            "producer": environment.telemetry_id,
            "symbol": environment.symbol,
            "type": environment.type,
            **fields,
        }
        await self._send(json.dumps(message, separators=(",", ":")).encode())
