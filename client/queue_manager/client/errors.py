"""Every exception that the client raises on purpose, and the one table from gRPC codes to them.

    QueueManagerError                 reason, message, code, retryable, retry_after, undecided, metadata
    ├── InvalidRequest                the request breaks rules: carries every violation
    ├── NotFound                      no such queue
    ├── AlreadyExists                 the request_id belongs to a queue that was started with another body
    ├── FailedPrecondition            the queue, or the server, is in the wrong state for the call
    ├── OutOfRange                    after_revision has not happened yet
    ├── ResourceExhausted             a limit of the server is reached
    ├── Unavailable                   the server, or a part that it needs, is out of reach; nothing is half-done
    ├── DeadlineExceeded              no answer in time; the call may have taken effect
    ├── Unauthenticated               no credentials, or bad ones
    ├── PermissionDenied              the caller may not do this
    └── InternalError                 a bug, or a server that does not speak this API: carries the error's id

Nothing of grpc's leaves the client: every `AioRpcError` is turned into one of these and chained (`status.py` reads the
details). `reason` is stable, a program can switch on it; the server's reasons stand in its own errors, those that the
client itself finds are below. `retryable` says whether the same call may be repeated unchanged, `undecided` whether it
may have taken effect all the same.

This module decodes nothing and knows no message of the API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import grpc

REASON_UNREACHABLE: Final = "UNREACHABLE"
"""No connection to the server (`Unavailable`): nobody listens there, or the connection broke."""
REASON_TIMEOUT: Final = "TIMEOUT"
"""No answer within the call's timeout (`DeadlineExceeded`)."""
REASON_STREAM_CUT: Final = "STREAM_CUT"
"""A watch's stream closed before END, or fell silent (`Unavailable`)."""
REASON_WATCH_BROKEN: Final = "WATCH_BROKEN"
"""The server skips revisions of a watch again and again (`InternalError`)."""
REASON_INVALID_PAYLOAD: Final = "INVALID_PAYLOAD"
"""A payload that is no StartQueueRequest (`InvalidRequest`); the server has not been asked."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the field's JSON path (`requests[2].interval`), and the rule and remedy in a sentence."""

    field: str
    description: str


class QueueManagerError(Exception):
    """Base of all: a message for people, a stable reason for programs."""

    default_code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN
    default_retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        code: grpc.StatusCode | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """`retry_after`: seconds after which it is worth trying again, where the server says so."""
        super().__init__(message)
        self.message = message
        self.code: grpc.StatusCode = code or self.default_code
        """The gRPC status code it came with, or would have."""
        self.reason = reason or self.code.name
        """Stable: the server's `ErrorInfo.reason`, else one of this module's, else the code's name."""
        self.retry_after = retry_after
        self.retryable = self.default_retryable or retry_after is not None
        """Whether the same call may be repeated unchanged."""
        self.undecided = False
        """Whether the call may have taken effect: it may have reached the server, and what that said of it is lost."""
        self.metadata: Mapping[str, str] = metadata or {}
        """`ErrorInfo.metadata`, and what else the details tell."""
        self.from_server = False
        """Whether the Queue Manager itself said it, rather than grpc, something in between, or the client."""


class InvalidRequest(QueueManagerError):
    """The request breaks at least one rule; `violations` has all of them, in the order of the request."""

    default_code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(
        self,
        message: str = "",
        *,
        violations: Sequence[Violation] = (),
        reason: str = "",
        code: grpc.StatusCode | None = None,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Without a message, the violations make it."""
        self.violations: list[Violation] = list(violations)
        text = message or "; ".join(f"{v.field}: {v.description}" for v in self.violations) or "the request is invalid"
        super().__init__(text, reason=reason, code=code, retry_after=retry_after, metadata=metadata)


class NotFound(QueueManagerError):
    """No such queue; `metadata["resource"]` has its id where the server says it."""

    default_code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(QueueManagerError):
    """The request_id belongs to a queue that was started with another body; `metadata["resource"]` is its id."""

    default_code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(QueueManagerError):
    """The queue is in the wrong state for the call, or the server is: without a broker it has no dead letters."""

    default_code = grpc.StatusCode.FAILED_PRECONDITION


class OutOfRange(QueueManagerError):
    """`after_revision` is beyond the queue's newest revision."""

    default_code = grpc.StatusCode.OUT_OF_RANGE


class ResourceExhausted(QueueManagerError):
    """A limit of the server is reached: try again later, or ask for less."""

    default_code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_retryable = True


class Unavailable(QueueManagerError):
    """The server, or a part that it needs, is out of reach; nothing was half-done. `undecided`: but maybe done."""

    default_code = grpc.StatusCode.UNAVAILABLE
    default_retryable = True


class DeadlineExceeded(QueueManagerError):
    """No answer in time; the call may have taken effect. Every call of this client may be repeated."""

    default_code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_retryable = True


class Unauthenticated(QueueManagerError):
    """No credentials, or bad ones."""

    default_code = grpc.StatusCode.UNAUTHENTICATED


class PermissionDenied(QueueManagerError):
    """The credentials are good, but the caller may not do this."""

    default_code = grpc.StatusCode.PERMISSION_DENIED


class InternalError(QueueManagerError):
    """A bug in the server, or a server that does not speak this API."""

    default_code = grpc.StatusCode.INTERNAL

    @property
    def error_id(self) -> str:
        """The id under which the server's log has the error; empty where it gave none."""
        return self.metadata.get("error_id", "")


EXCEPTIONS: Final[Mapping[grpc.StatusCode, type[QueueManagerError]]] = {
    grpc.StatusCode.OK: InternalError,  # a failed call that says OK contradicts itself
    grpc.StatusCode.CANCELLED: Unavailable,  # the other side or a proxy gave the call up: the caller did not
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Unavailable,  # a lost race: nothing was done, the same call may be repeated
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: InternalError,  # a server that is older than this client, or no Queue Manager
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: InternalError,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}
"""The one table from a code to an exception; a test asserts that it is total."""
