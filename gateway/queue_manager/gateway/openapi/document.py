"""The OpenAPI document of a contract. Pure: the same descriptors give the same document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message

from queue_manager.gateway.contract import WHOLE, Binding, Contract
from queue_manager.gateway.openapi import errors, health
from queue_manager.gateway.openapi.choices import TARGETS, as_value, choices_of
from queue_manager.gateway.openapi.comments import Comments
from queue_manager.gateway.openapi.forms import Schema
from queue_manager.gateway.openapi.operations import METHODS, Names, Operations
from queue_manager.gateway.openapi.parameters import HEADERS
from queue_manager.gateway.openapi.paths import Path, path_of
from queue_manager.gateway.openapi.schemas import Schemas, short_names

TITLE: Final = "StreamForge Queue Manager"

ABOUT: Final = "\n".join(
    (
        "The gRPC API as HTTP and JSON, as its `google.api.http` annotations say. What is said of a method "
        "or a field is its comment in the contract.",
        "",
        "* Names are those of the contract, in `snake_case`; requests may have them in `camelCase`, too. Unknown fields, "
        "unknown query parameters and keys that stand twice are refused.",
        "* 64-bit integers are strings in answers, since JavaScript's numbers cannot hold them.",
        "* Answers have every field that cannot be absent, also where it is empty. Later versions may add fields.",
        "* Errors are `google.rpc.Status`, whatever the HTTP status: a message for people, details for programs.",
        "* `Authorization` and `traceparent` are passed on to the server as they are.",
    )
)

_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Passed on to the server, which decides."}
}


def document(
    contract: Contract,
    *,
    version: str,
    server_url: str = "/",
    targets: Sequence[Message | Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The document, in OpenAPI 3.1.

    `version`: of what serves it. `targets`: what `ListTargets` answers, to be told as choices; each a `Target` or its JSON.
    """
    comments = Comments(contract.files)
    known = [as_value(target) for target in targets]
    schemas = Schemas(
        comments,
        answered=_answered(contract),
        asked=[_method(contract, binding).input_type for binding in contract.bindings],
        sent=_sent(contract),
        choices=choices_of(TARGETS, known),
    )
    tags = short_names(dict.fromkeys(binding.method.service for binding in contract.bindings))
    paths = _paths(contract, Operations(comments, schemas, known), tags)
    components = dict(sorted(schemas.components.items())) | {health.SCHEMA: health.HEALTH} | errors.schemas()
    used = _references({"paths": paths})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": TITLE,
            "version": version,
            "description": ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "security": [{}, {"bearer": []}],
        "tags": [*(_tag(tag, comments[name]) for name, tag in tags.items()), health.TAG],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {n: r for n, r in errors.components().items() if f"#/components/responses/{n}" in used},
            "parameters": {n: p for n, p in HEADERS.items() if f"#/components/parameters/{n}" in used},
            "securitySchemes": _SECURITY,
        },
    }


def as_yaml(made: Mapping[str, Any]) -> str:
    """A document for people: in its own order, texts of several lines as blocks."""
    return yaml.dump(made, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _paths(contract: Contract, operations: Operations, tags: Mapping[str, str]) -> dict[str, Schema]:
    paths: dict[str, Schema] = {}
    shapes: dict[str, Path] = {}
    methods = {binding: _method(contract, binding) for binding in contract.bindings}
    calls = short_names(method.full_name for method in methods.values())
    first: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for binding, method in methods.items():
        if binding.http_method not in METHODS:
            continue  # one of `custom`, that OpenAPI has no word for
        path = path_of(binding.template)
        path = path.named_as(shapes.setdefault(path.shape, path))
        seen[method.full_name] += 1
        number = seen[method.full_name]
        names = Names(
            operation=calls[method.full_name] + (f"_{number}" if number > 1 else ""),
            tag=tags[binding.method.service],
            alias_of=first.get(method.full_name, ""),
        )
        first.setdefault(method.full_name, f"{binding.http_method} {path.text}")
        paths.setdefault(path.text, {})[binding.http_method.lower()] = operations.of(binding, method, path, names)
    return paths | health.paths()


def _tag(name: str, text: str) -> Schema:
    return {"name": name, **({"description": text} if text else {})}


def _method(contract: Contract, binding: Binding) -> MethodDescriptor:
    found: MethodDescriptor = contract.pool.FindMethodByName(f"{binding.method.service}.{binding.method.name}")
    return found


def _answered(contract: Contract) -> Iterator[Descriptor]:
    for binding in contract.bindings:
        yield from _held(_method(contract, binding).output_type, binding.response_body or WHOLE)


def _sent(contract: Contract) -> Iterator[Descriptor]:
    for binding in contract.bindings:
        if binding.body:
            yield from _held(_method(contract, binding).input_type, binding.body)


def _held(message: Descriptor, part: str) -> Iterator[Descriptor]:
    held = message if part == WHOLE else message.fields_by_name[part].message_type
    if held is not None:
        yield held


def _references(part: Any) -> set[str]:
    """Everything that is referred to in a part of the document."""
    if isinstance(part, list):
        return set().union(*map(_references, part))
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_references, part.values()))
    return set()


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML asks for each value
        """Everything is written out."""
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)
