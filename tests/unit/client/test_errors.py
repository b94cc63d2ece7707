"""What reaches a caller when a call fails."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details

from queue_manager.client import (
    AlreadyExists,
    AsyncClient,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidRequest,
    NotFound,
    OutOfRange,
    PermissionDenied,
    QueueManagerError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Violation,
    errors,
)

from .fake_server import Failure, FakeServer

EXPECTED = {
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.UNKNOWN: InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.ABORTED: Unavailable,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: InternalError,
    grpc.StatusCode.INTERNAL: InternalError,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DATA_LOSS: InternalError,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
}


def info(reason: str, **metadata: str) -> details.ErrorInfo:
    return details.ErrorInfo(reason=reason, domain="queue-manager.streamforge", metadata=metadata)


async def failed(client: AsyncClient, server: FakeServer, failure: Failure) -> QueueManagerError:
    """The exception of a call that fails like this, whatever the retries."""
    server.failures["GetQueue"].extend([failure] * 10)
    with pytest.raises(QueueManagerError) as caught:
        await client.get_queue("wf-x")
    return caught.value


def test_the_table_has_every_code() -> None:
    """A code that gRPC adds one day must get its exception."""
    assert set(errors.EXCEPTIONS) == set(grpc.StatusCode)


def test_every_exception_stands_in_the_table_under_its_own_code() -> None:
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, QueueManagerError)]
    for exception in set(classes) - {QueueManagerError}:
        assert errors.EXCEPTIONS[exception.default_code] is exception


@pytest.mark.parametrize("code", EXPECTED, ids=lambda code: code.name)
async def test_a_bare_code_becomes_its_exception(
    code: grpc.StatusCode, client: AsyncClient, server: FakeServer
) -> None:
    """Without details, as from a proxy; grpc's own exception is kept as the cause."""
    error = await failed(client, server, Failure(code, "plain words"))
    assert type(error) is EXPECTED[code]
    assert error.code is code
    assert "plain words" in str(error) or code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert isinstance(error.__cause__, grpc.aio.AioRpcError)
    assert not error.from_server


@pytest.mark.parametrize(
    ("failure", "undecided"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"), True),
        (Failure(grpc.StatusCode.CANCELLED, "RST_STREAM"), True),
        (Failure(grpc.StatusCode.INTERNAL, "RST_STREAM"), True),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), True),
        (Failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: x"), False),
        (Failure(grpc.StatusCode.UNAVAILABLE, "no store", (info("STORE_UNAVAILABLE"),)), False),
        (Failure(grpc.StatusCode.INTERNAL, "a bug", (info("INTERNAL"),)), False),
        (Failure(grpc.StatusCode.NOT_FOUND), False),
    ],
    ids=lambda value: value.code.name if isinstance(value, Failure) else str(value),
)
async def test_without_an_answer_it_is_undecided(
    failure: Failure, undecided: bool, client: AsyncClient, server: FakeServer
) -> None:
    """Unless the call was never sent."""
    assert (await failed(client, server, failure)).undecided is undecided


async def test_it_stays_undecided_while_later_attempts_decide_nothing(client: AsyncClient, server: FakeServer) -> None:
    """They say that they were not done; the first one may have been."""
    refused = Failure(grpc.StatusCode.UNAVAILABLE, "no store", (info("STORE_UNAVAILABLE"),))
    server.failures["GetQueue"].append(Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    error = await failed(client, server, refused)
    assert (error.reason, error.undecided) == ("STORE_UNAVAILABLE", True)
    server.failures["GetQueue"].clear()
    server.failures["GetQueue"].append(Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    decided = await failed(client, server, Failure(grpc.StatusCode.NOT_FOUND, "none", (info("QUEUE_NOT_FOUND"),)))
    assert not decided.undecided


async def test_violations_are_read_in_order(client: AsyncClient, server: FakeServer) -> None:
    """Every violation arrives, with its path and its remedy."""
    bad_request = details.BadRequest()
    bad_request.field_violations.add(field="requests[2].interval", description="use 1m, 5m or 1h")
    bad_request.field_violations.add(field="time_range", description="ends before it starts")
    failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, "2 rules", (info("INVALID_REQUEST"), bad_request))
    error = await failed(client, server, failure)
    assert isinstance(error, InvalidRequest)
    assert error.violations == [
        Violation("requests[2].interval", "use 1m, 5m or 1h"),
        Violation("time_range", "ends before it starts"),
    ]
    assert (error.reason, error.message, error.retryable, error.from_server) == (
        "INVALID_REQUEST",
        "2 rules",
        False,
        True,
    )


async def test_the_resource_is_named(client: AsyncClient, server: FakeServer) -> None:
    """A conflict says which queue has the request id."""
    resource = details.ResourceInfo(resource_type="Queue", resource_name="wf-first")
    failure = Failure(grpc.StatusCode.ALREADY_EXISTS, "taken", (info("REQUEST_ID_REUSED", request_id="x"), resource))
    error = await failed(client, server, failure)
    assert isinstance(error, AlreadyExists)
    assert error.metadata == {"request_id": "x", "resource_type": "Queue", "resource": "wf-first"}


async def test_retry_info_is_read_in_seconds(client: AsyncClient, server: FakeServer) -> None:
    retry = details.RetryInfo(retry_delay=Duration(seconds=2, nanos=500_000_000))
    failure = Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers", (info("LIMIT_EXCEEDED"), retry))
    error = await failed(client, server, failure)
    assert error.retry_after == 2.5
    assert error.retryable


@pytest.mark.parametrize("detail", [info("INTERNAL", error_id="e-17"), details.RequestInfo(request_id="e-17")])
async def test_an_internal_error_has_its_id(
    detail: details.ErrorInfo | details.RequestInfo, client: AsyncClient, server: FakeServer
) -> None:
    """The id under which the server's log has it."""
    error = await failed(client, server, Failure(grpc.StatusCode.INTERNAL, "a bug", (detail,)))
    assert isinstance(error, InternalError)
    assert error.error_id == "e-17"


@pytest.mark.parametrize("raw", [b"\xff\xff\xff", b"\x0a\x80"])
async def test_details_that_cannot_be_read_hide_nothing(raw: bytes, client: AsyncClient, server: FakeServer) -> None:
    """A broken trailer must not replace the error that it came with."""
    error = await failed(client, server, Failure(grpc.StatusCode.NOT_FOUND, "no such queue", raw_details=raw))
    assert isinstance(error, NotFound)
    assert error.message == "no such queue"


async def test_nobody_there_is_unreachable() -> None:
    """The address is in the message, because it is what is wrong most often."""
    async with AsyncClient("127.0.0.1:1") as client:
        with pytest.raises(Unavailable, match=r"cannot reach the server at 127\.0\.0\.1:1") as caught:
            await client.get_queue("wf-x", timeout=0.5)
    assert caught.value.reason == errors.REASON_UNREACHABLE


async def test_no_answer_in_time_is_a_deadline(client: AsyncClient, server: FakeServer) -> None:
    server.answer_delay = 30.0
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s") as caught:
        await client.get_queue("wf-x", timeout=0.1)
    assert caught.value.reason == errors.REASON_TIMEOUT


def test_an_invalid_request_without_words_is_told_by_its_violations() -> None:
    error = InvalidRequest(violations=[Violation("symbol", "is missing"), Violation("requests", "is empty")])
    assert str(error) == "symbol: is missing; requests: is empty"


class TestAgainstTheServersTable:
    """Both tables together: what the server raises is what the client raises."""

    def test_every_error_of_the_server_arrives_as_its_namesake(self) -> None:
        """Only its bugs and lost races have no name of their own here."""
        from queue_manager.client.status import from_rpc_error  # noqa: PLC0415
        from queue_manager.server.domain import errors as server_errors  # noqa: PLC0415
        from queue_manager.server.rpc import status  # noqa: PLC0415

        violation = server_errors.Violation("symbol", "is missing")
        raised: list[tuple[server_errors.QueueManagerError, type[QueueManagerError]]] = [
            (server_errors.InvalidRequest([violation]), InvalidRequest),
            (server_errors.PageTokenMismatch([violation]), InvalidRequest),
            (server_errors.NotFound("wf-x"), NotFound),
            (server_errors.RequestIdReused("id", "wf-x"), AlreadyExists),
            (server_errors.RevisionInFuture(5, 3), OutOfRange),
            (server_errors.LimitExceeded("full"), ResourceExhausted),
            (server_errors.TooLarge(2_000_000, 1_048_576), ResourceExhausted),
            (server_errors.Unavailable("store", retry_after=3.0), Unavailable),
            (server_errors.ShuttingDown("bye"), Unavailable),
            (server_errors.Conflict("lost"), Unavailable),
        ]
        for error, expected in raised:
            sent = status.status_of(error)
            code = next(code for code in grpc.StatusCode if code.value[0] == sent.code)
            metadata = grpc.aio.Metadata(*status.trailers(sent))
            received = from_rpc_error(
                grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=sent.message), target="x"
            )
            assert type(received) is expected
            assert (received.reason, received.message) == (error.reason, error.message)
            assert received.retryable == error.retryable
