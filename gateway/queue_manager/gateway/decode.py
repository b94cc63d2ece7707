"""JSON as messages, by proto3's JSON mapping, with every violation found at once and named by its path.

`json_format` stops at the first fault and speaks of Python; a person who wrote a request by hand is owed all of them, with
the remedy. What it accepts is the same (`tests/unit/gateway` holds one against the other), except that a key that stands
twice is refused. Well-known types are left to the library.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message

from queue_manager.gateway.encode import WELL_KNOWN
from queue_manager.gateway.problems import Malformed, Violation
from queue_manager.gateway.scalars import Wrong, kind_of, map_key, nearest, scalar

_EXAMPLES: Final = {
    "google.protobuf.Timestamp": 'a time, e.g. "2024-06-01T12:00:00Z"',
    "google.protobuf.Duration": 'a duration in seconds, e.g. "90s" or "0.5s"',
    "google.protobuf.FieldMask": 'the names of fields, e.g. "state,jobs"',
}


MOST: Final = 100
"""Violations that are told."""
DEEPEST: Final = 100
"""Levels of messages in messages, which is what the server can read."""


class Reader:
    """Reads one request; gathers what is wrong with it."""

    def __init__(self, pool: DescriptorPool | None = None) -> None:
        """`pool` knows what an `Any` may hold; None: the default one."""
        self._pool = pool
        self._violations: list[Violation] = []
        self._level = 0

    def wrong(self, path: str, what: str) -> None:
        """A violation more. Raises `Malformed` where there are so many that nobody would read more."""
        self._violations.append(Violation(path, what))
        if len(self._violations) >= MOST:
            self._violations.append(Violation("", f"and maybe more: reading ended with {MOST} violations"))
            self.raise_if_wrong()

    def raise_if_wrong(self) -> None:
        """Raises `Malformed` with everything that was found."""
        if self._violations:
            raise Malformed(self._violations)

    def message(self, message: Message, value: Any, path: str = "") -> None:
        """Put a JSON value into an empty message. `path`: what stands before the names of its fields."""
        if message.DESCRIPTOR.full_name in WELL_KNOWN:
            self._well_known(message, value, path)
            return
        if not isinstance(value, Mapping):
            self.wrong(path, f"must be an object, not {kind_of(value)}")
        elif self._level >= DEEPEST:
            self.wrong("", f"is nested deeper than {DEEPEST} levels")
        else:
            self._level += 1
            self._object(message, value, path)
            self._level -= 1

    def _object(self, message: Message, value: Mapping[str, Any], path: str) -> None:
        self._repeated_keys(value, path)
        descriptor = message.DESCRIPTOR
        fields = _fields(descriptor)
        seen: dict[str, str] = {}
        groups: dict[str, str] = {}
        for key, given in value.items():
            here = f"{path}.{key}" if path else key
            if (field := fields.get(key)) is None:
                self.wrong(here, f"no such field{nearest(key, [each.name for each in descriptor.fields])}")
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
            self.wrong(path, f"must be an array, not {kind_of(given)}")
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
            self.wrong(path, f"must be an object, not {kind_of(given)}")
            return
        self._repeated_keys(given, path)
        key_field, value_field = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for name, each in given.items():
            here = f"{path}[{json.dumps(name)}]"
            try:
                key = map_key(key_field, name)
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
        name = message.DESCRIPTOR.full_name
        try:
            for twice in _twice(value, path):
                self.wrong(twice, "stands there more than once")
            json_format.ParseDict(value, message, descriptor_pool=self._pool)
        except (json_format.ParseError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            wanted = _EXAMPLES.get(name)
            self.wrong(path, f"must be {wanted}" if wanted else f"cannot be read as {name}: {error}")

    def _repeated_keys(self, value: Mapping[str, Any], path: str) -> None:
        for key in dict.fromkeys(getattr(value, "repeated", ())):
            self.wrong(f"{path}.{key}" if path else key, "stands there more than once")


@cache
def _fields(descriptor: Descriptor) -> Mapping[str, FieldDescriptor]:
    """By both their names: the proto's, and lowerCamelCase."""
    return {name: field for field in descriptor.fields for name in (field.json_name, field.name)}


def _takes_null(field: FieldDescriptor) -> bool:
    """Whether `null` is a value of it, and not its absence."""
    kind = field.message_type or field.enum_type
    return kind is not None and kind.full_name in {"google.protobuf.Value", "google.protobuf.NullValue"}


def _twice(value: Any, path: str) -> Iterator[str]:
    """The paths of keys that stand more than once, at any depth."""
    if isinstance(value, Mapping):
        yield from (f"{path}.{key}" for key in dict.fromkeys(getattr(value, "repeated", ())))
        for key, each in value.items():
            yield from _twice(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _twice(each, f"{path}[{index}]")
