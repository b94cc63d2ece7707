"""Fields whose names say something to the gateway, in whatever service they are.

`revision` (int64) tells versions of a resource apart: a GET's answer gets an ETag, a stream's message an `id:`. `kind` (an
enum) is what a stream's message is: its `event:`. A stream whose request has `after_revision`, and whose messages have
`revisions_merged`, speaks the contract of `WatchQueue` and can be shared, merged and resumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor

REVISION: Final = "revision"
KIND: Final = "kind"
AFTER: Final = "after_revision"
MERGED: Final = "revisions_merged"
EVENT: Final = "event"

SNAPSHOT: Final = "SNAPSHOT"
UPDATE: Final = "UPDATE"
RESYNC: Final = "RESYNC"
HEARTBEAT: Final = "HEARTBEAT"
END: Final = "END"
"""Kinds of frames, without their prefix."""


def has_revision(message: Descriptor | None) -> bool:
    """Whether a message says which version it is."""
    return message is not None and _is_int64(message.fields_by_name.get(REVISION))


def is_watch(request: Descriptor, response: Descriptor) -> bool:
    """Whether a streaming method speaks the watch's contract."""
    return (
        _is_int64(request.fields_by_name.get(AFTER))
        and has_revision(response)
        and _is_int64(response.fields_by_name.get(MERGED))
        and {SNAPSHOT, UPDATE, RESYNC, HEARTBEAT, END} <= set(kinds_of(response).values())
    )


def kinds_of(message: Descriptor) -> Mapping[int, str]:
    """What its `kind` may be, without the prefix that values have by the style guide: `FRAME_KIND_END` is `END`."""
    field = message.fields_by_name.get(KIND)
    enum = None if field is None or field.is_repeated else field.enum_type
    if enum is None:
        return {}
    prefix = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix) for value in enum.values}


def _is_int64(field: FieldDescriptor | None) -> bool:
    return field is not None and field.type == FieldDescriptor.TYPE_INT64 and not field.is_repeated
