"""The document of a contract that is not ours: nothing in the translation knows queues."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.message_factory import GetMessageClass
from grpc_tools import protoc
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from queue_manager.gateway.contract import Contract
from queue_manager.gateway.openapi import document
from queue_manager.gateway.openapi.comments import markdown, summary
from queue_manager.gateway.openapi.schemas import short_names

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> Contract:
    """The library's."""
    out = tmp_path_factory.mktemp("library") / "library.binpb"
    includes = [
        f"-I{HERE}",
        f"-I{ROOT / 'third_party/googleapis'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
    ]
    options = [f"--descriptor_set_out={out}", "--include_imports", "--include_source_info"]
    assert protoc.main(["protoc", *includes, *options, "library.proto"]) == 0
    return Contract.of(FileDescriptorSet.FromString(out.read_bytes()))


@pytest.fixture(scope="module")
def made(contract: Contract) -> dict[str, Any]:
    """Its document."""
    return document(contract, version="1")


def schema(made: dict[str, Any], name: str) -> Draft202012Validator:
    """What holds values against a component."""
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": made["components"]})


def names(operation: Any, where: str) -> list[str]:
    """The names of an operation's parameters."""
    return [each["name"] for each in operation["parameters"] if each.get("in") == where]


def test_it_is_valid_and_complete(made: dict[str, Any]) -> None:
    """Templates with several segments have a parameter for each."""
    validate(made)
    assert {path for path in made["paths"] if path.startswith("/v1/")} == {
        "/v1/shelves/{name_1}/books/{name_2}",
        "/v1/files/{path}",
        "/v1/isbn/{isbn}",
        "/v1/shelves/{book.name}",
        "/v1/shelves/{from.id}:move",
        "/v1/follow",
    }


def test_paths_of_one_shape_share_their_names(made: dict[str, Any]) -> None:
    """OpenAPI takes paths that differ in them for one."""
    item = made["paths"]["/v1/shelves/{book.name}"]
    assert set(item) == {"patch", "get"}
    assert names(item["get"], "path") == ["book.name"]
    assert item["get"]["deprecated"] is True


def test_several_bindings_of_one_method(made: dict[str, Any]) -> None:
    """Each has its own id; what the path has not is in the query."""
    first = made["paths"]["/v1/shelves/{name_1}/books/{name_2}"]["get"]
    third = made["paths"]["/v1/isbn/{isbn}"]["get"]
    assert [first["operationId"], third["operationId"]] == ["GetBook", "GetBook_3"]
    assert names(first, "query") == ["path", "isbn"]
    assert first["summary"] == "Gets a book, e.g. by its shelf"
    assert next(p for p in third["parameters"] if p.get("name") == "isbn")["schema"] == {
        "type": "integer",
        "format": "uint64",
        "minimum": 0,
    }


def test_nested_messages_of_a_query_have_dots(made: dict[str, Any]) -> None:
    """Maps, lists of messages, and a message in itself are left out."""
    listed = made["paths"]["/v1/shelves/{book.name}"]["get"]
    assert names(listed, "query") == ["filter.kind", "filter.words", "filter.longer", "order"]


def test_a_body_without_what_the_path_carries(made: dict[str, Any]) -> None:
    """At any depth: of `from` only the room is left, and it need not be there."""
    moved = schema(made, "MoveBookBody")
    assert moved.is_valid({"to": {"id": "b"}})
    assert moved.is_valid({"from": {"room": "r"}, "to": {"id": "b"}})
    assert not moved.is_valid({"from": {"id": "a"}, "to": {"id": "b"}})
    assert not moved.is_valid({"to": {}})


def test_an_answer_that_is_one_field(made: dict[str, Any]) -> None:
    """`response_body` may be a message or a list; Empty is an empty object."""
    item = made["paths"]["/v1/shelves/{book.name}"]
    answer = item["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"type": "array", "items": {"$ref": "#/components/schemas/Book"}}
    moved = made["paths"]["/v1/shelves/{from.id}:move"]["post"]["responses"]["200"]
    assert Draft202012Validator(moved["content"]["application/json"]["schema"]).is_valid({})


@pytest.mark.parametrize(
    "book",
    [
        {},
        {"kind": "KIND_NOVEL", "kinds": [1], "parts": {"1": {"title": "One", "parts": [{"title": "Inner"}]}}},
        {"shelf": "a", "rare": True, "loan_time": "3600.5s", "notes": {"a": [1, None]}, "pages": "300", "price": "NaN"},
        {
            "loan": "5",
            "remark": None,
            "cover": "AAA=",
            "copies": 3,
            "nothing": None,
            "sold": "12345678901",
            "secret": "s",
        },
    ],
)
def test_a_message_fits_as_it_is_sent_and_as_it_is_answered(
    made: dict[str, Any], contract: Contract, book: dict[str, Any]
) -> None:
    """What proto reads fits the one schema, what it prints of the same message the other."""
    message = json_format.ParseDict(
        book, GetMessageClass(contract.pool.FindMessageTypeByName("example.library.v1.Book"))()
    )
    schema(made, "UpdateBookBody").validate(book)
    answered = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    schema(made, "Book").validate(answered)


@pytest.mark.parametrize(
    "book",
    [
        {"shelf": "a", "loan": 5},
        {"parts": {"one": {}}},
        {"kinds": [None]},
        {"copies": -1},
        {"sold": "many"},
        {"rare": "yes"},
        {"name": "the path has it"},
    ],
)
def test_a_message_that_is_refused_does_not_fit(made: dict[str, Any], book: dict[str, Any]) -> None:
    """Two of a oneof, keys that are no numbers, values that are none."""
    assert not schema(made, "UpdateBookBody").is_valid(book)


def test_a_stream_without_revisions_cannot_be_resumed(made: dict[str, Any]) -> None:
    """Nor are its events named: what is known of a frame decides."""
    followed = made["paths"]["/v1/follow"]["get"]
    assert {"$ref": "#/components/parameters/LastEventId"} not in followed["parameters"]
    assert "LastEventId" not in made["components"]["parameters"]


def test_comments_become_markdown(made: dict[str, Any]) -> None:
    """One line a paragraph; lists stay lists; what is for the authors is left out."""
    updated = made["paths"]["/v1/shelves/{book.name}"]["patch"]
    assert updated["summary"] == "Changes a book in some of its fields"
    assert updated["description"] == (
        "Changes a book in some of its fields:\n\n* those in `update_mask`,\n  and no others\n* or all"
    )
    assert markdown(" one\n two\n\n three\n") == "one two\n\nthree"
    assert summary("Stops it, i.e. ends it. Then") == "Stops it, i.e. ends it"


def test_enums_of_one_name_stay_apart(made: dict[str, Any]) -> None:
    """Also where one of them is only in a query."""
    schemas = made["components"]["schemas"]
    assert "KIND_NOVEL" in schemas["Book.Kind"]["enum"]
    assert "KIND_TITLE" in schemas["Order.Kind"]["enum"]


def test_names_are_as_short_as_they_can_be() -> None:
    """The shortest end that no other has."""
    assert short_names(["a.v1.Queue", "b.v1.Queue", "a.v1.Job"]) == {
        "a.v1.Queue": "a.v1.Queue",
        "b.v1.Queue": "b.v1.Queue",
        "a.v1.Job": "Job",
    }
