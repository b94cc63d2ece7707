"""The one table from the core's errors to gRPC: code, and the details that `google.rpc.Status` carries.

`ErrorInfo` always (a domain, the error's stable reason, its metadata); `BadRequest` with every violation; `ResourceInfo`
and `RetryInfo` where they apply. A bug becomes INTERNAL with an id that is in the log, and no traceback.
"""

from __future__ import annotations

from typing import Final

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from queue_manager.server.domain.errors import (
    Conflict,
    InvalidRequest,
    LimitExceeded,
    NotFound,
    QueueManagerError,
    RequestIdReused,
    RevisionInFuture,
    Unavailable,
)

DOMAIN: Final = "queue-manager.streamforge"
DETAILS_KEY: Final = "grpc-status-details-bin"
RETRY_AFTER: Final = 1.0
"""Seconds that `RetryInfo` says where the error does not know better."""

CODES: Final[dict[type[QueueManagerError], grpc.StatusCode]] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    RevisionInFuture: grpc.StatusCode.OUT_OF_RANGE,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Conflict: grpc.StatusCode.ABORTED,
    QueueManagerError: grpc.StatusCode.INTERNAL,
}
"""An error has the code of the nearest of its classes that stands here."""

MESSAGE_LIMIT: Final = 2048
"""gRPC sends the message in a header, and headers are limited to 8 KiB; the details have all of it."""
DETAILS_LIMIT: Final = 4096
"""The same for the details, in bytes: violations beyond that are counted instead of listed."""


def code_of(error: QueueManagerError) -> grpc.StatusCode:
    """The code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def status_of(error: QueueManagerError) -> status_pb2.Status:
    """An error as `google.rpc.Status`."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=_short(error.metadata))
    ]
    if isinstance(error, InvalidRequest):
        details.append(_bad_request(error))
    if "resource" in error.metadata:
        details.append(
            error_details_pb2.ResourceInfo(
                resource_type=error.metadata.get("resource_type", ""),
                resource_name=error.metadata["resource"][:256],
                description=error.message[:MESSAGE_LIMIT],
            )
        )
    if error.retryable:
        delay = (error.retry_after if isinstance(error, Unavailable) else None) or RETRY_AFTER
        whole, part = divmod(delay, 1)
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=int(whole), nanos=int(part * 1e9))))
    return _status(code_of(error), error.message, details)


def internal(error_id: str) -> status_pb2.Status:
    """What a caller is told of a bug."""
    info = error_details_pb2.ErrorInfo(reason="INTERNAL", domain=DOMAIN, metadata={"error_id": error_id})
    text = f"internal error; the server's log has it under error_id {error_id}"
    return _status(grpc.StatusCode.INTERNAL, text, [info])


def trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """The trailing metadata that carries a status' details."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=_one_line(message)[:MESSAGE_LIMIT])
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(error: InvalidRequest) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest()
    size = 0
    for number, violation in enumerate(error.violations):
        size += len(violation.field.encode()) + len(violation.description.encode()) + 8
        if size > DETAILS_LIMIT:
            details.field_violations.add(
                field="", description=f"and {len(error.violations) - number} more violations, not listed here"
            )
            break
        details.field_violations.add(field=violation.field, description=violation.description)
    return details


def _short(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value[:256] for key, value in metadata.items()}


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")
