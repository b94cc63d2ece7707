"""What the gateway itself finds wrong with a request, before the server has seen it.

Each knows its HTTP status and what `status` makes the answer of: a code of gRPC, a stable reason, violations by field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import grpc


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that cannot be read: its JSON path (`requests[2].interval`, a query parameter's name), and the remedy."""

    field: str
    description: str


class Refused(Exception):
    """The request is answered by the gateway itself.

    Of the request: Malformed, NoSuchPath, MethodNotAllowed, Unsupported, NotAcceptable, BodyTooLarge, TooSlow,
    ExpectationFailed, HeadersTooLarge. Of who sends
    it: Misdirected, CrossSite. Of too many: TooManyStreams.
    """

    http_status: HTTPStatus = HTTPStatus.BAD_REQUEST
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT
    reason: str = "INVALID_REQUEST"
    closes: bool = False
    """Whether the connection is of no use afterwards."""

    def __init__(self, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        """`headers`: of the answer."""
        super().__init__(message)
        self.message = message
        self.headers: Final = dict(headers or {})
        self.violations: Sequence[Violation] = ()


class Malformed(Refused):
    """Fields that cannot be read, all of them."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        """At least one."""
        first = (
            f"{violations[0].field}: {violations[0].description}" if violations[0].field else violations[0].description
        )
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        super().__init__(first + more)
        self.violations = tuple(violations)


class NoSuchPath(Refused):
    """Nothing is there."""

    http_status = HTTPStatus.NOT_FOUND
    code = grpc.StatusCode.NOT_FOUND
    reason = "NO_SUCH_PATH"


class MethodNotAllowed(Refused):
    """The path has other methods; `Allow` says which."""

    http_status = HTTPStatus.METHOD_NOT_ALLOWED
    code = grpc.StatusCode.UNIMPLEMENTED
    reason = "METHOD_NOT_ALLOWED"


class Unsupported(Refused):
    """A body that is not JSON."""

    http_status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    reason = "UNSUPPORTED_MEDIA_TYPE"


class NotAcceptable(Refused):
    """An answer that is wanted in a form that there is not."""

    http_status = HTTPStatus.NOT_ACCEPTABLE
    reason = "NOT_ACCEPTABLE"


class BodyTooLarge(Refused):
    """More than the gateway takes."""

    http_status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "BODY_TOO_LARGE"
    closes = True


class TooSlow(Refused):
    """A body that did not come in time."""

    http_status = HTTPStatus.REQUEST_TIMEOUT
    code = grpc.StatusCode.DEADLINE_EXCEEDED
    reason = "BODY_TOO_SLOW"
    closes = True


class ExpectationFailed(Refused):
    """An `Expect` that cannot be met."""

    http_status = HTTPStatus.EXPECTATION_FAILED
    reason = "EXPECTATION_FAILED"
    closes = True


class HeadersTooLarge(Refused):
    """More headers than can be passed on."""

    http_status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
    reason = "HEADERS_TOO_LARGE"


class TooManyStreams(Refused):
    """More streams than the gateway keeps open."""

    http_status = HTTPStatus.TOO_MANY_REQUESTS
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_STREAMS"


class Misdirected(Refused):
    """A `Host` that is none of ours."""

    http_status = HTTPStatus.MISDIRECTED_REQUEST
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "HOST_NOT_ALLOWED"


class CrossSite(Refused):
    """A page of another site that may not change anything here."""

    http_status = HTTPStatus.FORBIDDEN
    code = grpc.StatusCode.PERMISSION_DENIED
    reason = "ORIGIN_NOT_ALLOWED"
