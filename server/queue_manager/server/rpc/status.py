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
    NoBroker,
    NotFound,
    QueueManagerError,
    RequestIdReused,
    RevisionInFuture,
    TooLarge,
    Unavailable,
)
from queue_manager.server.domain.model import cut

DOMAIN: Final = "queue-manager.streamforge"
DETAILS_KEY: Final = "grpc-status-details-bin"
RETRY_AFTER: Final = 1.0
"""Seconds that `RetryInfo` says where the error does not know better."""

CODES: Final[dict[type[QueueManagerError], grpc.StatusCode]] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    RevisionInFuture: grpc.StatusCode.OUT_OF_RANGE,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    LimitExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    NoBroker: grpc.StatusCode.FAILED_PRECONDITION,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    Conflict: grpc.StatusCode.ABORTED,
    QueueManagerError: grpc.StatusCode.INTERNAL,
}
"""An error has the code of the nearest of its classes that stands here."""

# gRPC sends all of this in headers, which are limited to 8 KiB: the message percent-encoded, the details in base64.
MESSAGE_LIMIT: Final = 600
"""Of the message, percent-encoded, in bytes."""
VIOLATIONS_LIMIT: Final = 4000
"""Of all violations together, in bytes. Where they are more, their texts are shortened; those beyond that are counted."""
SHORTEST: Final = 40
"""Of a description, in bytes; a shorter one says nothing."""
VIOLATION_LIMIT: Final = 1000
"""Of one description, in bytes."""
VALUE_LIMIT: Final = 200
"""Of a field's path, a resource's name or a value of the metadata, in bytes."""


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
                resource_name=cut(error.metadata["resource"], VALUE_LIMIT),
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
    status = status_pb2.Status(code=code.value[0], message=_message(message))
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _bad_request(error: InvalidRequest) -> error_details_pb2.BadRequest:
    details = error_details_pb2.BadRequest()
    size = 0
    whole = sum(len(each.field.encode()) + len(each.description.encode()) + 8 for each in error.violations)
    share = VIOLATION_LIMIT if whole <= VIOLATIONS_LIMIT else VIOLATIONS_LIMIT // len(error.violations)
    for number, violation in enumerate(error.violations):
        field = cut(violation.field, VALUE_LIMIT)
        description = cut(violation.description, max(SHORTEST, min(VIOLATION_LIMIT, share - len(field.encode()) - 8)))
        size += len(field.encode()) + len(description.encode()) + 8
        if size > VIOLATIONS_LIMIT:
            rest = f"and {len(error.violations) - number} more violations, not listed here"
            details.field_violations.add(field="", description=rest)
            break
        details.field_violations.add(field=field, description=description)
    return details


def _short(metadata: dict[str, str]) -> dict[str, str]:
    return {key: cut(value, VALUE_LIMIT) for key, value in metadata.items()}


def _message(text: str) -> str:
    """One line, as long as its percent-encoded form may be."""
    line = text.replace("\r", " ").replace("\n", " ")
    room = MESSAGE_LIMIT
    for index, character in enumerate(line):
        room -= 1 if " " <= character <= "~" and character != "%" else 3 * len(character.encode(errors="replace"))
        if room < 0:
            return line[: max(0, index - 9)] + "…"
    return line
