"""Methods that answer a stream: server-sent events or lines of JSON.

Which frames become which events follows from two fields that a frame may have: `revision`, whose value is an event's id,
and the enum `kind`, whose value without its prefix is the event's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from queue_manager.gateway.conventions import HEARTBEAT, KIND, REVISION, has_revision, kinds_of
from queue_manager.gateway.openapi.errors import MODEL
from queue_manager.gateway.openapi.forms import Place, Schema, plain
from queue_manager.gateway.openapi.schemas import Schemas

_UNNAMED: Final = frozenset({"UNSPECIFIED", HEARTBEAT})
"""Kinds without events: a heartbeat is a comment between them, since it is news to nobody."""
ERROR: Final = "ERROR"
"""The event of a stream that fails after it has begun."""


def event_names(frame: Descriptor) -> list[str]:
    """The names that events have, less `ERROR`; empty where frames have no kind."""
    return [name for name in kinds_of(frame).values() if name not in _UNNAMED]


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
        f"* `application/x-ndjson`: one `{name}` a line, heartbeats among them. The last line of a stream that fails later "
        'is `{"error": …}`, with a `google.rpc.Status`.',
        "",
        "A page that shows answers once they are complete shows a stream when `Grpc-Timeout` has ended it. "
        "`curl --no-buffer` and a browser's `EventSource` show it live.",
    ]
    return "\n".join(lines)


def content(frame: Descriptor, schemas: Schemas, shown: Sequence[Mapping[str, Any]]) -> Schema:
    """The answer's forms: text to OpenAPI, with what it is made of as `contentSchema`. `shown`: frames as an example."""
    message = schemas.message(frame, Place.ANSWER)
    data: Schema = {"anyOf": [message, dict(MODEL)]}
    failure: Schema = {"type": "object", "properties": {"error": dict(MODEL)}, "required": ["error"]}
    line: Schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    event: Schema = {"type": "object", "properties": {"data": line}, "required": ["data"]}
    if has_revision(frame):
        event["properties"]["id"] = plain(FieldDescriptor.TYPE_INT64, Place.ANSWER)
    if names := event_names(frame):
        event["properties"]["event"] = {"type": "string", "enum": [*names, ERROR]}
    forms = {"text/event-stream": (event, _as_event), "application/x-ndjson": ({"anyOf": [message, failure]}, _as_line)}
    return {
        media_type: {
            "schema": _text(media_type, item),
            **({"example": "".join(write(frame, each) for each in shown)} if shown else {}),
        }
        for media_type, (item, write) in forms.items()
    }


def _as_event(frame: Descriptor, value: Mapping[str, Any]) -> str:
    lines = [f"data: {_as_line(frame, value)}"]
    field = frame.fields_by_name.get(KIND)
    if field is not None and field.enum_type is not None:
        lines.insert(0, f"event: {kinds_of(frame)[field.enum_type.values_by_name[value[KIND]].number]}\n")
    if has_revision(frame):
        lines.insert(0, f"id: {value[REVISION]}\n")
    return "".join([*lines, "\n"])


def _as_line(_: Descriptor, value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace('"…"', "{…}") + "\n"


def _text(media_type: str, item: Schema) -> Schema:
    return {"type": "string", "contentMediaType": media_type, "contentSchema": {"type": "array", "items": item}}
