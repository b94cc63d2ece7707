"""Every error that the core raises on purpose.

    QueueManagerError                 reason, message, retryable
    ├── InvalidRequest                the request breaks rules: carries every violation
    ├── NotFound                      no such queue
    ├── RequestIdReused               the request_id belongs to another body
    ├── PageTokenMismatch             the page token belongs to another filter (an InvalidRequest)
    ├── RevisionInFuture              after_revision has not happened yet
    ├── TooLarge                      the request is larger than this server reads
    ├── LimitExceeded                 a bound of the server is reached
    ├── NoBroker                      it needs a broker, and the server runs without one
    ├── ListenError                   an address of ours cannot be listened on; the server does not start
    ├── Unavailable                   store, runner or bus out of reach; nothing is half-done
    │   └── ShuttingDown              this server is going away; another one, or its successor, goes on
    └── Conflict                      compare-and-set lost; callers inside retry, never seen outside

`reason` is stable and stands in `ErrorInfo.reason`. Whether a caller may repeat the call unchanged is `retryable`.
`rpc/status.py` has the one table from these to gRPC codes. Adapters translate their libraries' exceptions into these
and chain them (`raise Unavailable(...) from e`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class QueueManagerError(Exception):
    """Base of all: a message for people, a stable reason for programs."""

    reason: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **metadata: str) -> None:
        """`metadata` goes into `ErrorInfo.metadata`."""
        super().__init__(message)
        self.message = message
        self.metadata = metadata


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: the field's JSON path (`requests[2].interval`), and the rule and remedy in a sentence."""

    field: str
    description: str


class InvalidRequest(QueueManagerError):
    """The request breaks at least one rule."""

    reason = "INVALID_REQUEST"

    def __init__(self, violations: list[Violation]) -> None:
        """All violations, in the order of the request."""
        self.violations = violations
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(f"{violations[0].field}: {violations[0].description}{more}")

    @classmethod
    def of(cls, field: str, description: str) -> InvalidRequest:
        """With this one violation."""
        return InvalidRequest([Violation(field, description)])


class PageTokenMismatch(InvalidRequest):
    """The page token is damaged or belongs to another filter."""

    reason = "PAGE_TOKEN_MISMATCH"


class NotFound(QueueManagerError):
    """No such queue."""

    reason = "QUEUE_NOT_FOUND"

    def __init__(self, queue_id: str) -> None:
        """The id that nobody knows."""
        super().__init__(
            f"queue {queue_id!r} does not exist; ListQueues tells those that do",
            resource_type="Queue",
            resource=queue_id,
        )
        self.queue_id = queue_id


class RequestIdReused(QueueManagerError):
    """The request_id belongs to a queue that was started with another body."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str, queue_id: str) -> None:
        """The id, and the queue that has it."""
        super().__init__(
            f"request_id {request_id!r} was used to start {queue_id} with another body; send the same body, or a new id",
            resource_type="Queue",
            resource=queue_id,
            request_id=request_id,
        )


class RevisionInFuture(QueueManagerError):
    """`after_revision` is beyond the queue's newest revision."""

    reason = "REVISION_IN_FUTURE"

    def __init__(self, after_revision: int, revision: int) -> None:
        """What was asked, and what there is."""
        super().__init__(
            f"after_revision: {after_revision} is in the future, the queue is at revision {revision}; "
            "resume from the last revision that a frame brought",
            after_revision=str(after_revision),
            revision=str(revision),
        )


class TooLarge(QueueManagerError):
    """The request is larger than this server reads."""

    reason = "MESSAGE_TOO_LARGE"

    def __init__(self, size: int, limit: int) -> None:
        """Both in bytes."""
        super().__init__(
            f"the request has {size} bytes, and this server reads at most {limit}; send less, "
            "or have its operator raise QM_MAX_MESSAGE_BYTES",
            size=str(size),
            limit=str(limit),
        )


class LimitExceeded(QueueManagerError):
    """A bound of this server is reached."""

    reason = "LIMIT_EXCEEDED"
    retryable = True


class NoBroker(QueueManagerError):
    """It needs a broker, and the server runs without one."""

    reason = "NO_BROKER"


class ListenError(QueueManagerError):
    """An address of ours cannot be listened on."""

    reason = "CANNOT_LISTEN"

    def __init__(self, variable: str, address: str, why: str) -> None:
        """`variable` sets the address."""
        super().__init__(
            f"{variable}: cannot listen on {address} ({why}); "
            "set it to a free port of this machine, or to port 0 to pick one"
        )


class Unavailable(QueueManagerError):
    """A part that is needed is out of reach; nothing was half-done."""

    reason = "UNAVAILABLE"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, **metadata: str) -> None:
        """`retry_after`: seconds after which it is worth trying again, where that is known."""
        super().__init__(message, **metadata)
        self.retry_after = retry_after


class Declined(Unavailable):
    """It was asked, and said not now: nothing was done, and nothing is under way."""

    reason = "DECLINED"


class ShuttingDown(Unavailable):
    """This server is going away."""

    reason = "SHUTTING_DOWN"


class Conflict(QueueManagerError):
    """The record has changed since it was read."""

    reason = "CONFLICT"
    retryable = True
