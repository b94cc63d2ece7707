"""From text to what a field of a start request takes: its type in the contract decides, nothing else.

For `--set` and for YAML files, where everything is text first: `2024-06-01`, `1e3` and `on` stay what was typed where the
field is a string, and become numbers or a bool only where the contract has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from queue_manager.client.cli import strict_json
from queue_manager.client.cli.durations import parse_duration

DURATION: Final = "google.protobuf.Duration"
_INTEGERS: Final = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_UINT32,
    FieldDescriptor.CPPTYPE_UINT64,
}
_REALS: Final = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}


class Misfit(Exception):
    """The text is nothing that the field takes, or the path leads nowhere; the message says what would be right."""


def is_map(field: FieldDescriptor) -> bool:
    """Whether it is an object with keys of the user's own: labels, parameters."""
    return field.message_type is not None and bool(field.message_type.GetOptions().map_entry)


def is_object(field: FieldDescriptor) -> bool:
    """Whether its value, or each of its values, is an object with fields of its own."""
    message_type = field.message_type
    return message_type is not None and not is_map(field) and not message_type.full_name.startswith("google.protobuf.")


def fields_of(field: FieldDescriptor) -> Descriptor:
    """The fields of such an object."""
    assert field.message_type is not None
    return field.message_type


def whole(field: FieldDescriptor, text: str) -> Any:
    """The value of a whole field. Raises `Misfit`."""
    if is_map(field) or (is_object(field) and not field.is_repeated):
        return _json(text, dict, '{"KEY": "VALUE"}' if is_map(field) else "{…}")
    if not field.is_repeated:
        return one(field, text)
    if is_object(field) or text.lstrip().startswith("["):
        return _json(text, list, "[{…}, {…}]" if is_object(field) else '["ONE", "TWO"]')
    return [one(field, part.strip()) for part in text.split(",")]


def one(field: FieldDescriptor, text: str) -> Any:
    """A single value, or one entry of a list. Raises `Misfit`."""
    if is_object(field):
        return _json(text, dict, "{…}")
    if field.enum_type is not None:
        return _enum(field.enum_type, text)
    if field.message_type is not None and field.message_type.full_name == DURATION:
        try:
            return f"{parse_duration(text):.9f}".rstrip("0").rstrip(".") + "s"
        except ValueError as e:
            raise Misfit(str(e)) from e
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if text.lower() not in {"true", "false"}:
            raise Misfit(f"{text!r} is neither true nor false")
        return text.lower() == "true"
    if field.cpp_type in _INTEGERS | _REALS:
        try:
            return int(text) if field.cpp_type in _INTEGERS else float(text)
        except ValueError as e:
            raise Misfit(f"{text!r} is no {'whole ' if field.cpp_type in _INTEGERS else ''}number") from e
    return text


def with_types(value: Any, descriptor: Descriptor) -> Any:
    """An object whose values are all text, with those that the contract has otherwise turned into what it has.

    What does not fit stays as it is: the client judges the whole, and names every field.
    """
    if not isinstance(value, Mapping):
        return value
    fields = {name: field for field in descriptor.fields for name in (field.name, field.json_name)}
    return {key: _typed(fields[key], item) if key in fields else item for key, item in value.items()}


def _typed(field: FieldDescriptor, item: Any) -> Any:
    if is_map(field):
        return item
    if isinstance(item, list):
        return [_typed(field, entry) for entry in item]
    if is_object(field):
        return with_types(item, fields_of(field))
    if not isinstance(item, str):
        return item
    try:
        return one(field, item)
    except Misfit:
        return item


def _enum(kind: EnumDescriptor, text: str) -> str:
    """`stop-all`, `STOP_ALL` and `FAILURE_POLICY_STOP_ALL` are the same."""
    names = [value.name for value in kind.values]
    prefix = names[0].removesuffix("UNSPECIFIED")
    name = text.strip().upper().replace("-", "_")
    if not name.startswith(prefix):
        name = prefix + name
    if name not in names[1:]:
        known = " or ".join(known.removeprefix(prefix).lower().replace("_", "-") for known in names[1:])
        raise Misfit(f"{text!r} is not known; write {known}")
    return name


def _json(text: str, kind: type, shape: str) -> Any:
    try:
        value = strict_json.loads(text)
    except ValueError as e:
        raise Misfit(f"takes JSON, like {shape}: {getattr(e, 'msg', e)}") from e
    if not isinstance(value, kind):
        raise Misfit(f"takes JSON, like {shape}")
    return value
