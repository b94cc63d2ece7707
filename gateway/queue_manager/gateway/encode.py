"""Messages as JSON, in the form of proto3's JSON mapping with the names of the proto and every field without presence.

The same that `json_format.MessageToDict` makes (`tests/unit/gateway` holds one against the other on every message), at a
fifth of its time or less: for each message type a function is put together once, and only fields that are set are visited.
Fields without presence stand first, then those that may be absent.
Well-known types other than times are left to the library.
"""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

Encode = Callable[[Any], Any]

_INTEGERS_AS_TEXT: Final = frozenset(
    {
        FieldDescriptor.TYPE_INT64,
        FieldDescriptor.TYPE_UINT64,
        FieldDescriptor.TYPE_SINT64,
        FieldDescriptor.TYPE_FIXED64,
        FieldDescriptor.TYPE_SFIXED64,
    }
)
WELL_KNOWN: Final = frozenset(
    f"google.protobuf.{name}"
    for name in (
        *("Any", "Struct", "Value", "ListValue", "FieldMask", "Timestamp", "Duration"),
        *("DoubleValue", "FloatValue", "Int64Value", "UInt64Value", "Int32Value", "UInt32Value"),
        *("BoolValue", "StringValue", "BytesValue"),
    )
)
"""Message types that have a JSON form of their own."""

_to_bytes: Final = msgspec.json.Encoder().encode


class Encoder:
    """Makes JSON of messages. One for all of a process: it keeps what it has put together."""

    def __init__(self, pool: DescriptorPool | None = None) -> None:
        """`pool` knows what an `Any` may hold; None: the default one."""
        self._pool = pool
        self._known: dict[str, Encode] = {}

    def to_json(self, message: Message) -> bytes:
        """As a document on one line, in UTF-8."""
        return _to_bytes(self.to_value(message))

    def to_value(self, message: Message) -> Any:
        """As what `json.dumps` takes."""
        return self._of(message.DESCRIPTOR)(message)  # type: ignore[arg-type]

    def field_to_json(self, message: Message, name: str) -> bytes:
        """One field of it as a document: what is answered of a method that has a `response_body`."""
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.message_type is not None and not field.is_repeated:
            return self.to_json(getattr(message, name))
        return _to_bytes(self.to_value(message).get(name))

    def _of(self, descriptor: Descriptor) -> Encode:
        known = self._known.get(descriptor.full_name)
        if known is None:
            known = self._made(descriptor)
        return known

    def _made(self, descriptor: Descriptor) -> Encode:
        name = descriptor.full_name
        if name == "google.protobuf.Timestamp":
            self._known[name] = _timestamp
        elif name == "google.protobuf.Duration":
            self._known[name] = _duration
        elif name in WELL_KNOWN:
            self._known[name] = self._by_library
        else:
            # Put there before its fields are looked at: a message may hold others of its own type.
            defaults: dict[str, Any] = {}
            table: dict[int, tuple[str, Encode | None]] = {}
            self._known[name] = _message(defaults, table)
            for field in sorted(descriptor.fields, key=lambda field: field.number):
                if not field.has_presence:
                    defaults[field.name] = _default(field)
                table[field.number] = field.name, self._field(field)
        return self._known[name]

    def _by_library(self, value: Message) -> Any:
        return json_format.MessageToDict(
            value,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=self._pool,
        )

    def _field(self, field: FieldDescriptor) -> Encode | None:
        """How the value of a field that is set becomes JSON; None: it is JSON already."""
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            return _map(entry.fields_by_name["key"], self._single(entry.fields_by_name["value"]))
        single = self._single(field)
        if not field.is_repeated:
            return single
        return list if single is None else lambda values: [single(value) for value in values]

    def _single(self, field: FieldDescriptor) -> Encode | None:
        if field.message_type is not None:
            return self._of(field.message_type)
        if field.enum_type is not None:
            return _enum(field.enum_type)
        if field.type in _INTEGERS_AS_TEXT:
            return str
        if field.type == FieldDescriptor.TYPE_BYTES:
            return lambda value: b64encode(value).decode("ascii")
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            return _double
        if field.type == FieldDescriptor.TYPE_FLOAT:
            return _float
        return None


def _message(defaults: Mapping[str, Any], table: Mapping[int, tuple[str, Encode | None]]) -> Encode:
    """`defaults`: what is written of fields without presence, set or not; `table`: names and encoders by field number."""

    def encode(message: Message) -> dict[str, Any]:
        found = dict(defaults)
        for field, value in message.ListFields():
            name, convert = table[field.number]
            found[name] = value if convert is None else convert(value)
        return found

    return encode


def _default(field: FieldDescriptor) -> Any:
    """What is written of a field without presence that is not set."""
    if field.is_repeated:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        return {} if is_map else []
    if field.enum_type is not None:
        return _enum(field.enum_type)(0)
    if field.type in _INTEGERS_AS_TEXT:
        return "0"
    return "" if field.type == FieldDescriptor.TYPE_BYTES else field.default_value


def _map(key: FieldDescriptor, convert: Encode | None) -> Encode:
    is_bool = key.type == FieldDescriptor.TYPE_BOOL

    def encode(values: Mapping[Any, Any]) -> dict[str, Any]:
        return {
            (str(name).lower() if is_bool else str(name)): value if convert is None else convert(value)
            for name, value in values.items()
        }

    return encode


def _enum(enum: EnumDescriptor) -> Encode:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: None
    names: dict[int, str] = {}
    for value in enum.values:
        names.setdefault(value.number, value.name)
    return lambda number: names.get(number, number)


def _double(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _float(value: float) -> float | str:
    """The shortest number that is this one in 32 bits, as the library has it."""
    if not math.isfinite(value):
        return _double(value)
    for digits in range(6, 9):
        shorter = float(f"{value:.{digits}g}")
        with suppress(OverflowError):
            if _SINGLE.unpack(_SINGLE.pack(shorter))[0] == value:
                return shorter
    return float(f"{value:.9g}")


_SINGLE: Final = struct.Struct("<f")


@lru_cache(maxsize=2**14)
def _instant(seconds: int, nanos: int) -> str:
    return f"{(_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]}{_fraction(nanos)}Z"


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _timestamp(value: Timestamp) -> str:
    return _instant(value.seconds, value.nanos)


def _duration(value: Duration) -> str:
    seconds, nanos = value.seconds, value.nanos
    sign = "-" if seconds < 0 or nanos < 0 else ""
    return f"{sign}{abs(seconds)}{_fraction(abs(nanos))}s"


def _fraction(nanos: int) -> str:
    """With none, three, six or nine digits."""
    if nanos == 0:
        return ""
    digits = f"{nanos:09d}"
    return (
        f".{digits[:3]}" if digits.endswith("000000") else f".{digits[:6]}" if digits.endswith("000") else f".{digits}"
    )
