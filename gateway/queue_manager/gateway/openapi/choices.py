"""Fields whose values are chosen from what a method answers: which there are now, for the reader of a live document.

Which field takes them from where is the table `SOURCES`. The checked-in document has none: what a catalogue offers is not
known before a server runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from queue_manager.gateway.openapi.forms import Schema


@dataclass(frozen=True, slots=True)
class Source:
    """Where a field's choices come from. Each item that is answered has a `name` and a `description`."""

    field: str
    """The field that takes them, by its full name."""
    method: str
    """The method that answers them, by its full name."""
    items: str
    """The repeated field of its answer."""
    kinds: str
    """The repeated field of an item whose names are told beside it, as values of another field."""


TARGETS: Final = Source(
    field="queue_manager.v1.JobRequest.target",
    method="queue_manager.v1.QueueManager.ListTargets",
    items="targets",
    kinds="types",
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A value, what it means, and what goes with it."""

    value: str
    description: str
    kinds: Sequence[str]
    label: str
    """What `kinds` are called."""


def as_value(item: Message | Mapping[str, Any]) -> Mapping[str, Any]:
    """An item as JSON."""
    return json_format.MessageToDict(item, preserving_proto_field_name=True) if isinstance(item, Message) else item


def choices_of(source: Source, items: Iterable[Mapping[str, Any]]) -> Mapping[str, Sequence[Choice]]:
    """The choices by the full name of the field that takes them; empty without items."""
    found = []
    for each in items:
        kinds = [kind["name"] for kind in each.get(source.kinds, ())]
        found.append(Choice(each["name"], each.get("description", ""), kinds, source.kinds))
    return {source.field: found} if found else {}


def with_choices(schema: Schema, choices: Sequence[Choice]) -> Schema:
    """A field's schema with its choices: as its only values, and in its description with their meaning."""
    if not choices:
        return schema
    rows = [
        f"* `{choice.value}`: {choice.description}"
        + (f" {choice.label.capitalize()}: {', '.join(f'`{kind}`' for kind in choice.kinds)}." if choice.kinds else "")
        for choice in choices
    ]
    text = "\n\n".join(filter(None, (schema.get("description", ""), "Now there are:", "\n".join(rows))))
    return {**schema, "description": text, "enum": [choice.value for choice in choices]}
