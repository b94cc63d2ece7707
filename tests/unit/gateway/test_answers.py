"""The smaller parts of an answer: the error model, forms of a stream, guards, metadata, deadlines."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from queue_manager.gateway import status as statuses
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoints
from queue_manager.gateway.frames import Form
from queue_manager.gateway.guard import ANY, Guard
from queue_manager.gateway.problems import CrossSite, Malformed, Misdirected, NotAcceptable, Refused
from queue_manager.gateway.streaming import form_of
from queue_manager.gateway.upstream import metadata_of, timeout_of
from queue_manager.v1 import service_pb2


def headers(**values: str) -> CIMultiDictProxy[str]:
    """Of a request."""
    return CIMultiDictProxy(CIMultiDict({name.replace("_", "-"): value for name, value in values.items()}))


def failed(code: grpc.StatusCode, details: str = "", *trailing: tuple[str, Any]) -> grpc.aio.AioRpcError:
    """A call that has failed."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


def test_every_code_has_a_status() -> None:
    """All that gRPC has, and none below 400 but OK."""
    assert set(statuses.HTTP_STATUS) == set(grpc.StatusCode)
    assert {code.value[0] for code in grpc.StatusCode} == set(code_pb2.Code.values())
    assert [code for code, status in statuses.HTTP_STATUS.items() if status < 400] == [grpc.StatusCode.OK]


def test_every_refusal_is_an_error() -> None:
    """With a status of its own and a stable reason."""
    kinds: list[type[Refused]] = [Refused, *Refused.__subclasses__()]
    assert len(kinds) > 10
    assert len({kind.reason for kind in kinds}) >= len(kinds) - 1  # Malformed has the first's
    for kind in kinds:
        assert kind.http_status >= 400
        assert kind.code is not grpc.StatusCode.OK


def test_the_servers_details_are_passed_on() -> None:
    """As JSON, whatever they are; those that we do not know as they are."""
    status = status_pb2.Status(code=14, message="away")
    for detail in (
        error_details_pb2.ErrorInfo(reason="UNAVAILABLE", domain="d", metadata={"a": "b"}),
        error_details_pb2.RetryInfo(retry_delay=Duration(seconds=2, nanos=1)),
    ):
        status.details.add().Pack(detail)
    status.details.append(AnyMessage(type_url="type.googleapis.com/no.Such", value=b"\x01"))
    read = statuses.of_call(
        failed(grpc.StatusCode.UNAVAILABLE, "away", (statuses.DETAILS_KEY, status.SerializeToString())), server="s"
    )
    assert read == status
    assert json.loads(statuses.to_json(read)) == {
        "code": 14,
        "message": "away",
        "details": [
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "UNAVAILABLE",
                "domain": "d",
                "metadata": {"a": "b"},
            },
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retry_delay": "2.000000001s"},
            {"@type": "type.googleapis.com/no.Such", "value": "AQ=="},
        ],
    }
    assert statuses.headers(read) == {"Retry-After": "3"}
    assert statuses.http_status(read) == 503


@pytest.mark.parametrize(
    ("code", "trailing", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, (), "SERVER_UNREACHABLE"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, (), "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.UNIMPLEMENTED, (), "UNIMPLEMENTED"),
        (grpc.StatusCode.INTERNAL, ((statuses.DETAILS_KEY, b"\xff"),), "INTERNAL"),
    ],
)
def test_where_grpc_itself_fails(code: grpc.StatusCode, trailing: tuple[Any, ...], reason: str) -> None:
    """An error of the same form is made."""
    told = json.loads(statuses.to_json(statuses.of_call(failed(code, "words", *trailing), server="there:1")))
    assert told["code"] == code.value[0]
    assert told["details"][0]["reason"] == reason
    assert told["message"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, Form.EVENTS),
        ("*/*", Form.EVENTS),
        ("text/event-stream", Form.EVENTS),
        ("text/html, */*;q=0.1", Form.EVENTS),
        ("application/x-ndjson", Form.LINES),
        ("application/jsonl;q=0.5, text/html", Form.LINES),
        ("text/event-stream;q=0.2, application/x-ndjson;q=0.3", Form.LINES),
        ("text/event-stream;q=0, application/*", Form.LINES),
        ("application/x-ndjson;q=x", Form.LINES),
        ("text/event-stream;q=0, */*", Form.LINES),
        ("*/*, application/x-ndjson", Form.LINES),
        ("*/*;q=0.5, text/event-stream;q=0.4", Form.LINES),
    ],
)
def test_the_form_that_is_accepted(accept: str | None, form: Form) -> None:
    """The one with the greater weight."""
    assert form_of(headers(**({} if accept is None else {"Accept": accept}))) is form


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json", "text/event-stream;q=0", "application/json-seq", "*/*;q=0", "x"]
)
def test_a_form_that_there_is_not(accept: str) -> None:
    """Is refused."""
    with pytest.raises(NotAcceptable):
        form_of(headers(Accept=accept))


def test_frames_as_events_and_as_lines() -> None:
    """Ids, names without their prefix, comments for heartbeats."""
    contract = Contract.load()
    writer = Endpoints(contract, Encoder(contract.pool)).find("GET", "/v1/queues/q:watch")[0].writer
    update = writer.text(service_pb2.WatchQueueResponse(kind="FRAME_KIND_UPDATE", revision=7, revisions_merged=1))  # type: ignore[arg-type]
    text = '{"kind":"FRAME_KIND_UPDATE","revision":"7","revisions_merged":"1"}'
    assert update.written(Form.EVENTS).decode() == f"id: 7\nevent: UPDATE\ndata: {text}\n\n"
    assert update.written(Form.LINES).decode() == f"{text}\n"
    beat = writer.text(service_pb2.WatchQueueResponse(kind="FRAME_KIND_HEARTBEAT", revision=7))  # type: ignore[arg-type]
    assert beat.written(Form.EVENTS) == b": heartbeat, revision 7\n\n"
    assert json.loads(beat.written(Form.LINES))["kind"] == "FRAME_KIND_HEARTBEAT"


@given(st.text())
def test_no_text_breaks_an_event(text: str) -> None:
    """Whatever a worker says stays on the one line of `data`."""
    contract = Contract.load()
    writer = Endpoints(contract, Encoder(contract.pool)).find("GET", "/v1/queues/q:watch")[0].writer
    frame = service_pb2.WatchQueueResponse(kind="FRAME_KIND_UPDATE", revision=1)  # type: ignore[arg-type]
    frame.queue.message = text.encode(errors="replace").decode()
    written = writer.text(frame).written(Form.EVENTS)
    assert written.count(b"\n") == 4
    assert b"\r" not in written


@pytest.mark.parametrize(
    ("given", "allowed"),
    [
        ({}, True),
        ({"Sec_Fetch_Site": "same-origin"}, True),
        ({"Sec_Fetch_Site": "none"}, True),
        ({"Origin": "http://localhost:8080"}, True),
        ({"Origin": "https://board.example"}, True),
        ({"Origin": "https://BOARD.example", "Sec_Fetch_Site": "cross-site"}, True),
        ({"Origin": "http://localhost:9090", "Sec_Fetch_Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Sec_Fetch_Site": "cross-site"}, False),
    ],
)
def test_who_may_change_something(given: dict[str, str], allowed: bool) -> None:
    """Programs, the page itself, and the origins that are named; anyone may read."""
    guard = Guard(origins=("https://board.example",), hosts=())
    asked = headers(Host="localhost:8080", **given)
    guard.check("GET", asked)
    if allowed:
        guard.check("POST", asked)
    else:
        with pytest.raises(CrossSite, match="QM_HTTP_CORS_ORIGINS"):
            guard.check("POST", asked)


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("127.0.0.1:1", True),
        ("[::1]:8080", True),
        ("[::2]:8080", False),
        ("localhost.evil.example", False),
        ("evil.example:8080", False),
        ("", False),
    ],
)
def test_what_we_are_called(host: str, ours: bool) -> None:
    """With any port."""
    guard = Guard(origins=(), hosts=("localhost", "127.0.0.1", "[::1]"))
    if ours:
        guard.check("GET", headers(Host=host))
    else:
        with pytest.raises(Misdirected, match="QM_HTTP_HOSTS"):
            guard.check("GET", headers(Host=host))


def test_any_origin() -> None:
    """Is said as such, and never with credentials."""
    told = Guard(origins=(ANY,), hosts=()).cors(headers(Origin="https://x.example"))
    assert told["Access-Control-Allow-Origin"] == ANY
    assert "Access-Control-Allow-Credentials" not in told


def test_what_goes_on_to_the_server() -> None:
    """Credentials and traces as they are, `Grpc-Metadata-` by name, nothing that is gRPC's own."""
    given = headers(
        Authorization="Bearer x",
        X_Request_Id="r",
        traceparent="00-1",
        Grpc_Metadata_Tenant="t",
        Grpc_Metadata_grpc_timeout="1S",
        Grpc_Metadata_x_requested_by="somebody else",
        Grpc_Metadata_Blob_bin="AA==",
        Cookie="secret",
        Host="h",
    )
    assert dict(metadata_of(given, "10.0.0.1")) == {
        "x-requested-by": "10.0.0.1",
        "authorization": "Bearer x",
        "x-request-id": "r",
        "traceparent": "00-1",
        "tenant": "t",
    }
    assert dict(metadata_of(headers(X_Requested_By="Zoë\u2028"), None))["x-requested-by"] == "Zo??"


@pytest.mark.parametrize(
    ("text", "seconds"), [("5S", 5.0), ("500m", 0.5), ("1H", 3600.0), ("2M", 120.0), ("7u", 7e-6), ("00000009n", 9e-9)]
)
def test_deadlines(text: str, seconds: float) -> None:
    """In gRPC's own form."""
    assert timeout_of(headers(Grpc_Timeout=text)) == pytest.approx(seconds)
    assert timeout_of(headers()) is None


@pytest.mark.parametrize("text", ["", "5", "S", "0S", "-1S", "1.5S", "123456789S", "5s", "\u0665S"])
def test_what_is_no_deadline(text: str) -> None:
    """Is refused, with the form."""
    with pytest.raises(Malformed, match="5S"):
        timeout_of(headers(Grpc_Timeout=text))
