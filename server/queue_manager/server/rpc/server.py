"""The gRPC server: the service, health, reflection, on one port.

Every method of the contract has a handler, and nothing else is published: the table is made from the descriptor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from queue_manager.server.domain.errors import ListenError
from queue_manager.server.rpc.calls import CallObserver, Surroundings
from queue_manager.server.rpc.health import SERVICE, Health
from queue_manager.server.rpc.servicer import Servicer
from queue_manager.v1 import service_pb2

HEADROOM: Final = 4 * 2**20
"""Bytes over the limit up to which a request is still read, to be refused with a good error; beyond, gRPC cuts it off."""
IN_USE: Final = "it is in use, or not an address of this machine"
REFLECTION_V1: Final = "grpc.reflection.v1.ServerReflection"


def build(
    servicer: Servicer,
    health: Health,
    *,
    observer: CallObserver,
    new_id: Callable[[], str],
    max_message_bytes: int,
) -> grpc.aio.Server:
    """The server, not yet listening. Requests over `max_message_bytes` are refused with RESOURCE_EXHAUSTED."""
    server = grpc.aio.server(
        options=(
            # Higher than the limit, so that what is a little over it is answered by us, with a remedy.
            ("grpc.max_receive_message_length", max_message_bytes + HEADROOM),
            ("grpc.so_reuseport", 0),  # else a second server on the same port would silently get half of the calls
            ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
        )
    )
    descriptor = service_pb2.DESCRIPTOR.services_by_name["QueueManager"]
    handlers: dict[str, Any] = {}
    calls = Surroundings(observer=observer, new_id=new_id, max_bytes=max_message_bytes)
    for method in descriptor.methods:
        wrap = calls.streaming if method.server_streaming else calls.unary
        request: type[Message] = GetMessageClass(method.input_type)
        handlers[method.name] = wrap(method.name, getattr(servicer, method.name), request)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    _add_reflection(server)
    return server


def listen(server: grpc.aio.Server, address: str, variable: str) -> int:
    """Bind an address; answers the port. Raises `ListenError` that names the variable that sets it."""
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as error:
        raise ListenError(variable, address, IN_USE) from error
    if port == 0:
        raise ListenError(variable, address, IN_USE)
    return port


def _add_reflection(server: grpc.aio.Server) -> None:
    """Reflection v1alpha, which older tools ask for, and v1. Their messages are the same on the wire."""
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    names = (SERVICE, health_name, reflection.SERVICE_NAME, REFLECTION_V1)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(REFLECTION_V1, {"ServerReflectionInfo": handler}),)
    )
