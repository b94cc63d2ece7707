"""Query parameters as fields of a request, by the rules of `google/api/http.proto`.

A field is named by its path (`filter.state`), by either spelling of each name; a repeated field by a parameter that is
repeated. What the path or the body has bound is no parameter, nor are maps and lists of messages. Values are written as in
JSON, without the quotes; enums by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from queue_manager.gateway.decode import Reader
from queue_manager.gateway.encode import WELL_KNOWN
from queue_manager.gateway.scalars import Wrong, enum_number, nearest, scalar

WRITTEN_AS_TEXT: Final = WELL_KNOWN - {f"google.protobuf.{name}" for name in ("Any", "Struct", "Value", "ListValue")}
"""Message types whose JSON is one string, number or boolean."""


class Parameters:
    """The query parameters of a method's binding."""

    def __init__(self, message: Descriptor, bound: Sequence[str]) -> None:
        """`bound`: the paths of the fields that come from elsewhere."""
        self._fields = {
            ".".join(spelling): fields for fields in parameters(message, bound) for spelling in _spellings(fields)
        }
        self._names = sorted({".".join(field.name for field in fields) for fields in self._fields.values()})

    def read(self, reader: Reader, message: Message, given: Sequence[tuple[str, str]]) -> None:
        """Put all that was given, in their order, into the message."""
        by_field: dict[str, tuple[str, list[str]]] = {}
        for name, value in given:
            fields = self._fields.get(name)
            if fields is None:
                reader.wrong(name, self._unknown(name))
                continue
            by_field.setdefault(".".join(field.name for field in fields), (name, []))[1].append(value)
        for path, (name, values) in by_field.items():
            *parents, field = self._fields[path]
            holder = message
            other = ""
            for parent in parents:
                other = other or _other(holder, parent)
                holder = getattr(holder, parent.name)
            if other := other or _other(holder, field):
                reader.wrong(name, f"cannot be given together with {other}")
            elif len(values) > 1 and not field.is_repeated:
                reader.wrong(name, f"is given {len(values)} times, and takes one value")
            else:
                holder.SetInParent()
                for value in values:
                    put_text(reader, holder, field, value, name)

    def _unknown(self, name: str) -> str:
        if not self._names:
            return "no such query parameter: this takes none"
        hint = nearest(name, self._names) or "; there are " + ", ".join(self._names)
        return f"no such query parameter{hint}"


def _other(holder: Message, field: FieldDescriptor) -> str:
    """The field that stands in this one's place, where only one of several may be set."""
    group = field.containing_oneof
    chosen = None if group is None else holder.WhichOneof(group.name)
    return "" if chosen is None or chosen == field.name else str(chosen)


def put_text(reader: Reader, holder: Message, field: FieldDescriptor, text: str, name: str) -> None:
    """Put a value that came as text into a field, or, where it is repeated, behind those that it has."""
    try:
        if field.message_type is not None:
            inner = getattr(holder, field.name)
            inner = inner.add() if field.is_repeated else inner
            reader.message(inner, _json_value(field.message_type, text), name)
            return
        value = (
            enum_number(field.enum_type, text) if field.enum_type is not None else scalar(field, _plain(field, text))
        )
    except Wrong as error:
        reader.wrong(name, str(error))
        return
    if field.is_repeated:
        getattr(holder, field.name).append(value)
    else:
        setattr(holder, field.name, value)


def parameters(message: Descriptor, bound: Sequence[str]) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field that can be a query parameter: the fields on the way to it, and itself."""
    yield from _below(message, (), frozenset(bound))


def _below(
    message: Descriptor, way: tuple[FieldDescriptor, ...], bound: frozenset[str]
) -> Iterator[tuple[FieldDescriptor, ...]]:
    holders = {message.full_name, *(each.containing_type.full_name for each in way if each.containing_type is not None)}
    for field in message.fields:
        fields = (*way, field)
        if ".".join(each.name for each in fields) in bound:
            continue
        kind = field.message_type
        if kind is None or kind.full_name in WRITTEN_AS_TEXT:
            yield fields
        elif not field.is_repeated and kind.full_name not in WELL_KNOWN | holders:
            yield from _below(kind, fields, bound)


def _spellings(fields: Sequence[FieldDescriptor]) -> Iterator[tuple[str, ...]]:
    yield tuple(field.name for field in fields)
    yield tuple(field.json_name for field in fields)


_WRAPPED: Final[Mapping[str, Any]] = {"true": True, "false": False}


def _plain(field: FieldDescriptor, text: str) -> Any:
    return _WRAPPED.get(text, text) if field.type == FieldDescriptor.TYPE_BOOL else text


def _json_value(message: Descriptor, text: str) -> Any:
    return _WRAPPED.get(text, text) if message.full_name == "google.protobuf.BoolValue" else text
