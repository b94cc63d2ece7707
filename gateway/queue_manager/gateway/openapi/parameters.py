"""The parameters of an operation: what its path, its query and its headers carry.

A query's are those that `query` reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from queue_manager.gateway.contract import WHOLE, Binding, variable_fields
from queue_manager.gateway.openapi.forms import Place, Schema
from queue_manager.gateway.openapi.paths import Part, Path
from queue_manager.gateway.openapi.schemas import REQUIRED, Schemas, behaviors
from queue_manager.gateway.query import parameters

_TIMEOUT: Final = "^(?=0*[1-9])[0-9]{1,8}[HMSmun]$"
_UNITS: Final = "digits and a unit, `H`, `M`, `S`, `m` (ms), `u` (µs) or `n` (ns)"

HEADERS: Final[Mapping[str, Schema]] = {
    "RequestedBy": {
        "name": "X-Requested-By",
        "in": "header",
        "description": "Who calls. The server keeps it, e.g. as a queue's `requested_by`.",
        "schema": {"type": "string"},
    },
    "RequestId": {
        "name": "X-Request-Id",
        "in": "header",
        "description": "The call's id, for the logs of both sides.",
        "schema": {"type": "string"},
    },
    "Timeout": {
        "name": "Grpc-Timeout",
        "in": "header",
        "description": f"How long the call may take, e.g. `5S`: {_UNITS}.",
        "schema": {"type": "string", "pattern": _TIMEOUT},
    },
    "StreamTimeout": {
        "name": "Grpc-Timeout",
        "in": "header",
        "description": f"How long the stream may stay open: {_UNITS}. Without it, until it ends.",
        "schema": {"type": "string", "pattern": _TIMEOUT},
        "example": "5S",
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": '`ETag` of an earlier answer, e.g. `W/"17"`: while the revision is the same, the answer is 304.',
        "schema": {"type": "string"},
    },
    "LastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The `id` of the last event that was seen: go on after it. Stronger than `after_revision`. "
        "Browsers' `EventSource` sends it by itself.",
        "schema": {"type": "string", "format": "int64", "pattern": "^[0-9]*$"},
    },
}
"""The parameters that operations refer to, by the name of their component."""


def of_call(*, streams: bool) -> list[Schema]:
    """Those of every call to the server.

    Pages of documentation put a parameter's example into their forms. So a stream that is tried out there ends.
    """
    return [header(name) for name in ("RequestedBy", "RequestId", "StreamTimeout" if streams else "Timeout")]


def header(name: str) -> Schema:
    """A reference to one of `HEADERS`."""
    return {"$ref": f"#/components/parameters/{name}"}


def in_path(binding: Binding, request: Descriptor, path: Path, schemas: Schemas) -> Iterator[Schema]:
    """The parameters of a path."""
    for part in path.parts:
        schema: Schema = {"type": "string", "minLength": 1}
        if part.variable is not None:
            field = variable_fields(request, part.variable.field_path)[-1]
            schema = schema if part.slashes or not part.whole else schemas.field(field, Place.QUERY)
            schema.pop("description", None)
        yield {
            "name": part.name,
            "in": "path",
            "required": True,
            "description": _of_part(binding, request, part, schemas),
            "schema": schema,
        }


def in_query(binding: Binding, request: Descriptor, schemas: Schemas) -> Iterator[Schema]:
    """The parameters of a query."""
    if binding.body == WHOLE:
        return
    bound = [binding.body, *(variable.field_path for variable in binding.template.variables)]
    for way in parameters(request, bound):
        schema = schemas.field(way[-1], Place.QUERY)
        parameter: Schema = {"name": _dotted(way), "in": "query"}
        if all(REQUIRED in behaviors(field) for field in way):
            parameter["required"] = True
        for key in ("description", "deprecated"):
            if key in schema:
                parameter[key] = schema.pop(key)
        if way[-1].is_repeated:
            parameter |= {"style": "form", "explode": True}
        yield parameter | {"schema": schema}


def _dotted(way: Sequence[FieldDescriptor]) -> str:
    return ".".join(field.name for field in way)


def _of_part(binding: Binding, request: Descriptor, part: Part, schemas: Schemas) -> str:
    if part.variable is None:
        return "Any segment; it is not read."
    text = schemas.description(variable_fields(request, part.variable.field_path)[-1])
    begin, end = part.variable.begin, part.variable.end
    written = "/".join(binding.template.segments[begin:end])
    notes = [text, f"`{part.variable.field_path}` is `{written}`, of which this is a part." if written != "*" else ""]
    return " ".join([*filter(None, notes), *(["It may have slashes in it."] if part.slashes else [])])
