"""Errors as answers: one table from gRPC to HTTP, and `google.rpc.Status` as JSON, `{"code", "message", "details"}`.

The details are the server's own (ErrorInfo, BadRequest, ResourceInfo, RetryInfo); where gRPC itself fails, or the gateway
refuses a request, they are made here in the same form. `Retry-After` says in whole seconds what RetryInfo says.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import grpc
import msgspec
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from queue_manager.gateway.problems import Refused

DOMAIN: Final = "queue-manager.streamforge"
DETAILS_KEY: Final = "grpc-status-details-bin"
LONGEST: Final = 1000
"""Characters of a text in an error of ours; of a field's path:"""
LONGEST_FIELD: Final = 200
RETRY_AFTER: Final = 1
"""Seconds, where the error does not know better."""

CLIENT_CLOSED_REQUEST: Final = 499
"""nginx's number for a client that has gone; google.rpc.Code maps CANCELLED to it."""

HTTP_STATUS: Final[Mapping[grpc.StatusCode, int]] = {
    grpc.StatusCode.OK: HTTPStatus.OK,
    grpc.StatusCode.CANCELLED: CLIENT_CLOSED_REQUEST,
    grpc.StatusCode.UNKNOWN: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    grpc.StatusCode.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.ABORTED: HTTPStatus.CONFLICT,
    grpc.StatusCode.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    grpc.StatusCode.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS: HTTPStatus.INTERNAL_SERVER_ERROR,
    grpc.StatusCode.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
}
"""The mapping that stands in the comments of `google/rpc/code.proto`."""

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}
_RETRYABLE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})


class Failed(Exception):
    """A call has ended with an error."""

    def __init__(self, status: status_pb2.Status) -> None:
        """What is told of it."""
        super().__init__(status.message)
        self.status = status


def of_call(error: grpc.aio.AioRpcError, *, server: str) -> status_pb2.Status:
    """The status that a failed call ended with. `server`: its address, for the message where nobody answered."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return status_pb2.Status.FromString(value)
            except DecodeError:
                break  # an error about an error would hide the first
    code, said = error.code(), error.details() or ""
    if code is grpc.StatusCode.UNAVAILABLE:
        return made(
            code, "SERVER_UNREACHABLE", f"the Queue Manager's server at {server} cannot be reached: {said}", retry=True
        )
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return made(code, "DEADLINE_EXCEEDED", "the server did not answer within the request's deadline")
    return made(code, code.name, said or code.name)


def of_refusal(refused: Refused) -> status_pb2.Status:
    """The status of a request that the gateway answers itself."""
    status = made(refused.code, refused.reason, refused.message)
    if refused.violations:
        details = error_details_pb2.BadRequest()
        for violation in refused.violations:
            details.field_violations.add(
                field=_text(violation.field, LONGEST_FIELD), description=_text(violation.description, LONGEST)
            )
        _pack(status, details)
    return status


def made(
    code: grpc.StatusCode, reason: str, message: str, *, retry: bool = False, **metadata: str
) -> status_pb2.Status:
    """A status of the gateway's own."""
    status = status_pb2.Status(code=code.value[0], message=_text(message, LONGEST))
    _pack(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    if retry:
        _pack(status, error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER)))
    return status


def code_of(status: status_pb2.Status) -> grpc.StatusCode:
    """Its code; UNKNOWN for a number that gRPC does not have."""
    return _BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)


def http_status(status: status_pb2.Status) -> int:
    """What it is answered as."""
    return HTTP_STATUS[code_of(status)]


def headers(status: status_pb2.Status) -> dict[str, str]:
    """The headers that go with it."""
    if code_of(status) not in _RETRYABLE:
        return {}
    delay = RETRY_AFTER
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            delay = max(1, math.ceil(info.retry_delay.seconds + info.retry_delay.nanos / 1e9))
    return {"Retry-After": str(delay)}


def to_json(status: status_pb2.Status) -> bytes:
    """The error model."""
    return msgspec.json.encode(
        {"code": status.code, "message": status.message, "details": [_detail(each) for each in status.details]}
    )


def _detail(detail: AnyMessage) -> dict[str, Any]:
    try:
        return json_format.MessageToDict(detail, preserving_proto_field_name=True)
    except (TypeError, DecodeError):  # of a kind that we do not know
        return {"@type": detail.type_url, "value": base64.b64encode(detail.value).decode("ascii")}


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _text(text: str, longest: int) -> str:
    """As much of it as is told, and only characters: what came from outside may have halves of some."""
    cut = text if len(text) <= longest else text[:longest] + "…"
    return cut.encode("utf-8", "replace").decode()
