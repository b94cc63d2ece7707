"""How the gateway and the server behind it are, for probes: `grpc.health.v1` as JSON with each part by name.

`live` is about this process alone: a server that is away is no reason to restart its gateway. `ready` and `startup` are
what the server's health service says, with the parts that it names as down and why.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import msgspec
from grpc_health.v1 import health_pb2

from queue_manager.gateway.upstream import Upstream

LIVE: Final = "live"
PROBES: Final = {LIVE: "", "ready": "readiness", "startup": "startup"}
"""What a path's last part asks the health service for; empty: nothing."""
CHECK: Final = "/grpc.health.v1.Health/Check"
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
        status, down = await _ask(service, upstream)
        parts["server"] = _part(SERVING if down else status)
        parts |= {name: _part(NOT_SERVING, why) for name, why in down.items()}
        well = status == SERVING
    return well, msgspec.json.encode({"status": SERVING if well else NOT_SERVING, "parts": parts})


async def _ask(service: str, upstream: Upstream) -> tuple[str, dict[str, str]]:
    """The server's status, and which of its parts are down and why."""
    call: Any = upstream.channel.unary_unary(
        CHECK,
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return NOT_SERVING, {"server": f"{upstream.server}: {error.code().name}: {error.details()}"}
    down = {
        key.removeprefix(UNREADY): str(value)
        for key, value in await call.trailing_metadata() or ()
        if key.startswith(UNREADY)
    }
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status), down


def _part(status: str, message: str = "") -> dict[str, str]:
    return {"status": status} | ({"message": message} if message else {})
