"""Methods that answer a stream: server-sent events or lines of JSON.

Which frames become which events follows from two fields that a frame may have: `revision`, whose value is an event's id,
and the enum `kind`, whose value without its prefix is the event's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from queue_manager.gateway.openapi.forms import Place, Schema, plain
from queue_manager.gateway.openapi.schemas import Schemas

RESUMES: Final = "after_revision"
"""The field of a request that `Last-Event-ID` fills."""
_UNNAMED: Final = frozenset({"UNSPECIFIED", "HEARTBEAT"})
"""Kinds without events: a heartbeat is a comment between them, since it is news to nobody."""
ERROR: Final = "ERROR"
"""The event of a stream that fails after it has begun."""
REVISION: Final = "revision"
KIND: Final = "kind"

_INT64: Final = {FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_UINT64}


def has_revision(message: Descriptor | None) -> bool:
    """Whether a message says which revision it shows."""
    field = None if message is None else message.fields_by_name.get(REVISION)
    return field is not None and not field.is_repeated and field.type in _INT64


def can_resume(request: Descriptor, frame: Descriptor) -> bool:
    """Whether `Last-Event-ID` is honoured."""
    return RESUMES in request.fields_by_name and has_revision(frame)


def event_names(frame: Descriptor) -> list[str]:
    """The names that events have, less `ERROR`; empty where frames have no kind."""
    kinds = _kinds(frame)
    return (
        [_name(kinds, kind.name) for kind in kinds.values if _name(kinds, kind.name) not in _UNNAMED] if kinds else []
    )


def about(frame: Descriptor) -> str:
    """What a reader of the operation must know."""
    name = frame.name
    lines = [
        "Answers a stream, and keeps the connection open until it ends. `Accept` chooses its form:",
        "",
        f"* `text/event-stream` (default): server-sent events, each with a `{name}` on one line as its `data`"
        + (", its `revision` as `id`" if has_revision(frame) else "")
        + (", its `kind` without the prefix as `event`" if event_names(frame) else "")
        + f". Silence is filled with comments. A stream that fails later says so with an event `{ERROR}`, whose data is a "
        "`google.rpc.Status`.",
        f"* `application/x-ndjson`: one `{name}` a line, heartbeats among them.",
        "",
        "A page that shows answers once they are complete shows a stream when `Grpc-Timeout` has ended it. "
        "`curl --no-buffer` and a browser's `EventSource` show it live.",
    ]
    return "\n".join(lines)


def content(frame: Descriptor, schemas: Schemas, shown: Sequence[Mapping[str, Any]]) -> Schema:
    """The answer's forms: text to OpenAPI, with what it is made of as `contentSchema`. `shown`: frames as an example."""
    message = schemas.message(frame, Place.ANSWER)
    line: Schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": message}
    event: Schema = {"type": "object", "properties": {"data": line}, "required": ["data"]}
    if has_revision(frame):
        event["properties"]["id"] = plain(FieldDescriptor.TYPE_INT64, Place.ANSWER)
    if names := event_names(frame):
        event["properties"]["event"] = {"type": "string", "enum": [*names, ERROR]}
    forms = {"text/event-stream": (event, _as_event), "application/x-ndjson": (message, _as_line)}
    return {
        media_type: {
            "schema": _text(media_type, item),
            **({"example": "".join(write(frame, each) for each in shown)} if shown else {}),
        }
        for media_type, (item, write) in forms.items()
    }


def _as_event(frame: Descriptor, value: Mapping[str, Any]) -> str:
    lines = [f"data: {_as_line(frame, value)}"]
    if kinds := _kinds(frame):
        lines.insert(0, f"event: {_name(kinds, value[KIND])}\n")
    if has_revision(frame):
        lines.insert(0, f"id: {value[REVISION]}\n")
    return "".join([*lines, "\n"])


def _as_line(_: Descriptor, value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace('"…"', "{…}") + "\n"


def _text(media_type: str, item: Schema) -> Schema:
    return {"type": "string", "contentMediaType": media_type, "contentSchema": {"type": "array", "items": item}}


def _kinds(frame: Descriptor) -> EnumDescriptor | None:
    field = frame.fields_by_name.get(KIND)
    return None if field is None or field.is_repeated else field.enum_type


def _name(kinds: EnumDescriptor, kind: str) -> str:
    return kind.removeprefix(kinds.values[0].name.removesuffix("UNSPECIFIED"))
