"""Requests over HTTP as messages: the cases that the comments of `google/api/http.proto` describe, as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from queue_manager.gateway.contract import Contract, ContractError
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoints
from queue_manager.gateway.problems import Malformed, MethodNotAllowed, NoSuchPath

Query = Sequence[tuple[str, str]]
EVERYTHING = "/v6/everything"


@pytest.fixture(scope="module")
def endpoints(rules: Contract) -> Endpoints:
    """Of the tests' contract."""
    return Endpoints(rules, Encoder(rules.pool))


def read(endpoints: Endpoints, method: str, path: str, query: Query = (), body: Any = b"") -> tuple[str, Any]:
    """The method that is called, and its request as JSON."""
    endpoint, segments = endpoints.find(method, path)
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    message = endpoint.request(segments, query, raw)
    return endpoint.method.name, json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=endpoint._pool
    )


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "name", "request_"),
    [
        # The comments' own examples.
        ("GET", "/v1/messages/123456", [], b"", "GetByName", {"name": "messages/123456"}),
        (
            "GET",
            "/v2/messages/123456",
            [("revision", "2"), ("sub.subfield", "foo")],
            b"",
            "GetMessage",
            {"message_id": "123456", "revision": "2", "sub": {"subfield": "foo"}},
        ),
        ("GET", "/v2/users/me/messages/123456", [], b"", "GetMessage", {"user_id": "me", "message_id": "123456"}),
        (
            "PATCH",
            "/v3/messages/123456",
            [],
            {"text": "Hi!"},
            "UpdateMessage",
            {"message_id": "123456", "message": {"text": "Hi!"}},
        ),
        ("PATCH", "/v4/messages/123456", [], {"text": "Hi!"}, "UpdateWhole", {"message_id": "123456", "text": "Hi!"}),
        # A body for one field, the rest in the query.
        (
            "PATCH",
            "/v3/messages/1",
            [("update_mask", "text,messageId")],
            {"text": "x"},
            "UpdateMessage",
            {"message_id": "1", "message": {"text": "x"}, "update_mask": "text,messageId"},
        ),
        ("PATCH", "/v3/messages/1", [], b"", "UpdateMessage", {"message_id": "1"}),
        (
            "PUT",
            "/v5/files/a/b%2Fc:move",
            [("source", "s")],
            ["x", "y"],
            "Move",
            {"target": {"path": "files/a/b%2Fc"}, "tags": ["x", "y"], "source": "s"},
        ),
        # Variables of several segments and with a verb; the path may repeat what the body says.
        (
            "POST",
            "/v5/shelves/1/books/2:move",
            [],
            {"target": {"path": "p"}},
            "Move",
            {"source": "shelves/1/books/2", "target": {"path": "p"}},
        ),
        (
            "POST",
            "/v5/shelves/1/books/2:move",
            [],
            {"source": "shelves/1/books/2"},
            "Move",
            {"source": "shelves/1/books/2"},
        ),
        # Variables of other types than text.
        (
            "GET",
            "/v6/-7/COLOR_RED/true/9007199254740993:typed",
            [],
            b"",
            "Everything",
            {"number": -7, "color": "COLOR_RED", "flag": True, "big": "9007199254740993"},
        ),
        ("REPORT", EVERYTHING, [("number", "1")], b"", "Everything", {"number": 1}),
        # Query parameters: either spelling, nested, repeated, well-known.
        ("GET", EVERYTHING, [("lowerCamelCaseName", "x")], b"", "Everything", {"lower_camel_case_name": "x"}),
        (
            "GET",
            EVERYTHING,
            [("words", "a"), ("words", ""), ("words", "a")],
            b"",
            "Everything",
            {"words": ["a", "", "a"]},
        ),
        (
            "GET",
            EVERYTHING,
            [("colors", "COLOR_BLUE"), ("colors", "COLOR_RED")],
            b"",
            "Everything",
            {"colors": ["COLOR_BLUE", "COLOR_RED"]},
        ),
        (
            "GET",
            EVERYTHING,
            [("time", "2024-06-01T12:00:00.5+02:00"), ("duration", "1.5s"), ("mask", "text,number")],
            b"",
            "Everything",
            {"time": "2024-06-01T10:00:00.500Z", "duration": "1.500s", "mask": "text,number"},
        ),
        (
            "GET",
            EVERYTHING,
            [("wrapped", "-5"), ("wrapped_flag", "false"), ("maybe", ""), ("maybe_big", "0")],
            b"",
            "Everything",
            {"wrapped": "-5", "wrapped_flag": False, "maybe": "", "maybe_big": "0"},
        ),
        (
            "GET",
            EVERYTHING,
            [("times", "1970-01-01T00:00:00Z"), ("times", "1970-01-01T00:00:01Z")],
            b"",
            "Everything",
            {"times": ["1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"]},
        ),
        ("GET", EVERYTHING, [("single", "0.5"), ("real", "NaN")], b"", "Everything", {"single": 0.5, "real": "NaN"}),
        ("GET", EVERYTHING, [("data", "-_8")], b"", "Everything", {"data": "+/8="}),
        ("GET", EVERYTHING, [("biggest", str(2**64 - 1))], b"", "Everything", {"biggest": str(2**64 - 1)}),
        ("GET", EVERYTHING, [("right.text", "x")], b"", "Everything", {"right": {"text": "x"}}),
        (
            "GET",
            "/v2/messages/1",
            [("sub.numbers", "1"), ("sub.numbers", "2")],
            b"",
            "GetMessage",
            {"message_id": "1", "sub": {"numbers": [1, 2]}},
        ),
        # Bodies by proto3's JSON mapping.
        (
            "POST",
            EVERYTHING,
            [],
            {"lowerCamelCaseName": "x", "maybeBig": 5},
            "Everything",
            {"lower_camel_case_name": "x", "maybe_big": "5"},
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"number": 1e3, "big": "7", "color": 2, "text": None},
            "Everything",
            {"number": 1000, "big": "7", "color": "COLOR_BLUE"},
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"document": {"a": [1, None]}, "value": None, "list": [True]},
            "Everything",
            {"document": {"a": [1.0, None]}, "value": None, "list": [True]},
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"by_number": {"-1": {"text": "x"}}, "by_flag": {"true": "COLOR_RED"}},
            "Everything",
            {"by_number": {"-1": {"text": "x"}}, "by_flag": {"true": "COLOR_RED"}},
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"any": {"@type": "x/rules.Message", "text": "y"}},
            "Everything",
            {"any": {"@type": "x/rules.Message", "text": "y"}},
        ),
        ("POST", EVERYTHING, [], {"nothing": None}, "Everything", {"nothing": None}),
        (
            "POST",
            EVERYTHING,
            [],
            {"itself": {"itself": {}}, "empty": {}},
            "Everything",
            {"itself": {"itself": {}}, "empty": {}},
        ),
        ("POST", EVERYTHING, [], b"", "Everything", {}),
        ("POST", EVERYTHING, [], b"\xef\xbb\xbf{}", "Everything", {}),
        ("GET", "/v7/tail", [("name", "a&b=c")], b"", "Tail", {"name": "a&b=c"}),
    ],
)
def test_what_a_request_becomes(
    endpoints: Endpoints, method: str, path: str, query: Query, body: Any, name: str, request_: Any
) -> None:
    """The method and its request."""
    assert read(endpoints, method, path, query, body) == (name, request_)


@pytest.mark.parametrize(
    ("method", "path", "query", "body", "fields"),
    [
        # Query parameters.
        ("GET", "/v2/messages/1", [("message_id", "2")], b"", ["message_id"]),
        ("GET", "/v2/messages/1", [("revisoin", "2")], b"", ["revisoin"]),
        ("GET", "/v2/messages/1", [("revision", "2"), ("revision", "2")], b"", ["revision"]),
        ("GET", "/v2/messages/1", [("revision", "2"), ("sub", "x")], b"", ["sub"]),
        ("GET", "/v2/messages/1", [("sub.parent.message_id", "x")], b"", ["sub.parent.message_id"]),
        ("GET", EVERYTHING, [("number", "x"), ("flag", "1"), ("time", "now")], b"", ["number", "flag", "time"]),
        ("GET", EVERYTHING, [("number", ""), ("number", "1.5")], b"", ["number"]),
        ("GET", EVERYTHING, [("positive", "-1"), ("number", str(2**31))], b"", ["positive", "number"]),
        ("GET", EVERYTHING, [("color", "1"), ("colors", "RED")], b"", ["color", "colors"]),
        (
            "GET",
            EVERYTHING,
            [("labels", "{}"), ("labels.a", "b"), ("document", "{}")],
            b"",
            ["labels", "labels.a", "document"],
        ),
        ("GET", EVERYTHING, [("left", "a"), ("right.text", "b")], b"", ["right.text"]),
        ("GET", EVERYTHING, [("real", "1e999"), ("single", "1e39")], b"", ["real", "single"]),
        ("POST", EVERYTHING, [("number", "1")], {}, ["number"]),
        ("PATCH", "/v3/messages/1", [("message.text", "x")], {}, ["message.text"]),
        # Paths.
        ("GET", "/v6/x/COLOR_GREEN/yes/1.0:typed", [], b"", ["number", "color", "flag", "big"]),
        ("GET", "/v2/messages/%ff", [], b"", ["path"]),
        ("POST", "/v5/shelves/1/books/2:move", [], {"source": "shelves/1/books/3"}, ["source"]),
        # Bodies.
        ("POST", EVERYTHING, [], [], [""]),
        ("POST", EVERYTHING, [], {"nmber": 1, "text": 5}, ["nmber", "text"]),
        ("POST", EVERYTHING, [], {"lower_camel_case_name": "x", "lowerCamelCaseName": "x"}, ["lowerCamelCaseName"]),
        ("POST", EVERYTHING, [], {"left": "a", "right": {}}, ["right"]),
        (
            "POST",
            EVERYTHING,
            [],
            {"number": True, "flag": "true", "words": "a", "labels": []},
            ["number", "flag", "words", "labels"],
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"words": ["a", None, 5], "labels": {"a": None}},
            ["words[1]", "words[2]", 'labels["a"]'],
        ),
        (
            "POST",
            EVERYTHING,
            [],
            {"messages": [{"text": 1}, 2, {"x": 3}]},
            ["messages[0].text", "messages[1]", "messages[2].x"],
        ),
        ("POST", EVERYTHING, [], {"by_number": {"x": {}, "1": 2}}, ['by_number["x"]', 'by_number["1"]']),
        ("POST", EVERYTHING, [], {"color": "GREEN", "colors": ["COLOR_RED", 2**31]}, ["color", "colors[1]"]),
        (
            "POST",
            EVERYTHING,
            [],
            {"time": "2024", "duration": "5", "wrapped": "x", "document": 1},
            ["time", "duration", "wrapped", "document"],
        ),
        ("POST", EVERYTHING, [], {"any": {"@type": "x/no.Such"}}, ["any"]),
        ("POST", EVERYTHING, [], {"data": "!"}, ["data"]),
        ("POST", EVERYTHING, [], {"text": "\ud800"}, ["text"]),
        ("POST", EVERYTHING, [], {"number": 1.5, "big": 1e300, "fixed": -1}, ["number", "big", "fixed"]),
        (
            "POST",
            EVERYTHING,
            [],
            b'{"text":"a","text":"b","itself":{"number":1,"number":2}}',
            ["text", "itself.number"],
        ),
        ("POST", EVERYTHING, [], b'{"document":{"a":[{"b":1,"b":2}]}}', ["document.a[0].b"]),
        ("POST", EVERYTHING, [], b"{", [""]),
        ("POST", EVERYTHING, [], b"{} {}", [""]),
        ("POST", EVERYTHING, [], b'{"real": NaN}', [""]),
        ("POST", EVERYTHING, [], b'{"text": "\xff"}', [""]),
        ("POST", EVERYTHING, [], b'{"big": ' + b"1" * 5000 + b"}", [""]),
        ("POST", EVERYTHING, [], b'{"itself":' * 200 + b"{}" + b"}" * 200, [""]),
        ("POST", EVERYTHING, [], b"[" * 100_000, [""]),
        ("PUT", "/v5/files/a:move", [], {"tags": []}, ["tags"]),
    ],
)
def test_what_is_wrong_with_a_request(
    endpoints: Endpoints, method: str, path: str, query: Query, body: Any, fields: list[str]
) -> None:
    """Every violation by its path, none of them empty."""
    with pytest.raises(Malformed) as found:
        read(endpoints, method, path, query, body)
    assert [violation.field for violation in found.value.violations] == fields
    assert all(violation.description for violation in found.value.violations)
    assert len(str(found.value)) < 1000


def test_a_slip_of_the_pen_is_met_with_a_suggestion(endpoints: Endpoints) -> None:
    """In names and in values."""
    with pytest.raises(Malformed) as found:
        read(endpoints, "POST", EVERYTHING, (), {"nmber": 1, "color": "COLOR_BLEU"})
    assert [violation.description.rpartition("; ")[2] for violation in found.value.violations] == [
        "did you mean number?",
        "did you mean COLOR_BLUE?",
    ]


@pytest.mark.parametrize("digits", [19, 24, 25, 5000])
def test_a_number_out_of_range_is_told_the_range(endpoints: Endpoints, digits: int) -> None:
    """However long it is: it is a number."""
    with pytest.raises(Malformed, match="big: must be from -9223372036854775808 to 9223372036854775807"):
        read(endpoints, "POST", EVERYTHING, (), {"big": "9" * digits})


@pytest.mark.parametrize("path", ["/", "/v9", "/v8/upload", "/v1/messages", "/v1/messages/1/2", "/v7/tail/"])
def test_paths_that_lead_nowhere(endpoints: Endpoints, path: str) -> None:
    """Also where only a method that takes a stream is bound."""
    with pytest.raises(NoSuchPath):
        endpoints.find("POST", path)


def test_methods_that_a_path_does_not_have(endpoints: Endpoints) -> None:
    """The answer says which it has."""
    with pytest.raises(MethodNotAllowed) as found:
        endpoints.find("DELETE", EVERYTHING)
    assert found.value.headers == {"Allow": "GET, HEAD, OPTIONS, POST, REPORT"}


def test_what_is_answered(endpoints: Endpoints) -> None:
    """The whole response, or the field that `response_body` names, message or not."""
    whole, _ = endpoints.find("PATCH", "/v4/messages/1")
    one, _ = endpoints.find("POST", "/v5/shelves/1/books/2:move")
    several, _ = endpoints.find("PUT", "/v5/files/1:move")
    moved = one.method.response()
    json_format.ParseDict({"moved": {"text": "x"}, "titles": ["a", "b"]}, moved)
    raw = moved.SerializeToString()
    assert json.loads(whole.answer(whole.method.response(text="y").SerializeToString()).body) == {
        "message_id": "",
        "text": "y",
    }
    assert json.loads(one.answer(raw).body) == {"message_id": "", "text": "x"}
    assert json.loads(several.answer(raw).body) == ["a", "b"]
    assert json.loads(several.answer(b"").body) == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"get": "/v1/{unheard_of}"}, "unheard_of"),
        ({"get": "/v1/{words}"}, "words"),
        ({"get": "/v1/{itself}"}, "itself"),
        ({"get": "/v1/{text.x}"}, "text"),
        ({"get": "v1"}, "v1"),
        ({"post": "/v1", "body": "unheard_of"}, "unheard_of"),
        ({"post": "/v1", "response_body": "unheard_of"}, "unheard_of"),
        ({"body": "*"}, "no path"),
    ],
)
def test_annotations_that_cannot_be_served(rules: Contract, rule: dict[str, str], told: str) -> None:
    """Named at the start, with the method."""
    files = FileDescriptorSet()
    files.CopyFrom(rules.files)
    service = next(file for file in files.file if file.package == "rules").service[0]
    method = next(each for each in service.method if each.name == "Everything")
    extension = method.options.Extensions[annotations_pb2.http]
    extension.Clear()
    for name, value in rule.items():
        setattr(extension, name, value)
    with pytest.raises(ContractError, match=rf"^Everything: .*{told}"):
        Contract.of(files)
