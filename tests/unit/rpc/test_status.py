"""The one table from the core's errors to gRPC: total, with the details that clients rely on, and never too large."""

from __future__ import annotations

import importlib
import pkgutil
from urllib.parse import quote

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

import queue_manager.server
from queue_manager.server.domain.errors import (
    Conflict,
    Declined,
    InvalidRequest,
    LimitExceeded,
    ListenError,
    NoBroker,
    NotFound,
    PageTokenMismatch,
    QueueManagerError,
    RequestIdReused,
    RevisionInFuture,
    ShuttingDown,
    TooLarge,
    Unavailable,
    Violation,
)
from queue_manager.server.domain.request import DependencyRequest, JobRequest
from queue_manager.server.rpc.status import CODES, DETAILS_KEY, DOMAIN, code_of, internal, status_of, trailers
from tests.unit.domain.samples import accepted, start

HEADERS_LIMIT = 8192
"""What gRPC takes of trailing metadata; beyond it, clients see RESOURCE_EXHAUSTED instead of the error."""
OTHER_HEADERS = 300
"""Room for those that gRPC itself adds (content-type, grpc-status), with 32 bytes each (RFC 7540, 6.5.2)."""


def every_error() -> list[type[QueueManagerError]]:
    """The classes of the tree, wherever in the server they are defined."""
    for module in pkgutil.walk_packages(queue_manager.server.__path__, "queue_manager.server."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, fresh = [], [QueueManagerError]
    while fresh:
        kind = fresh.pop()
        found.append(kind)
        fresh += kind.__subclasses__()
    return [kind for kind in found if kind.__module__.startswith("queue_manager.")]


ERRORS: list[tuple[QueueManagerError, grpc.StatusCode]] = [
    (InvalidRequest([Violation("symbol", "is required")]), grpc.StatusCode.INVALID_ARGUMENT),
    (PageTokenMismatch([Violation("page_token", "is damaged")]), grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound("wf-1"), grpc.StatusCode.NOT_FOUND),
    (RequestIdReused("r-1", "wf-1"), grpc.StatusCode.ALREADY_EXISTS),
    (RevisionInFuture(7, 3), grpc.StatusCode.OUT_OF_RANGE),
    (TooLarge(2_000_000, 1_048_576), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (LimitExceeded("too many watchers"), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (NoBroker("there is no broker"), grpc.StatusCode.FAILED_PRECONDITION),
    (Unavailable("the store is out of reach"), grpc.StatusCode.UNAVAILABLE),
    (Declined("too many requests"), grpc.StatusCode.UNAVAILABLE),
    (ShuttingDown("this server is going away"), grpc.StatusCode.UNAVAILABLE),
    (Conflict("changed"), grpc.StatusCode.ABORTED),
    (ListenError("QM_GRPC_LISTEN", "127.0.0.1:50051", "the port is in use"), grpc.StatusCode.INTERNAL),
    (QueueManagerError("a bug"), grpc.StatusCode.INTERNAL),
]
BY_ERROR = pytest.mark.parametrize(("error", "code"), ERRORS, ids=[type(error).__name__ for error, _ in ERRORS])


def details(status: status_pb2.Status) -> dict[str, Message]:
    """A status' details, by their type's short name."""
    found: dict[str, Message] = {}
    for packed in status.details:
        name = packed.type_url.rsplit(".", 1)[-1]
        message = getattr(error_details_pb2, name)()
        assert packed.Unpack(message)
        found[name] = message
    return found


def size(status: status_pb2.Status) -> int:
    """How many bytes of trailing metadata a status takes: its message, percent-encoded, and its details."""
    message = len(quote(status.message, safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    return message + len("grpc-message") + sum(len(key) + len(value) for key, value in trailers(status)) + OTHER_HEADERS


# --- The table --------------------------------------------------------------------------------------------------------


def test_every_error_of_the_tree_has_a_code_and_a_reason_of_its_own() -> None:
    """Also one that an adapter adds: it has its parent's code."""
    kinds = every_error()
    assert {type(error) for error, _ in ERRORS} <= set(kinds)
    assert set(CODES) <= set(kinds)
    for kind in kinds:
        assert any(parent in CODES for parent in kind.__mro__)
        assert kind.reason == kind.reason.upper()
        assert kind.reason.replace("_", "").isalpha()
    reasons = [kind.reason for kind in kinds]
    assert len(reasons) == len(set(reasons)), "two errors with one reason"


@BY_ERROR
def test_each_error_has_the_code_of_the_table(error: QueueManagerError, code: grpc.StatusCode) -> None:
    """As the design lists them."""
    assert code_of(error) is code
    assert status_of(error).code == code.value[0]


def test_every_error_of_the_domain_is_in_the_table_above() -> None:
    """So that none is without a test."""
    domain = {kind for kind in every_error() if kind.__module__.endswith("domain.errors")}
    assert domain == {type(error) for error, _ in ERRORS}


# --- Details ----------------------------------------------------------------------------------------------------------


@BY_ERROR
def test_every_error_carries_its_domain_and_a_stable_reason(error: QueueManagerError, code: grpc.StatusCode) -> None:
    """`ErrorInfo`, always, with the error's metadata."""
    info = details(status_of(error))["ErrorInfo"]
    assert info == error_details_pb2.ErrorInfo(domain=DOMAIN, reason=error.reason, metadata=error.metadata)
    assert DOMAIN == "queue-manager.streamforge"


@BY_ERROR
def test_exactly_what_may_be_repeated_says_when(error: QueueManagerError, code: grpc.StatusCode) -> None:
    """`RetryInfo`, more than nothing."""
    found = details(status_of(error)).get("RetryInfo")
    assert (found is not None) == error.retryable
    assert found is None or found.retry_delay.ToTimedelta().total_seconds() > 0  # type: ignore[attr-defined]


def test_when_to_come_back_is_handed_on() -> None:
    """`Retry-After` of the part that is out of reach."""
    found = details(status_of(Unavailable("busy", retry_after=2.5)))["RetryInfo"]
    assert found.retry_delay.ToTimedelta().total_seconds() == 2.5  # type: ignore[attr-defined]


def test_an_invalid_request_lists_every_violation_in_order() -> None:
    """`BadRequest` with JSON paths."""
    violations = [Violation("symbol", "is required"), Violation("requests[2].interval", "contradicts its type")]
    status = status_of(InvalidRequest(violations))
    found = details(status)["BadRequest"].field_violations  # type: ignore[attr-defined]
    assert [(v.field, v.description) for v in found] == [(v.field, v.description) for v in violations]
    assert status.message == "symbol: is required (and 1 more)"


@pytest.mark.parametrize("error", [NotFound("wf-1"), RequestIdReused("r-1", "wf-1")])
def test_an_error_about_a_queue_names_it(error: QueueManagerError) -> None:
    """`ResourceInfo`."""
    found = details(status_of(error))["ResourceInfo"]
    assert (found.resource_type, found.resource_name) == ("Queue", "wf-1")  # type: ignore[attr-defined]


def test_a_bug_is_told_by_an_id_and_nothing_else() -> None:
    """No traceback, no text of the exception."""
    status = internal("abc123")
    assert status.code == grpc.StatusCode.INTERNAL.value[0]
    assert "abc123" in status.message
    assert details(status)["ErrorInfo"].metadata == {"error_id": "abc123"}  # type: ignore[attr-defined]


def test_the_trailers_carry_the_whole_status() -> None:
    """Under the key that gRPC's libraries look for."""
    status = status_of(NotFound("wf-1"))
    ((key, value),) = trailers(status)
    assert key == DETAILS_KEY == "grpc-status-details-bin"
    assert status_pb2.Status.FromString(value) == status


def test_a_message_is_one_line() -> None:
    """Headers have no line ends."""
    assert "\n" not in status_of(Unavailable("one\ntwo\r\nthree")).message


# --- Sizes ------------------------------------------------------------------------------------------------------------


def test_a_thousand_violations_stay_below_the_limit_and_say_how_many_are_missing() -> None:
    """As many as there is room for, and the number of the rest."""
    violations = [
        Violation(f"requests[{n}].target", "'x' is not a known target; did you mean 'y'?") for n in range(1000)
    ]
    status = status_of(InvalidRequest(violations))
    assert size(status) <= HEADERS_LIMIT
    found = details(status)["BadRequest"].field_violations  # type: ignore[attr-defined]
    listed = len(found) - 1
    assert 20 < listed < 1000
    assert found[-1].description == f"and {1000 - listed} more violations, not listed here"


LONG = {
    "one violation of 4 KB": InvalidRequest([Violation("requests[0].target", "x" * 4000)]),
    "1000 violations of 2 KB": InvalidRequest([Violation(f"requests[{n}].target", "x" * 2000) for n in range(1000)]),
    "a violation in Chinese": InvalidRequest([Violation("requests[0].target", "目" * 1000)]),
    "1000 violations in Russian": InvalidRequest([Violation(f"requests[{n}].target", "ж" * 500) for n in range(1000)]),
    "a violation with a long path": InvalidRequest([Violation("labels[" + "k" * 4000 + "]", "is too long")]),
    "an unknown queue": NotFound("目" * 253),
    "a part that says much": Unavailable("目" * 5000),
}


@pytest.mark.parametrize("what", LONG)
def test_whatever_an_error_says_its_status_stays_below_the_limit(what: str) -> None:
    """Else the caller is told RESOURCE_EXHAUSTED instead of what is wrong."""
    assert size(status_of(LONG[what])) <= HEADERS_LIMIT


def test_the_worst_request_stays_below_the_limit() -> None:
    """Every job has an unknown target with a long foreign name, and waits for jobs that there are not."""
    name = "загрузчик" * 20
    gates = [DependencyRequest(job=f"{name}-{n}") for n in range(64)]
    request = start(*(JobRequest(target=name, type=name, depends_on=gates) for _ in range(64)), symbol=name)
    with pytest.raises(InvalidRequest) as refused:
        accepted(request)
    assert size(status_of(refused.value)) <= HEADERS_LIMIT
