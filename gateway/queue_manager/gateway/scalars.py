"""Plain values of JSON as values of fields, by proto3's JSON mapping, each refusal in words that tell what is wanted."""

from __future__ import annotations

import base64
import binascii
import difflib
import math
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

_F: Final = FieldDescriptor
_RANGES: Final = {
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), (-(2**31), 2**31 - 1)),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), (-(2**63), 2**63 - 1)),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), (0, 2**32 - 1)),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), (0, 2**64 - 1)),
}
_WHOLE: Final = re.compile(r"-?[0-9]+")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


_LONGEST_NAME: Final = 64
"""Characters of a name that is shown, or that a suggestion is looked for."""


class Wrong(Exception):
    """A value that cannot be read; the message says what is wanted."""


def scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value of a plain field. Raises `Wrong` with what is wanted."""
    if field.enum_type is not None:
        return enum_number(field.enum_type, value)
    return _SCALARS[field.type](field, value)


def enum_number(enum: EnumDescriptor, value: Any) -> int:
    """An enum's value, by its name or its number. Raises `Wrong`."""
    if isinstance(value, str) and value.isascii() and (known := enum.values_by_name.get(value)) is not None:
        return known.number
    if value is None and enum.full_name == "google.protobuf.NullValue":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
        if enum.is_closed and value not in enum.values_by_number:
            raise Wrong(f"{value} is none of {_names(enum)}")
        return value
    shown = f"{_short(value)!r} is none of" if isinstance(value, str) else f"{kind_of(value)}; must be one of"
    raise Wrong(f"{shown} {_names(enum)}{nearest(str(value), [each.name for each in enum.values])}")


def _whole(field: FieldDescriptor, value: Any) -> int:
    low, high = _RANGES[field.type]
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        if len(value) > 24:  # before it is read: Python takes its time for thousands of digits
            raise Wrong(f"must be from {low} to {high}")
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong("must be a whole number" + ("" if isinstance(value, str) else f", not {kind_of(value)}"))
    if not low <= value <= high:
        raise Wrong(f"must be from {low} to {high}")
    return value


def _real(field: FieldDescriptor, value: Any) -> float:
    if isinstance(value, str):
        if value in {"NaN", "Infinity", "-Infinity"}:
            return float(value)
        if not _NUMBER.fullmatch(value):
            raise Wrong("must be a number")
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise Wrong(f"must be a number, not {kind_of(value)}")
    try:
        number = float(value)
        if field.type == _F.TYPE_FLOAT:
            struct.pack(
                "<f", number
            )  # the largest one, written with nine digits, is larger than itself, and rounds to it
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise Wrong("is too large")
    return number


def _boolean(_: FieldDescriptor, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {kind_of(value)}")
    return value


def _text(_: FieldDescriptor, value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {kind_of(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong("has half of a surrogate pair, which is no character") from None
    return value


def _octets(_: FieldDescriptor, value: Any) -> bytes:
    if not isinstance(value, str):
        raise Wrong(f"must be a string in base64, not {kind_of(value)}")
    try:
        return base64.b64decode(
            value.translate(_URL_SAFE).rstrip("=") + "=" * (-len(value.rstrip("=")) % 4), validate=True
        )
    except (binascii.Error, ValueError):
        raise Wrong("must be base64") from None


_URL_SAFE: Final = str.maketrans("-_", "+/")

_SCALARS: Final[Mapping[int, Callable[[FieldDescriptor, Any], Any]]] = {
    **dict.fromkeys(_RANGES, _whole),
    **dict.fromkeys((_F.TYPE_DOUBLE, _F.TYPE_FLOAT), _real),
    _F.TYPE_BOOL: _boolean,
    _F.TYPE_STRING: _text,
    _F.TYPE_BYTES: _octets,
}


def map_key(field: FieldDescriptor, name: str) -> Any:
    """The key of a map, which JSON has as a string. Raises `Wrong`."""
    if field.type == _F.TYPE_BOOL:
        return _boolean(field, {"true": True, "false": False}.get(name, name))
    return _SCALARS[field.type](field, name)


def _names(enum: EnumDescriptor) -> str:
    return ", ".join(value.name for value in enum.values if not value.name.endswith("_UNSPECIFIED"))


def nearest(name: str, names: Iterable[str]) -> str:
    """A suggestion, as the end of a sentence; empty where none is near."""
    if len(name) > _LONGEST_NAME:
        return ""
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def kind_of(value: Any) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 1e18 else "a number"
    return "a string" if isinstance(value, str) else "an array" if isinstance(value, list) else "an object"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"
