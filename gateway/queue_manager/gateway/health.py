"""How the gateway and the server behind it are, for probes: `grpc.health.v1` as JSON with each part by name.

`live` is about this process alone: a server that is away is no reason to restart its gateway. `ready` and `startup` are
what the server's health service says; every part that it has stands by name, those that are down with the reason.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import msgspec
from grpc_health.v1 import health_pb2

from queue_manager.gateway.status import Failed
from queue_manager.gateway.upstream import Upstream, told_of_closing

LIVE: Final = "live"
PROBES: Final = {LIVE: "", "ready": "readiness", "startup": "startup"}
"""What a path's last part asks the health service for; empty: nothing."""
CHECK: Final = "/grpc.health.v1.Health/Check"
ALL_PARTS: Final = "x-parts"
"""The trailing metadata that names the parts that there are, joined by commas."""
UNREADY: Final = "x-unready-"
"""Begins the trailing metadata that say which parts are down, and why."""
PATIENCE: Final = 3.0
"""Seconds for an answer."""
SERVING: Final = "SERVING"
NOT_SERVING: Final = "NOT_SERVING"


async def look(probe: str, upstream: Upstream) -> tuple[bool, bytes]:
    """Whether it is well, and the JSON that says so."""
    parts = {"gateway": _part(SERVING)}
    well = True
    if service := PROBES[probe]:
        try:
            status, metadata = await _ask(service, upstream)
        except Failed as closing:  # nothing is known of the server then
            return False, _told(well=False, parts={"gateway": _part(NOT_SERVING, str(closing))})
        down = {key.removeprefix(UNREADY): why for key, why in metadata.items() if key.startswith(UNREADY)}
        parts["server"] = _part(SERVING if down else status)
        parts |= {name: _part(SERVING) for name in metadata.get(ALL_PARTS, "").split(",") if name}
        parts |= {name: _part(NOT_SERVING, why) for name, why in down.items()}
        well = status == SERVING
    return well, _told(well=well, parts=parts)


async def _ask(service: str, upstream: Upstream) -> tuple[str, dict[str, str]]:
    """The server's status, and what it says beside it. Raises `Failed` where the gateway is shutting down."""
    check: Any = upstream.channel.unary_unary(
        CHECK,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    try:
        with told_of_closing():
            call = check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
            answer = await call
            metadata = {key: str(value) for key, value in await call.trailing_metadata() or ()}
    except grpc.aio.AioRpcError as error:
        return NOT_SERVING, {f"{UNREADY}server": f"{upstream.server}: {error.code().name}: {error.details()}"}
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), metadata


def _told(*, well: bool, parts: dict[str, dict[str, str]]) -> bytes:
    return msgspec.json.encode({"status": SERVING if well else NOT_SERVING, "parts": parts})


def _part(status: str, message: str = "") -> dict[str, str]:
    return {"status": status} | ({"message": message} if message else {})
