"""From the user's JSON form of a start request to the message, with every field that does not fit named.

protobuf's `json_format` is the judge of what fits, in its JSON mapping: snake_case and lowerCamelCase names, durations
as `"30s"`. It stops at the first fault and names it loosely, so a payload that it refuses is taken apart here, and each
part is put to it alone. Rules that need the catalogue (which targets and types there are) are the server's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from queue_manager.client.errors import REASON_INVALID_PAYLOAD, InvalidRequest, Violation
from queue_manager.v1.service_pb2 import StartQueueRequest

_EXPECTED: Final = {
    FieldDescriptor.CPPTYPE_STRING: "a string",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_INT32: "a whole number",
    FieldDescriptor.CPPTYPE_INT64: "a whole number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_MESSAGE: "an object",
}
_SHOWN: Final = 60
"""Characters of a value that are repeated in a violation."""


def parse_start_request(payload: Mapping[str, Any] | StartQueueRequest) -> StartQueueRequest:
    """A new message with the payload's content. Raises `InvalidRequest` with every field that does not fit."""
    request = StartQueueRequest()
    if isinstance(payload, StartQueueRequest):
        request.CopyFrom(payload)
        return request
    if not isinstance(payload, Mapping):
        raise _invalid([Violation("payload", f"must be an object, not {_shown(payload)}")])
    try:
        json_format.ParseDict(_plain(payload), request)
    except json_format.ParseError as e:
        violations = list(_faults(payload, StartQueueRequest.DESCRIPTOR, path=""))
        raise _invalid(violations or [Violation("payload", str(e).splitlines()[0])]) from e
    return request


def _invalid(violations: list[Violation]) -> InvalidRequest:
    return InvalidRequest(violations=violations, reason=REASON_INVALID_PAYLOAD)


def _plain(value: Any) -> Any:
    """Mappings and tuples as json_format knows them: dicts and lists."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _faults(value: Mapping[Any, Any], descriptor: Descriptor, *, path: str) -> Iterator[Violation]:
    """Every fault of an object, in its own order."""
    names = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    for key, item in value.items():
        here = f"{path}.{key}" if path else str(key)
        field = names.get(key)
        if field is None:
            near = difflib.get_close_matches(str(key), [f.name for f in descriptor.fields], n=1)
            remedy = (
                f"did you mean {near[0]!r}?" if near else f"known are {', '.join(f.name for f in descriptor.fields)}"
            )
            yield Violation(here, f"is no field of a {'start request' if not path else 'request entry'}; {remedy}")
        elif item is not None:  # null is the field's default
            yield from _field_faults(item, field, path=here)


def _field_faults(item: Any, field: FieldDescriptor, *, path: str) -> Iterator[Violation]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        if not isinstance(item, Mapping):
            yield Violation(path, f"must be an object of strings, not {_shown(item)}")
            return
        for key, entry in item.items():
            if not isinstance(key, str) or not isinstance(entry, str):
                yield Violation(f"{path}.{key}", f"must be a string in quotes, not {_shown(entry)}")
    elif not field.is_repeated:
        yield from _value_faults(item, field, path=path)
    elif not isinstance(item, list | tuple):
        yield Violation(path, f"must be a list, not {_shown(item)}")
    else:
        for index, element in enumerate(item):
            yield from _value_faults(element, field, path=f"{path}[{index}]")


def _value_faults(item: Any, field: FieldDescriptor, *, path: str) -> Iterator[Violation]:
    """Faults of one value; json_format decides, alone with it, whether it fits."""
    message_type = field.message_type
    if message_type is not None and not message_type.full_name.startswith("google.protobuf."):
        if isinstance(item, Mapping):
            yield from _faults(item, message_type, path=path)
        else:
            yield Violation(path, f"must be an object, not {_shown(item)}")
        return
    owner = field.containing_type
    assert owner is not None  # only an extension has none
    container: Message = GetMessageClass(owner)()
    try:
        json_format.ParseDict({field.name: [_plain(item)] if field.is_repeated else _plain(item)}, container)
    except json_format.ParseError:
        yield Violation(path, f"must be {_expected(field)}, not {_shown(item)}")


def _expected(field: FieldDescriptor) -> str:
    if field.enum_type is not None:
        return "one of " + ", ".join(value.name for value in field.enum_type.values if value.number)
    if field.message_type is not None and field.message_type.full_name == "google.protobuf.Duration":
        return 'seconds with an s, as in "90s"'
    return _EXPECTED.get(field.cpp_type, "of another type")


def _shown(value: Any) -> str:
    """The value as JSON would have it, shortened."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping | list | tuple):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = ascii(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
