"""Methods that answer a stream: server-sent events or lines of JSON.

Which frames become which events follows from two fields that a frame may have: `revision`, whose value is an event's id,
and the enum `kind`, whose value without its prefix is the event's name.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from queue_manager.gateway.openapi.forms import Place, Schema, plain
from queue_manager.gateway.openapi.schemas import Schemas

RESUMES: Final = "after_revision"
"""The field of a request that `Last-Event-ID` fills."""
HEARTBEAT: Final = "HEARTBEAT"
"""The kind that is a comment between server-sent events, since it is news to nobody."""
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
    field = frame.fields_by_name.get(KIND)
    if field is None or field.enum_type is None or field.is_repeated:
        return []
    return [name for name in _short(field.enum_type) if name not in {"UNSPECIFIED", HEARTBEAT}]


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
        "Swagger UI shows an answer once it is complete, and so a stream only when it has ended: take "
        "`curl --no-buffer` or a browser's `EventSource` instead.",
    ]
    return "\n".join(lines)


def content(frame: Descriptor, schemas: Schemas) -> Schema:
    """The answer's forms: text to OpenAPI, with what it is made of as `contentSchema`."""
    message = schemas.message(frame, Place.ANSWER)
    line: Schema = {"type": "string", "contentMediaType": "application/json", "contentSchema": message}
    event: Schema = {"type": "object", "properties": {"data": line}, "required": ["data"]}
    if has_revision(frame):
        event["properties"]["id"] = plain(FieldDescriptor.TYPE_INT64, Place.ANSWER)
    if names := event_names(frame):
        event["properties"]["event"] = {"type": "string", "enum": [*names, ERROR]}
    return {
        "text/event-stream": {"schema": _text("text/event-stream", event)},
        "application/x-ndjson": {"schema": _text("application/x-ndjson", message)},
    }


def _text(media_type: str, item: Schema) -> Schema:
    return {"type": "string", "contentMediaType": media_type, "contentSchema": {"type": "array", "items": item}}


def _short(enum: EnumDescriptor) -> list[str]:
    prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
    return [value.name.removeprefix(prefix) for value in enum.values]
