"""How single values are written: plain fields and well-known types in answers, in bodies and in queries.

Answers have one form for each, bodies several (proto3's JSON mapping reads an integer from a string, too), queries text.
Messages and enums, which are components of the document, are in `schemas`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

Schema = dict[str, Any]
"""A JSON Schema, draft 2020-12."""


class Place(Enum):
    """Where a value is written."""

    ANSWER = auto()
    BODY = auto()
    """Of a request."""
    QUERY = auto()
    """Or a part of the path: text."""


_F: Final = FieldDescriptor
_WHOLE: Final = "^-?[0-9]+$"
_UNSIGNED: Final = "^[0-9]+$"
_NOT_FINITE: Final = "^(NaN|-?Infinity)$"
_REAL: Final = r"^(NaN|-?Infinity|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)$"
_DURATION: Final = r"^-?[0-9]+(\.[0-9]{1,9})?s$"
_DURATION_READ: Final = r"^-?[0-9]{1,11}(\.[0-9]{1,9})?s$"
"""Longer ones are out of range, most of them: it ends at 315,576,000,000 s."""

_INTEGERS: Final = {
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), "int32"),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), "int64"),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), "uint32"),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), "uint64"),
}
_REALS: Final = {_F.TYPE_DOUBLE: "double", _F.TYPE_FLOAT: "float"}

_WELL_KNOWN: Final[Mapping[str, Schema]] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string", "pattern": _DURATION},
    "FieldMask": {"type": "string"},
    "Struct": {"type": "object"},
    "Value": {},
    "ListValue": {"type": "array", "items": {}},
    "Any": {"type": "object", "properties": {"@type": {"type": "string"}}, "required": ["@type"]},
    "Empty": {"type": "object", "maxProperties": 0},
}
_WRAPPED: Final = {
    "DoubleValue": _F.TYPE_DOUBLE,
    "FloatValue": _F.TYPE_FLOAT,
    "Int64Value": _F.TYPE_INT64,
    "UInt64Value": _F.TYPE_UINT64,
    "Int32Value": _F.TYPE_INT32,
    "UInt32Value": _F.TYPE_UINT32,
    "BoolValue": _F.TYPE_BOOL,
    "StringValue": _F.TYPE_STRING,
    "BytesValue": _F.TYPE_BYTES,
}
_STRUCTURED: Final = frozenset({"Struct", "Value", "ListValue", "Any", "Empty"})
_NOTES: Final = {
    "Duration": "Seconds, with up to nine decimals and an `s`: `90s`, `0.5s`.",
    "FieldMask": "Names of fields, separated by commas: `state,jobs`.",
    "BytesValue": "Base64.",
}
_PACKAGE: Final = "google.protobuf."


def is_well_known(message: str) -> bool:
    """Whether a message type, by its full name, has a JSON form of its own."""
    name = message.removeprefix(_PACKAGE)
    return message.startswith(_PACKAGE) and (name in _WELL_KNOWN or name in _WRAPPED)


def is_text(message: str) -> bool:
    """Whether that form is a single value, which fits into a query."""
    return is_well_known(message) and message.removeprefix(_PACKAGE) not in _STRUCTURED


def well_known(message: str, place: Place) -> Schema:
    """The form of a well-known type."""
    name = message.removeprefix(_PACKAGE)
    if name in _WRAPPED:
        return plain(_WRAPPED[name], place)
    if name == "Duration" and place is not Place.ANSWER:
        return {"type": "string", "pattern": _DURATION_READ}
    return dict(_WELL_KNOWN[name])


def note(field: FieldDescriptor) -> str:
    """What a reader must know of a field's form beside its schema."""
    if field.message_type is not None:
        return _NOTES.get(field.message_type.full_name.removeprefix(_PACKAGE), "")
    return "Base64." if field.type == _F.TYPE_BYTES else ""


def plain(kind: int, place: Place) -> Schema:
    """The form of a field that is neither a message nor an enum. `kind`: its `FieldDescriptor.TYPE_...`."""
    if kind in _INTEGERS:
        return _integer(_INTEGERS[kind], place)
    if kind in _REALS:
        return _real(_REALS[kind], place)
    if kind == _F.TYPE_BOOL:
        return {"type": "boolean"}
    return {"type": "string", "contentEncoding": "base64"} if kind == _F.TYPE_BYTES else {"type": "string"}


def map_key(kind: int) -> Schema | None:
    """What the keys of an object that is a map look like. None: anything."""
    if kind == _F.TYPE_BOOL:
        return {"enum": ["true", "false"]}
    return {"pattern": _pattern(_INTEGERS[kind])} if kind in _INTEGERS else None


def or_null(schema: Schema) -> Schema:
    """The same, or `null`."""
    match schema:
        case {"type": "null"}:
            return schema
        case {"enum": [*values], **rest}:
            return {**rest, **_with_null(rest), "enum": [*values, None]}
        case {"type": str() | list()}:
            return {**schema, **_with_null(schema)}
        case {"anyOf": [*choices], **rest}:
            return {**rest, "anyOf": [*choices, {"type": "null"}]}
        case {"$ref": _}:
            return {"anyOf": [schema, {"type": "null"}]}
    return schema


def _with_null(schema: Schema) -> Schema:
    kinds = schema.get("type", [])
    return {"type": [*([kinds] if isinstance(kinds, str) else kinds), "null"]} if kinds else {}


def _integer(size: str, place: Place) -> Schema:
    wide = size.endswith("64")
    if place is Place.ANSWER and wide:
        return {"type": "string", "format": size, "pattern": _pattern(size)}
    least = {"minimum": 0} if size.startswith("u") else {}
    if place is Place.BODY:
        kinds = ["string", "integer"] if wide else ["integer", "string"]
        return {"type": kinds, "format": size, "pattern": _pattern(size), **least}
    return {"type": "integer", "format": size, **least}


def _pattern(size: str) -> str:
    return _UNSIGNED if size.startswith("u") else _WHOLE


def _real(size: str, place: Place) -> Schema:
    if place is Place.QUERY:
        return {"type": "number", "format": size}
    return {"type": ["number", "string"], "format": size, "pattern": _NOT_FINITE if place is Place.ANSWER else _REAL}
