"""Hypothesis strategies for messages of any type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from queue_manager.gateway.contract import Contract
from queue_manager.gateway.encode import WELL_KNOWN

DEEPEST = 3
"""Levels of messages in messages."""
_F = FieldDescriptor
_FIRST, _LAST = -62135596800, 253402300799
"""Seconds of the years 1 to 9999."""

_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    **dict.fromkeys((_F.TYPE_INT32, _F.TYPE_SINT32, _F.TYPE_SFIXED32), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys((_F.TYPE_INT64, _F.TYPE_SINT64, _F.TYPE_SFIXED64), st.integers(-(2**63), 2**63 - 1)),
    **dict.fromkeys((_F.TYPE_UINT32, _F.TYPE_FIXED32), st.integers(0, 2**32 - 1)),
    **dict.fromkeys((_F.TYPE_UINT64, _F.TYPE_FIXED64), st.integers(0, 2**64 - 1)),
    _F.TYPE_DOUBLE: st.floats(allow_nan=False) | st.just(float("nan")),
    _F.TYPE_FLOAT: st.floats(width=32, allow_nan=False) | st.just(float("nan")),
    _F.TYPE_BOOL: st.booleans(),
    _F.TYPE_STRING: st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    _F.TYPE_BYTES: st.binary(max_size=8),
}


def types(contract: Contract, package: str) -> Iterator[type[Message]]:
    """Every message type that is asked for or answered, and those in them."""
    seen: set[str] = set()
    waiting = [
        contract.pool.FindMessageTypeByName(kind.DESCRIPTOR.full_name)
        for binding in contract.bindings
        for kind in (binding.method.request, binding.method.response)
    ]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name in seen or not descriptor.full_name.startswith(package):
            continue
        seen.add(descriptor.full_name)
        if not descriptor.GetOptions().map_entry:
            yield GetMessageClass(descriptor)
        waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]


@st.composite
def filled(draw: st.DrawFn, kind: type[Message], depth: int = 0) -> Message:
    """A message with some of its fields set."""
    message = kind()
    fields: list[FieldDescriptor] = [
        field for field in _descriptor(kind).fields if depth < DEEPEST or field.message_type is None
    ]
    for field in (
        draw(st.lists(st.sampled_from(fields), unique_by=lambda each: each.name, max_size=8)) if fields else ()
    ):
        _fill(draw, message, field, depth)
    return message


def _descriptor(kind: type[Message]) -> Any:
    """Stubs know two classes of descriptors."""
    return kind.DESCRIPTOR


def _fill(draw: st.DrawFn, message: Any, field: FieldDescriptor, depth: int) -> None:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
        for name in draw(st.lists(_scalar(key), max_size=3)):
            if value.message_type is None:
                getattr(message, field.name)[name] = draw(_scalar(value))
            else:
                getattr(message, field.name)[name].CopyFrom(draw(_message(value.message_type, depth + 1)))
    elif field.is_repeated:
        one = _scalar(field) if entry is None else _message(entry, depth + 1)
        getattr(message, field.name).extend(draw(st.lists(one, max_size=3)))
    elif entry is None:
        setattr(message, field.name, draw(_scalar(field)))
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
        inner.CopyFrom(draw(_message(entry, depth + 1)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return _SCALARS[field.type]


def _message(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Any]:
    kind = GetMessageClass(descriptor)
    return _well_known(kind) if descriptor.full_name in WELL_KNOWN else filled(kind, depth)


@st.composite
def _well_known(draw: st.DrawFn, kind: type[Message]) -> Any:
    message: Any = kind()
    name = kind.DESCRIPTOR.name
    if name == "Timestamp":
        message.seconds, message.nanos = draw(st.integers(_FIRST, _LAST)), draw(st.integers(0, 999_999_999))
    elif name == "Duration":
        sign = draw(st.sampled_from([1, -1]))
        message.seconds, message.nanos = (
            sign * draw(st.integers(0, 315_576_000_000 - 1)),
            sign * draw(st.integers(0, 999_999_999)),
        )
    elif name == "FieldMask":
        message.paths.extend(draw(st.lists(st.sampled_from(["a", "a.b", "one_two"]), max_size=2)))
    elif name == "Struct":
        message.update({"a": draw(st.booleans()), "b": [None, 1.5, {"c": "d"}]})
    elif name == "Value":
        message.string_value = draw(st.text("ab", max_size=2))
    elif name == "ListValue":
        message.extend([draw(st.booleans()), "x"])
    elif name != "Any":
        message.value = draw(_scalar(_descriptor(kind).fields_by_name["value"]))
    return message
