"""The document of our own contract: valid, complete, and true to the JSON that the gateway reads and writes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from queue_manager.gateway.contract import Contract
from queue_manager.gateway.openapi import as_yaml, document
from queue_manager.v1 import queue_pb2, service_pb2, target_pb2

ROOT = Path(__file__).resolve().parents[3]
CONTRACT = Contract.load()
DOCUMENT = document(CONTRACT, version="1.2.3", server_url="http://localhost:8080")


def operations(made: dict[str, Any] = DOCUMENT) -> Iterator[tuple[str, str, Any]]:
    """Each operation with its path and method."""
    for path, item in made["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def operation(name: str) -> Any:
    """An operation by its id."""
    return next(each for _, _, each in operations() if each["operationId"] == name)


def validator(schema: Any, made: dict[str, Any] = DOCUMENT) -> Draft202012Validator:
    """What holds values against one of the document's schemas."""
    return Draft202012Validator({**schema, "components": made["components"]})


def accepts(name: str, value: Any) -> bool:
    """Whether a component's schema takes a value."""
    return validator({"$ref": f"#/components/schemas/{name}"}).is_valid(value)


def media_with_examples(part: Any) -> Iterator[Any]:
    """Everything below that has a schema and examples of it."""
    if isinstance(part, dict):
        if "schema" in part and ("examples" in part or "example" in part):
            yield part
        for each in part.values():
            yield from media_with_examples(each)
    elif isinstance(part, list):
        for each in part:
            yield from media_with_examples(each)


def as_answered(message: Any) -> Any:
    """A message as the gateway answers it."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def test_it_is_valid() -> None:
    """By the specification's own schema, and each of its schemas by that of JSON Schema."""
    validate(DOCUMENT)
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)


def test_everything_that_is_bound_is_there() -> None:
    """Also additional bindings, under names of their own."""
    there = {(path, method) for path, method, _ in operations()}
    assert there >= {(binding.template.text, binding.http_method.lower()) for binding in CONTRACT.bindings}
    names = [each["operationId"] for _, _, each in operations()]
    assert len(names) == len(set(names))
    assert {"StopQueue", "StopQueue_2", "Readiness"} <= set(names)


def test_every_reference_leads_somewhere_and_every_component_is_used() -> None:
    """References within the document, components but for the ways to authenticate."""
    text = json.dumps(DOCUMENT)
    used = set(re.findall(r'"#/components/(\w+)/([\w.]+)"', text))
    there = {(kind, name) for kind, parts in DOCUMENT["components"].items() for name in parts}
    assert used <= there
    assert {(kind, name) for kind, name in there - used if kind != "securitySchemes"} == set()


def test_path_parameters_are_those_of_the_path() -> None:
    """All of them, and no others."""
    for path, _, each in operations():
        named = [p["name"] for p in each.get("parameters", []) if p.get("in") == "path"]
        assert named == re.findall(r"\{(\w+)\}", path)


def test_every_example_fits_its_schema() -> None:
    """Of bodies, answers and parameters."""
    found = list(media_with_examples(DOCUMENT))
    assert len(found) > 5
    for media in found:
        values = [each["value"] for each in media.get("examples", {}).values()]
        for value in [*values, *([media["example"]] if "example" in media else [])]:
            validator(media["schema"]).validate(value)


def test_the_first_example_is_the_historical_payload() -> None:
    """What the page of the documentation puts into the form."""
    body = operation("StartQueue")["requestBody"]["content"]["application/json"]
    first, second, *_ = body["examples"].values()
    assert first["value"] == json.loads((ROOT / "examples/historical-pipeline.json").read_text())
    assert second["value"] == json.loads((ROOT / "examples/realtime-pipeline.json").read_text())


def test_words_are_the_comments() -> None:
    """A method's as summary and description, an enum's with its values'."""
    started = operation("StartQueue")
    assert started["summary"] == "Starts a queue"
    assert started["description"].startswith("Starts a queue: validates the whole request")
    assert "\n" not in started["description"]
    assert "another path of POST /v1/queues" in operation("StartQueue_2")["summary"]
    states = DOCUMENT["components"]["schemas"]["QueueState"]
    assert "* `QUEUE_STATE_PENDING`: Recorded; no worker runs yet." in states["description"]


def test_an_answer_fits_its_schema_also_where_it_is_empty() -> None:
    """As the gateway prints it: 64-bit integers are strings, and what cannot be absent is there."""
    queue = queue_pb2.Queue(revision=17, jobs=[queue_pb2.Job(progress=0.5, depends_on=[queue_pb2.Dependency(job="a")])])
    queue.create_time.GetCurrentTime()
    queue.start_timeout.FromMilliseconds(1500)
    for message in (queue_pb2.Queue(), queue):
        assert accepts("Queue", as_answered(message))
    assert not accepts("Queue", {**as_answered(queue), "revision": 17})
    assert not accepts("Queue", {name: value for name, value in as_answered(queue).items() if name != "jobs"})
    assert accepts("Queue", {**as_answered(queue), "new_in_a_later_version": True})


BODY = {"symbol": "BTCUSDT", "requests": [{"target": "loader-producer", "type": "api_trades"}]}


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        {**BODY, "failure_policy": "FAILURE_POLICY_STOP_ALL", "labels": {"a": "b"}, "start_timeout": "0.5s"},
        {**BODY, "failure_policy": 2, "labels": None, "time_range": None},
        {**BODY, "requests": [{"target": "t", "type": "t", "depends_on": [{"job": "a", "condition": 1}]}]},
    ],
)
def test_a_body_that_proto_reads_fits(body: Any) -> None:
    """Names or numbers for enums, null for what is not sent."""
    json_format.ParseDict(body, service_pb2.StartQueueRequest())
    assert accepts("StartQueueRequest", body)


@pytest.mark.parametrize(
    "body",
    [
        {**BODY, "unknown": 1},
        {**BODY, "symbol": None},
        {**BODY, "symbol": 5},
        {**BODY, "failure_policy": "STOP_ALL"},
        {**BODY, "start_timeout": "5m"},
        {**BODY, "start_timeout": "999999999999s"},
        {**BODY, "requests": []},
        {**BODY, "requests": [{"target": "t", "type": "t", "depends_on": [{}]}]},
        {**BODY, "labels": {"a": None}},
        {"symbol": "BTCUSDT"},
    ],
)
def test_a_body_that_is_refused_does_not_fit(body: Any) -> None:
    """Unknown fields, missing ones, values in other forms."""
    assert not accepts("StartQueueRequest", body)


def test_what_the_path_carries_is_not_in_the_body() -> None:
    """The method's other path takes it from the body."""
    named = operation("StopQueue")["requestBody"]["content"]["application/json"]["schema"]
    assert named == {"$ref": "#/components/schemas/StopQueueBody"}
    assert accepts("StopQueueBody", {"reason": "why"})
    assert not accepts("StopQueueBody", {"queue_id": "wf-1"})
    assert accepts("StopQueueRequest", {"queue_id": "wf-1"})


def test_a_body_may_be_left_out_where_nothing_of_it_must_be_sent() -> None:
    """`curl -X POST …:stop` stops: what the path carries is enough."""
    needed = {
        each["operationId"]: each["requestBody"]["required"] for _, _, each in operations() if "requestBody" in each
    }
    assert needed == {
        "StartQueue": True,
        "StartQueue_2": True,
        "StopQueue": False,
        "StopQueue_2": True,
        "ReplayDeadLetters": False,
    }


def test_a_query_has_what_the_path_has_not() -> None:
    """Enums by name, repeated fields as repeated parameters; with a whole body there is no query."""
    parameters = {p["name"]: p for p in operation("ListQueues")["parameters"] if p.get("in") == "query"}
    assert parameters["states"]["explode"] is True
    assert parameters["states"]["schema"] == {"type": "array", "items": {"$ref": "#/components/schemas/QueueState"}}
    assert parameters["page_size"]["schema"] == {"type": "integer", "format": "int32"}
    assert parameters["created_after"]["schema"] == {"type": "string", "format": "date-time"}
    assert not [p for p in operation("StartQueue")["parameters"] if p.get("in") == "query"]


def test_a_stream_says_how_it_is_read_and_resumed() -> None:
    """Two forms, the names of events, the header that resumes, no ETag."""
    watch = operation("WatchQueue")
    content = watch["responses"]["200"]["content"]
    assert list(content) == ["text/event-stream", "application/x-ndjson"]
    event = content["text/event-stream"]["schema"]["contentSchema"]["items"]["properties"]
    assert event["event"]["enum"] == ["SNAPSHOT", "UPDATE", "RESYNC", "END", "ERROR"]
    status = {"$ref": "#/components/schemas/google.rpc.Status"}
    assert status in event["data"]["contentSchema"]["anyOf"]
    line = content["application/x-ndjson"]["schema"]["contentSchema"]["items"]
    assert {"type": "object", "properties": {"error": status}, "required": ["error"]} in line["anyOf"]
    assert {"$ref": "#/components/parameters/LastEventId"} in watch["parameters"]
    assert "406" in watch["responses"]
    assert "headers" not in watch["responses"]["200"]


def test_only_a_queue_has_an_etag() -> None:
    """It has a revision; lists have none."""
    with_etag = {each["operationId"] for _, _, each in operations() if "304" in each["responses"]}
    assert with_etag == {"GetQueue", "GetQueue_2"}


def test_errors_are_those_that_can_occur() -> None:
    """What a body brings with it only where there is one; every status in the same form."""
    assert {"408", "413", "415"} <= operation("StartQueue")["responses"].keys()
    assert not {"408", "413", "415", "406"} & operation("GetQueue")["responses"].keys()
    error = {"code": 3, "message": "m", "details": [{"@type": "type.googleapis.com/google.rpc.DebugInfo", "x": 1}]}
    assert accepts("google.rpc.Status", error)
    of_the_whole = {
        "@type": "type.googleapis.com/google.rpc.BadRequest",
        "field_violations": [{"description": "the body is not JSON"}],
    }
    assert accepts("google.rpc.Status", {**error, "details": [of_the_whole]})
    assert not accepts(
        "google.rpc.Status", {**error, "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo"}]}
    )


def test_targets_are_told_as_choices() -> None:
    """As a message or as its JSON; the document that is checked in has none."""
    target = target_pb2.Target(
        name="loader-producer", description="Loads.", types=[target_pb2.TargetType(name="api_trades")]
    )
    for given in (target, as_answered(target)):
        made = document(CONTRACT, version="1", targets=[given])
        validate(made)
        field = made["components"]["schemas"]["JobRequest"]["properties"]["target"]
        assert field["enum"] == ["loader-producer"]
        assert field["description"].endswith("* `loader-producer`: Loads. Types: `api_trades`.")
    assert "enum" not in DOCUMENT["components"]["schemas"]["JobRequest"]["properties"]["target"]


def test_yaml_says_the_same() -> None:
    """Without aliases, which nobody can read."""
    text = as_yaml(DOCUMENT)
    assert yaml.safe_load(text) == DOCUMENT
    assert "&id" not in text
