"""One way in which a method is called over HTTP, as an operation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, MethodDescriptor

from queue_manager.gateway.contract import WHOLE, Binding
from queue_manager.gateway.conventions import has_revision, is_watch
from queue_manager.gateway.openapi import errors, examples, parameters, streams
from queue_manager.gateway.openapi.comments import Comments, summary
from queue_manager.gateway.openapi.forms import Place, Schema
from queue_manager.gateway.openapi.paths import Path
from queue_manager.gateway.openapi.schemas import REQUIRED, Schemas, behaviors, held_message

METHODS: Final = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
"""The HTTP methods that OpenAPI knows."""

_ETAG: Final = {"description": 'The revision, weakly: `W/"17"`.', "schema": {"type": "string"}}
_NOT_MODIFIED: Final = {"description": "Still the revision of `If-None-Match`.", "headers": {"ETag": _ETAG}}


@dataclass(frozen=True, slots=True)
class Names:
    """What an operation is called."""

    operation: str
    """Its `operationId`, unique."""
    tag: str
    """Of its service."""
    alias_of: str
    """The method and path of the operation that it is another way to call; empty for the first."""


class Operations:
    """Makes operations."""

    def __init__(self, comments: Comments, schemas: Schemas, targets: Sequence[Mapping[str, Any]]) -> None:
        """The first two of the same descriptors; `targets`: what can be started."""
        self._targets = targets
        self._comments = comments
        self._schemas = schemas

    def of(self, binding: Binding, method: MethodDescriptor, path: Path, names: Names) -> Schema:
        """The operation of a binding."""
        has_body, tagged = bool(binding.body), _has_etag(binding, method)
        operation: Schema = {
            "operationId": names.operation,
            "tags": [names.tag],
            **self._words(method, names),
            "parameters": self._parameters(binding, method, path, tagged=tagged),
        }
        if has_body:
            operation["requestBody"] = self._body(binding, method, names)
        operation["responses"] = {
            "200": self._answer(binding, method, tagged=tagged),
            **({"304": _NOT_MODIFIED} if tagged else {}),
            **errors.responses(body=has_body, streams=method.server_streaming),
        }
        if method.GetOptions().deprecated:
            operation["deprecated"] = True
        return operation

    def _words(self, method: MethodDescriptor, names: Names) -> Schema:
        text = self._comments[method.full_name]
        notes = [text]
        if names.alias_of:
            notes.insert(0, f"Another path of `{names.alias_of}`, for the same method.")
        if method.server_streaming:
            notes.append(streams.about(method.output_type))
        short = summary(text) or method.name
        return {
            "summary": f"{short} (another path of {names.alias_of})" if names.alias_of else short,
            **({"description": "\n\n".join(filter(None, notes))} if any(notes) else {}),
        }

    def _parameters(self, binding: Binding, method: MethodDescriptor, path: Path, *, tagged: bool) -> list[Schema]:
        request = method.input_type
        found = [
            *parameters.in_path(binding, request, path, self._schemas),
            *parameters.in_query(binding, request, self._schemas),
        ]
        if tagged:
            found.append(parameters.header("IfNoneMatch"))
        if method.server_streaming and is_watch(request, method.output_type):
            found.append(parameters.header("LastEventId"))
        return [*found, *parameters.of_call(streams=method.server_streaming)]

    def _body(self, binding: Binding, method: MethodDescriptor, names: Names) -> Schema:
        media: Schema = {"schema": self._body_schema(binding, method.input_type, names)}
        if shown := examples.bodies(binding, self._targets):
            media["examples"] = shown
        return {"required": _needs_body(binding, method.input_type), "content": {"application/json": media}}

    def _body_schema(self, binding: Binding, message: Descriptor, names: Names) -> Schema:
        bound = frozenset(variable.field_path for variable in binding.template.variables)
        if binding.body != WHOLE:
            field = message.fields_by_name[binding.body]
            bound = frozenset(path.partition(".")[2] for path in bound if path.startswith(f"{field.name}."))
            if not bound:
                return self._schemas.value(field, Place.BODY)
            message = held_message(field)
        if not bound:
            return self._schemas.message(message, Place.BODY)
        name = f"{names.operation}Body"
        self._schemas.components[name] = self._schemas.object(message, Place.BODY, bound)
        return {"$ref": f"#/components/schemas/{name}"}

    def _answer(self, binding: Binding, method: MethodDescriptor, *, tagged: bool) -> Schema:
        message = method.output_type
        if method.server_streaming:
            return {
                "description": "The stream.",
                "content": streams.content(message, self._schemas, examples.frames(binding)),
            }
        media: Schema
        if binding.response_body:
            field = message.fields_by_name[binding.response_body]
            text = self._comments[field.full_name]
            media = {"schema": self._schemas.value(field, Place.ANSWER)}
        else:
            text = self._comments[message.full_name]
            media = {"schema": self._schemas.message(message, Place.ANSWER)}
        if shown := examples.answers(binding):
            media["examples"] = shown
        return {
            "description": text or "The answer.",
            **({"headers": {"ETag": _ETAG}} if tagged else {}),
            "content": {"application/json": media},
        }


def _needs_body(binding: Binding, message: Descriptor) -> bool:
    """Whether the body carries a field that must be sent. No body stands for a message of which nothing is set."""
    if binding.body != WHOLE:
        return REQUIRED in behaviors(message.fields_by_name[binding.body])
    bound = {variable.field_path for variable in binding.template.variables}
    return any(REQUIRED in behaviors(field) for field in message.fields if field.name not in bound)


def _has_etag(binding: Binding, method: MethodDescriptor) -> bool:
    """Whether what a GET answers says its revision."""
    if binding.http_method != "GET" or method.server_streaming:
        return False
    answered: Descriptor | None = method.output_type
    if binding.response_body:
        field = method.output_type.fields_by_name[binding.response_body]
        answered = None if field.is_repeated else field.message_type
    return has_revision(answered)
