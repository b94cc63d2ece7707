"""Reads a failed call: from grpc's exception, with the rich details in its trailing metadata, to one of `errors`.

The server sends `google.rpc.Status` in `grpc-status-details-bin` (ErrorInfo, BadRequest, ResourceInfo, RetryInfo). All
of it is optional: a proxy or grpc itself sends a bare code. Details that cannot be read are passed over, because an
error about an error would hide the first one. No retrying and no printing here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import grpc
from google.protobuf.message import DecodeError

from queue_manager.client.errors import (
    EXCEPTIONS,
    REASON_TIMEOUT,
    REASON_UNREACHABLE,
    InvalidRequest,
    QueueManagerError,
    ResourceExhausted,
    Violation,
)

if TYPE_CHECKING:
    from google.rpc import status_pb2

DETAILS_KEY: Final = "grpc-status-details-bin"

_CLIENT_REASONS: Final = {
    grpc.StatusCode.UNAVAILABLE: REASON_UNREACHABLE,
    grpc.StatusCode.CANCELLED: REASON_UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: REASON_TIMEOUT,
}

_NO_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
    }
)
"""What a connection that breaks under a call is reported as."""
_NEVER_SENT: Final = ("failed to connect to all addresses", "errors resolving ", "DNS resolution failed")
"""How gRPC's words begin where there was no connection to send the call over."""


@dataclass(slots=True)
class _Details:
    """What the details of a status say."""

    message: str = ""
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    retry_after: float | None = None


def from_rpc_error(error: grpc.aio.AioRpcError, *, target: str, timeout: float | None = None) -> QueueManagerError:
    """The exception for a failed call. Raise it `from error`, so that grpc's own words stay in the chain.

    `target` and `timeout` (seconds) are for the message where the server said nothing itself.
    """
    code = error.code()
    details = _read(error)
    exception = EXCEPTIONS[code]
    reason = details.reason or _CLIENT_REASONS.get(code, "")
    message = details.message or _bare_message(error, target=target, timeout=timeout, answered=bool(details.reason))
    raised = exception(message, reason=reason, code=code, retry_after=details.retry_after, metadata=details.metadata)
    if isinstance(raised, InvalidRequest):
        raised.violations = details.violations
    if isinstance(raised, ResourceExhausted) and details.reason:
        raised.retryable = details.retry_after is not None  # too many watchers passes, too large a request does not
    raised.from_server = bool(details.reason)
    broken = code in _NO_ANSWER and not (error.details() or "").startswith(_NEVER_SENT)
    raised.undecided = code is grpc.StatusCode.DEADLINE_EXCEEDED or (broken and not raised.from_server)
    return raised


def _bare_message(error: grpc.aio.AioRpcError, *, target: str, timeout: float | None, answered: bool) -> str:
    """A sentence for a code that came without details."""
    text = error.details() or error.code().name
    if answered:
        return text
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return f"cannot reach the server at {target}: {text}"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            within = f" within {timeout:g} s" if timeout is not None else " in time"
            return f"no answer from the server at {target}{within}"
        case grpc.StatusCode.UNIMPLEMENTED:
            return f"the server at {target} does not offer this call: {text}"
    return text


def _read(error: grpc.aio.AioRpcError) -> _Details:
    details = _Details()
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            from google.rpc import status_pb2  # noqa: PLC0415 - a call that succeeds does not pay for it

            try:
                _fill(details, status_pb2.Status.FromString(value))
            except DecodeError:
                continue
    return details


def _fill(details: _Details, status: status_pb2.Status) -> None:
    from google.rpc import error_details_pb2  # noqa: PLC0415 - see `_read`

    details.message = status.message
    for entry in status.details:
        info = error_details_pb2.ErrorInfo()
        bad_request = error_details_pb2.BadRequest()
        resource = error_details_pb2.ResourceInfo()
        retry = error_details_pb2.RetryInfo()
        request = error_details_pb2.RequestInfo()
        if entry.Unpack(info):
            details.reason = info.reason
            details.metadata.update(info.metadata)
        elif entry.Unpack(bad_request):
            details.violations += [Violation(v.field, v.description) for v in bad_request.field_violations]
        elif entry.Unpack(resource):
            details.metadata.setdefault("resource_type", resource.resource_type)
            details.metadata.setdefault("resource", resource.resource_name)
        elif entry.Unpack(retry):
            details.retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif entry.Unpack(request):
            details.metadata.setdefault("error_id", request.request_id)
