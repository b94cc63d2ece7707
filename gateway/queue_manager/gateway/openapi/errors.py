"""The errors that every operation can answer: `google.rpc.Status` as JSON, its details, and the HTTP statuses.

One table, `STATUSES`, says which gRPC codes become which status; what an operation lists of it depends only on whether it
reads a body or honours `Accept`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from queue_manager.gateway.openapi.forms import Schema
from queue_manager.gateway.status import DOMAIN

_TYPE_URL: Final = "type.googleapis.com/google.rpc."

MODEL: Final[Mapping[str, str]] = {"$ref": "#/components/schemas/google.rpc.Status"}
"""A reference to the error model."""


@dataclass(frozen=True, slots=True)
class Status:
    """An HTTP status that stands for errors."""

    number: int
    name: str
    """Of its component."""
    meaning: str
    codes: Sequence[str] = ()
    """Of gRPC. Without any, it is the gateway alone that answers it."""
    header: tuple[str, str, Schema] | None = None
    """A header that comes with it: name, meaning, schema."""

    @property
    def description(self) -> str:
        """The meaning, and the codes."""
        return f"{self.meaning} ({', '.join(f'`{code}`' for code in self.codes)})" if self.codes else self.meaning


_ALLOW: Final = ("Allow", "The methods that the path does have.", {"type": "string"})
_RETRY_AFTER: Final = (
    "Retry-After",
    "Seconds to wait before it is worth trying again.",
    {"type": "integer", "minimum": 0},
)

STATUSES: Final[Sequence[Status]] = (
    Status(
        400,
        "BadRequest",
        "The request is wrong, or does not fit the state of what it is about; `BadRequest` in the details lists every "
        "violation with its JSON path",
        ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
    ),
    Status(401, "Unauthenticated", "Credentials are missing or not valid", ("UNAUTHENTICATED",)),
    Status(403, "Forbidden", "The caller may not do this", ("PERMISSION_DENIED",)),
    Status(404, "NotFound", "There is no such resource; `ResourceInfo` names it", ("NOT_FOUND",)),
    Status(405, "MethodNotAllowed", "The path does not have the method", header=_ALLOW),
    Status(406, "NotAcceptable", "`Accept` names no form that this has"),
    Status(408, "RequestTimeout", "The body did not come in time"),
    Status(409, "Conflict", "It is there already, or was changed meanwhile", ("ALREADY_EXISTS", "ABORTED")),
    Status(413, "ContentTooLarge", "The body is larger than is taken"),
    Status(415, "UnsupportedMediaType", "The body is not `application/json`"),
    Status(421, "Misdirected", "The gateway is not called what `Host` says"),
    Status(
        429,
        "TooManyRequests",
        "A quota or limit is reached; `RetryInfo` says when to try again",
        ("RESOURCE_EXHAUSTED",),
    ),
    Status(431, "HeaderFieldsTooLarge", "The headers, or the URL, are larger than is taken"),
    Status(499, "ClientClosedRequest", "The call was cancelled", ("CANCELLED",)),
    Status(
        500,
        "InternalError",
        "A bug. The server's log has it under the `error_id`",
        ("INTERNAL", "UNKNOWN", "DATA_LOSS"),
    ),
    Status(501, "NotImplemented", "The server does not have this method", ("UNIMPLEMENTED",)),
    Status(503, "Unavailable", "The server, or what it needs, is out of reach", ("UNAVAILABLE",), header=_RETRY_AFTER),
    Status(504, "DeadlineExceeded", "The time of `Grpc-Timeout` ran out", ("DEADLINE_EXCEEDED",)),
)

_OF_BODIES: Final = frozenset({408, 413, 415})
_OF_STREAMS: Final = frozenset({406})
_DEFAULT: Final = "Error"

_EXAMPLES: Final[Mapping[str, Any]] = {
    "BadRequest": {
        "code": 3,
        "message": "requests[0].interval: 5h is no candle interval",
        "details": [
            {"@type": f"{_TYPE_URL}ErrorInfo", "reason": "INVALID_REQUEST", "domain": DOMAIN, "metadata": {}},
            {
                "@type": f"{_TYPE_URL}BadRequest",
                "field_violations": [{"field": "requests[0].interval", "description": "5h is no candle interval"}],
            },
        ],
    },
}


def responses(*, body: bool, streams: bool) -> dict[str, Schema]:
    """What an operation lists, by status."""
    left_out = (frozenset() if body else _OF_BODIES) | (frozenset() if streams else _OF_STREAMS)
    listed: dict[str, Schema] = {
        str(status.number): {"$ref": f"#/components/responses/{status.name}"}
        for status in STATUSES
        if status.number not in left_out
    }
    return listed | {"default": {"$ref": f"#/components/responses/{_DEFAULT}"}}


def components() -> dict[str, Schema]:
    """Every response that `responses` refers to."""
    found = {status.name: _response(status) for status in STATUSES}
    return found | {_DEFAULT: {"description": "Any other error, in the same form.", "content": _content()}}


def _response(status: Status) -> Schema:
    response: Schema = {"description": f"{status.description}."}
    if status.header:
        name, meaning, schema = status.header
        response["headers"] = {name: {"description": meaning, "schema": schema}}
    return response | {"content": _content(_EXAMPLES.get(status.name))}


def _content(example: Any = None) -> Schema:
    media: Schema = {"schema": dict(MODEL)}
    return {"application/json": media | ({"example": example} if example else {})}


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _detail(name: str, description: str, properties: Schema, required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": {"@type": {"const": f"{_TYPE_URL}{name}"}, **properties},
        "required": ["@type", *required],
    }


_DETAILS: Final[Mapping[str, Schema]] = {
    "ErrorInfo": _detail(
        "ErrorInfo",
        "What a program switches on. Every error has one.",
        {
            "reason": _text("Stable, e.g. `QUEUE_NOT_FOUND`."),
            "domain": _text(f"Whose reason it is: `{DOMAIN}`."),
            "metadata": {
                "type": "object",
                "description": "What the message tells, by name; of a bug the `error_id`.",
                "additionalProperties": {"type": "string"},
            },
        },
        ["reason", "domain"],
    ),
    "BadRequest": _detail(
        "BadRequest",
        "Every violation of the request.",
        {
            "field_violations": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": _text("JSON path, e.g. `requests[2].interval`. Absent: the request as a whole."),
                        "description": _text("What is wrong, and what would be right."),
                    },
                    "required": ["description"],
                },
            }
        },
        ["field_violations"],
    ),
    "ResourceInfo": _detail(
        "ResourceInfo",
        "The resource that the error is about.",
        {"resource_type": _text("What it is, e.g. `Queue`."), "resource_name": _text("Its name, e.g. a `queue_id`.")},
        ["resource_type", "resource_name"],
    ),
    "RetryInfo": _detail(
        "RetryInfo",
        "When it is worth trying again.",
        {"retry_delay": _text("Seconds: `1s`, `0.5s`.", pattern=r"^[0-9]+(\.[0-9]{1,9})?s$")},
        ["retry_delay"],
    ),
}


def schemas() -> dict[str, Schema]:
    """The error model and its details."""
    known = [detail["properties"]["@type"]["const"] for detail in _DETAILS.values()]
    other: Schema = {
        "type": "object",
        "description": "Another detail.",
        "properties": {"@type": {"type": "string", "not": {"enum": known}}},
        "required": ["@type"],
    }
    model: Schema = {
        "type": "object",
        "description": "An error.",
        "properties": {
            "code": {
                "type": "integer",
                "description": "Of gRPC: 3 is `INVALID_ARGUMENT`, 5 is `NOT_FOUND`, 14 is `UNAVAILABLE`, ….",
                "minimum": 1,
                "maximum": 16,
            },
            "message": _text("What is wrong, in a sentence for people."),
            "details": {
                "type": "array",
                "description": "For programs; an `ErrorInfo` first.",
                "items": {
                    "anyOf": [*({"$ref": f"#/components/schemas/google.rpc.{name}"} for name in _DETAILS), other]
                },
            },
        },
        "required": ["code", "message", "details"],
    }
    return {"google.rpc.Status": model, **{f"google.rpc.{name}": detail for name, detail in _DETAILS.items()}}
