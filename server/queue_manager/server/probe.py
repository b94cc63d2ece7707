"""Asking a server of this machine how it is, for probes that can only run a command."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from queue_manager.server.rpc.health import UNREADY


def probe(address: str, service: str, *, timeout: float) -> tuple[bool, str]:
    """Whether the service is SERVING, and what to say of it. `timeout` in seconds."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer, call = health_pb2_grpc.HealthStub(channel).Check.with_call(  # type: ignore[attr-defined]
                health_pb2.HealthCheckRequest(service=service), timeout=timeout, wait_for_ready=True
            )
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                return False, f"no answer from {address} within {timeout:g} s"
            return False, f"{address}: {error.code().name}: {error.details()}"
    name = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    reasons = [
        f"{key.removeprefix(UNREADY)}: {value}"
        for key, value in call.trailing_metadata() or ()
        if key.startswith(UNREADY)
    ]
    return answer.status == health_pb2.HealthCheckResponse.SERVING, "; ".join([name, *reasons])
