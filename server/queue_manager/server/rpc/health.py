"""The standard health service, with the services that probes and load balancers ask for.

`""` and `queue_manager.v1.QueueManager` and `readiness`: whether calls would succeed now. `startup`: whether its records
have been loaded; a restart would not help against what else may be down. `liveness`: whether the process works at all.
The standard answer has no room for a reason, so where it is NOT_SERVING, the trailing metadata `x-unready-<part>` of
`Check` names what is down and why; `x-parts` names all there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog
from grpc_health.v1 import health, health_pb2

from queue_manager.server.application.diagnosis import RECORDS
from queue_manager.server.rpc.calls import Context
from queue_manager.v1 import service_pb2

log = structlog.get_logger(__name__)

SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["QueueManager"].full_name
READINESS: Final = ("", SERVICE, "readiness")
PARTS: Final = ("records", "store", "runner", "bus")
"""What may be down. A server that starts or ends says `server` besides."""
ALL_PARTS: Final = ("x-parts", ",".join(PARTS))
"""The trailing metadata that names them."""
UNREADY: Final = "x-unready-"
"""Begins the trailing metadata that say which parts are down, and why."""


class Health(health.aio.HealthServicer):
    """Keeps the statuses up to date while `run` runs."""

    def __init__(self, problems: Callable[[], Awaitable[dict[str, str]]], *, interval: float = 2.0) -> None:
        """`problems` answers which parts are down and why; it is asked every `interval` seconds."""
        super().__init__()
        self._problems = problems
        self._interval = interval
        self._known: dict[str, str] = {"server": "starting"}
        self._has_started = False
        self._closed = False
        self._refreshing = asyncio.Lock()

    @property
    def ready(self) -> bool:
        """Whether nothing that is needed is down."""
        return not self._known

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> health_pb2.HealthCheckResponse:  # noqa: N802
        """See the health protocol."""
        if request.service != "liveness":
            down = ((f"{UNREADY}{part}", _ascii(why)) for part, why in self._known.items())
            context.set_trailing_metadata((ALL_PARTS, *down))
        response: health_pb2.HealthCheckResponse = await super().Check(request, context)
        return response

    async def refresh(self) -> None:
        """Ask what is down, and set the statuses. Call it once before the server starts."""
        async with self._refreshing:  # an answer that took long must not undo a newer one
            if not self._closed:
                await self._refresh()

    async def _refresh(self) -> None:
        known = await self._problems()
        if self._closed:  # while it was asked
            return
        if known != self._known:
            log.info("ready" if not known else "not ready", **known)
        self._known = known
        for service in READINESS:
            await self.set(service, NOT_SERVING if known else SERVING)
        self._has_started = self._has_started or RECORDS not in known
        await self.set("startup", SERVING if self._has_started else NOT_SERVING)
        await self.set("liveness", SERVING)

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(self._interval)

    async def close(self) -> None:
        """From now on NOT_SERVING, for good."""
        self._closed = True
        self._known = {"server": "shutting down"}
        await self.enter_graceful_shutdown()


def _ascii(text: str) -> str:
    """Metadata values are printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:256]
