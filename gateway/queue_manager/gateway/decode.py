"""JSON as messages, by proto3's JSON mapping, with every violation found at once and named by its path.

`json_format` stops at the first fault and speaks of Python; a person who wrote a request by hand is owed all of them, with
the remedy. What it accepts is the same (`tests/unit/gateway` holds one against the other), except that a key that stands
twice is refused. Well-known types are left to the library.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from queue_manager.gateway.encode import WELL_KNOWN
from queue_manager.gateway.problems import Malformed, Violation

_F: Final = FieldDescriptor
_RANGES: Final = {
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), (-(2**31), 2**31 - 1)),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), (-(2**63), 2**63 - 1)),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), (0, 2**32 - 1)),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), (0, 2**64 - 1)),
}
_WHOLE: Final = re.compile(r"-?[0-9]+")
_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_LARGEST_SINGLE: Final = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]

_EXAMPLES: Final = {
    "google.protobuf.Timestamp": 'a time, e.g. "2024-06-01T12:00:00Z"',
    "google.protobuf.Duration": 'a duration in seconds, e.g. "90s" or "0.5s"',
    "google.protobuf.FieldMask": 'the names of fields, e.g. "state,jobs"',
}


class Wrong(Exception):
    """A value that cannot be read; the message says what is wanted."""


class Reader:
    """Reads one request; gathers what is wrong with it."""

    def __init__(self, pool: DescriptorPool | None = None) -> None:
        """`pool` knows what an `Any` may hold; None: the default one."""
        self._pool = pool
        self._violations: list[Violation] = []

    def wrong(self, path: str, what: str) -> None:
        """A violation more."""
        self._violations.append(Violation(path, what))

    def raise_if_wrong(self) -> None:
        """Raises `Malformed` with everything that was found."""
        if self._violations:
            raise Malformed(self._violations)

    def message(self, message: Message, value: Any, path: str = "") -> None:
        """Put a JSON value into an empty message. `path`: what stands before the names of its fields."""
        descriptor = message.DESCRIPTOR
        if descriptor.full_name in WELL_KNOWN:
            self._well_known(message, value, path)
            return
        if not isinstance(value, Mapping):
            self.wrong(path, f"must be an object, not {_kind(value)}")
            return
        self._repeated_keys(value, path)
        fields = _fields(descriptor)
        seen: dict[str, str] = {}
        groups: dict[str, str] = {}
        for key, given in value.items():
            here = f"{path}.{key}" if path else key
            if (field := fields.get(key)) is None:
                self.wrong(here, f"no such field{_nearest(key, [each.name for each in descriptor.fields])}")
                continue
            if field.name in seen:
                self.wrong(here, f"is the same field as {seen[field.name]}; send one of them")
                continue
            seen[field.name] = key
            if given is None and not _takes_null(field):
                continue  # as if it were not there
            if field.containing_oneof is not None:
                other = groups.setdefault(field.containing_oneof.full_name, key)
                if other != key:
                    self.wrong(here, f"cannot be set together with {other}")
                    continue
            self.field(message, field, given, here)

    def field(self, message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
        """Put a JSON value into a field."""
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            self._map(getattr(message, field.name), entry, value, path)
        elif field.is_repeated:
            self._list(getattr(message, field.name), field, value, path)
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self.message(inner, value, path)
        else:
            self._set(lambda read: setattr(message, field.name, read), field, value, path)

    def _list(self, values: Any, field: FieldDescriptor, given: Any, path: str) -> None:
        if not isinstance(given, list):
            self.wrong(path, f"must be an array, not {_kind(given)}")
            return
        for index, each in enumerate(given):
            here = f"{path}[{index}]"
            if each is None and not _takes_null(field):
                self.wrong(here, "must not be null")
            elif field.message_type is not None:
                self.message(values.add(), each, here)
            else:
                self._set(values.append, field, each, here)

    def _map(self, values: Any, entry: Descriptor, given: Any, path: str) -> None:
        if not isinstance(given, Mapping):
            self.wrong(path, f"must be an object, not {_kind(given)}")
            return
        self._repeated_keys(given, path)
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for name, each in given.items():
            here = f"{path}[{json.dumps(name)}]"
            try:
                key = _map_key(key_field, name)
            except Wrong as error:
                self.wrong(here, f"its key {error}")
                continue
            if each is None and not _takes_null(value_field):
                self.wrong(here, "must not be null")
            elif value_field.message_type is not None:
                self.message(values[key], each, here)
            else:
                self._set(lambda read, key=key: values.__setitem__(key, read), value_field, each, here)  # type: ignore[misc]

    def _set(self, put: Callable[[Any], object], field: FieldDescriptor, value: Any, path: str) -> None:
        try:
            put(scalar(field, value))
        except Wrong as error:
            self.wrong(path, str(error))

    def _well_known(self, message: Message, value: Any, path: str) -> None:
        for twice in _twice(value, path):
            self.wrong(twice, "stands there more than once")
        name = message.DESCRIPTOR.full_name
        try:
            json_format.ParseDict(value, message, descriptor_pool=self._pool)
        except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            wanted = _EXAMPLES.get(name)
            self.wrong(path, f"must be {wanted}" if wanted else f"cannot be read as {name}: {error}")

    def _repeated_keys(self, value: Mapping[str, Any], path: str) -> None:
        for key in dict.fromkeys(getattr(value, "repeated", ())):
            self.wrong(f"{path}.{key}" if path else key, "stands there more than once")


def scalar(field: FieldDescriptor, value: Any) -> Any:
    """The value of a plain field. Raises `Wrong` with what is wanted."""
    if field.enum_type is not None:
        return enum_number(field.enum_type, value)
    return _SCALARS[field.type](field, value)


def enum_number(enum: EnumDescriptor, value: Any) -> int:
    """An enum's value, by its name or its number. Raises `Wrong`."""
    if isinstance(value, str) and (known := enum.values_by_name.get(value)) is not None:
        return known.number
    if value is None and enum.full_name == "google.protobuf.NullValue":
        return 0
    if isinstance(value, int) and not isinstance(value, bool) and -(2**31) <= value < 2**31:
        if enum.is_closed and value not in enum.values_by_number:
            raise Wrong(f"{value} is none of {_names(enum)}")
        return value
    shown = f"{value!r} is none of" if isinstance(value, str) else f"{_kind(value)}; must be one of"
    raise Wrong(f"{shown} {_names(enum)}{_nearest(str(value), [each.name for each in enum.values])}")


def _whole(field: FieldDescriptor, value: Any) -> int:
    low, high = _RANGES[field.type]
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        if len(value) > 24:  # before it is read: Python takes its time for thousands of digits
            raise Wrong(f"must be from {low} to {high}")
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong(f"must be a whole number, not {_kind(value)}")
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
        raise Wrong(f"must be a number, not {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number) or (field.type == _F.TYPE_FLOAT and abs(number) > _LARGEST_SINGLE):
        raise Wrong("is too large")
    return number


def _boolean(_: FieldDescriptor, value: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {_kind(value)}")
    return value


def _text(_: FieldDescriptor, value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a string, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Wrong("has half of a surrogate pair, which is no character") from None
    return value


def _octets(_: FieldDescriptor, value: Any) -> bytes:
    if not isinstance(value, str):
        raise Wrong(f"must be a string in base64, not {_kind(value)}")
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


def _map_key(field: FieldDescriptor, name: str) -> Any:
    if field.type == _F.TYPE_BOOL:
        return _boolean(field, {"true": True, "false": False}.get(name, name))
    return _SCALARS[field.type](field, name)


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """By both their names: the proto's, and lowerCamelCase."""
    return {name: field for field in descriptor.fields for name in (field.json_name, field.name)}


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether `null` is a value of it, and not its absence."""
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in {"google.protobuf.Value", "google.protobuf.NullValue"}


def _names(enum: EnumDescriptor) -> str:
    return ", ".join(value.name for value in enum.values if not value.name.endswith("_UNSPECIFIED"))


def _nearest(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _kind(value: Any) -> str:
    """What JSON calls it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}" if abs(value) < 1e18 else "a number"
    return "a string" if isinstance(value, str) else "an array" if isinstance(value, list) else "an object"


def _twice(value: Any, path: str) -> Iterator[str]:
    """The paths of keys that stand more than once, at any depth."""
    if isinstance(value, Mapping):
        yield from (f"{path}.{key}" for key in dict.fromkeys(getattr(value, "repeated", ())))
        for key, each in value.items():
            yield from _twice(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _twice(each, f"{path}[{index}]")
