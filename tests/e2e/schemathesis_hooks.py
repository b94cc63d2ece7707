"""What schemathesis cannot know of this API: loaded by it, in a process of its own (see `schemathesis.toml`).

A failure that it finds is dropped only where the answer is right and a document cannot say so; each case has its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import schemathesis
from schemathesis.core.failures import Failure, ServerError
from schemathesis.openapi.checks import AllowHeaderMismatch, RejectedPositiveData

from queue_manager.gateway.upstream import timeout_of

RULES: Final[Mapping[str, frozenset[str]]] = {
    # What a target takes, how fields go together, what names are made of, limits. Where violations are too many to be told,
    # the last one counts the rest, and has no field.
    "StartQueue": frozenset({"symbol", "time_range", "requests", "request_id", "labels", "start_timeout", ""}),
    # Limits; a grace period goes with one of the modes only.
    "StopQueue": frozenset({"grace_period", "reason"}),
    # Limits; a token is one that we made, for the same filter; times are in their order; "unspecified" is no state.
    "ListQueues": frozenset({"page_size", "page_token", "symbol", "label_selector", "created_before", "states"}),
    # Limits; the range of int64, which is a header's format and not its pattern.
    "WatchQueue": frozenset({"heartbeat_interval", "after_revision", "Last-Event-ID"}),
    # As for queues.
    "ListDeadLetters": frozenset({"page_size", "page_token"}),
    # What an id is made of; either ids or a topic, whose letters are then all meant.
    "ReplayDeadLetters": frozenset({"ids", "topic", "all"}),
}
"""The fields that the server has rules of its own about, by operation: the contract tells them in words, not in types."""

STATES: Final[Mapping[str, frozenset[str]]] = {
    # Nobody can go on after a revision that is yet to come.
    "WatchQueue": frozenset({"REVISION_IN_FUTURE"}),
    # Dead letters are those of a broker, which the server of this test does not have.
    "ListDeadLetters": frozenset({"NO_BROKER"}),
    "ReplayDeadLetters": frozenset({"NO_BROKER"}),
}
"""Reasons for which an operation refuses what is well said, by operation."""

SHORT: Final = 1.0
"""Seconds. Who gives a call less may be told that they are over."""


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Have each event of a stream looked at.

    OpenAPI 3.1 can describe a stream only as a text that is made of events; 3.2 has `itemSchema` for one of them.
    """
    for item in raw_schema["paths"].values():
        for operation in item.values():
            stream = operation["responses"]["200"].get("content", {}).get("text/event-stream")
            if stream is not None:
                stream["itemSchema"] = stream.pop("schema")["contentSchema"]["items"]


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: schemathesis.Response,
) -> bool:
    """Whether it is one."""
    match failure:
        case RejectedPositiveData():
            return not _breaks_a_rule(case, response)
        case ServerError():
            return not (response.status_code == 504 and _seconds_of(case) < SHORT)
        case AllowHeaderMismatch():
            return bool(failure.missing_methods) or not set(failure.undocumented_methods) <= set(_methods_at(case))
    return True


def _breaks_a_rule(case: schemathesis.Case[Any], response: schemathesis.Response) -> bool:
    """Whether it is refused for nothing but rules that no schema tells."""
    operation = case.operation.definition.raw["operationId"].partition("_")[0]  # `StopQueue_2` is another path of it
    details = {each["@type"].rpartition(".")[2]: each for each in json.loads(response.content)["details"]}
    if details["ErrorInfo"]["reason"] in STATES.get(operation, ()):
        return True
    violations = details.get("BadRequest", {}).get("field_violations", ())
    fields = {re.split(r"[.\[]", violation.get("field", ""))[0] for violation in violations}
    return bool(fields) and fields <= RULES.get(operation, frozenset())


def _seconds_of(case: schemathesis.Case[Any]) -> float:
    """How long a call may take."""
    seconds = timeout_of(case.headers or {})
    return float("inf") if seconds is None else seconds


def _methods_at(case: schemathesis.Case[Any]) -> Iterator[str]:
    """The methods of all templates that a path can be read by.

    schemathesis knows one: but `GET /queues/stop` asks for the queue called `stop`, and is told that there is none.
    """
    for template, item in case.operation.schema.raw_schema["paths"].items():
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), case.operation.path):
            yield from (method.upper() for method in item)
