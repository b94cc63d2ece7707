"""Messages and enums as JSON Schemas: the components of the document.

A message is described where it is used. In answers every field without presence is there, for the gateway prints them all,
and others may come later. In bodies unknown fields are refused, `null` stands for a field that is not sent, and integers
and enums have further spellings (`forms`). One that is used in both has two components, `X` for answers and `XInput`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from queue_manager.gateway.openapi.choices import Choice, with_choices
from queue_manager.gateway.openapi.comments import Comments
from queue_manager.gateway.openapi.forms import Place, Schema, is_well_known, map_key, note, or_null, plain, well_known

REQUIRED: Final = field_behavior_pb2.REQUIRED
OUTPUT_ONLY: Final = field_behavior_pb2.OUTPUT_ONLY
INPUT_ONLY: Final = field_behavior_pb2.INPUT_ONLY

_TYPES_WITH_LENGTH: Final = frozenset({FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES})


class Schemas:
    """Makes the schemas of fields, and gathers the components that they refer to."""

    def __init__(
        self,
        comments: Comments,
        *,
        answered: Iterable[Descriptor],
        asked: Iterable[Descriptor],
        sent: Iterable[Descriptor],
        choices: Mapping[str, Sequence[Choice]],
    ) -> None:
        """`answered`, `asked` and `sent`: what answers, whole requests and their bodies are made of.

        `choices`: by the full name of a field.
        """
        self._comments = comments
        self._choices = choices
        outward = reachable(answered)
        self._both = outward.keys() & reachable(sent).keys()
        self._names = short_names(outward | reachable(asked))
        self.components: dict[str, Schema] = {}

    def message(self, message: Descriptor, place: Place) -> Schema:
        """A message wherever it stands: a reference, or a well-known type's own form."""
        if is_well_known(message.full_name):
            return well_known(message.full_name, place)
        name = self._names[message.full_name]
        if place is Place.BODY and message.full_name in self._both:
            name += "Input"
        if name not in self.components:
            self.components[name] = {}  # a message may hold others of its own type
            self.components[name] = self.object(message, place)
        return {"$ref": f"#/components/schemas/{name}"}

    def object(self, message: Descriptor, place: Place, without: frozenset[str] = frozenset()) -> Schema:
        """A message spelt out, `without` those fields (by their paths) that the request's path carries."""
        fields = [field for field in message.fields if field.name not in without]
        properties = {}
        for field in fields:
            below = frozenset(path.partition(".")[2] for path in without if path.startswith(f"{field.name}."))
            inner = field.message_type if below else None
            properties[field.name] = self.object(inner, place, below) if inner else self.field(field, place)
        schema: Schema = {"type": "object"}
        if text := self._comments[message.full_name]:
            schema["description"] = text
        if properties:
            schema["properties"] = properties
        if required := [field.name for field in fields if _is_required(field, place)]:
            schema["required"] = required
        if place is Place.BODY:
            if groups := [_at_most_one(names) for names in oneofs(message) if not without.intersection(names)]:
                schema["allOf"] = groups
            schema["additionalProperties"] = False
        return schema

    def field(self, field: FieldDescriptor, place: Place) -> Schema:
        """A field as a property of its message: its value's form, its comment, and what is required of it."""
        schema = self.value(field, place)
        demanded = REQUIRED in behaviors(field)
        if demanded and place is not Place.ANSWER and not field.has_presence:
            schema |= _not_empty(field)
        if place is Place.BODY and not demanded and not _real_oneof(field):
            schema = or_null(schema)
        if text := self.description(field):
            schema["description"] = text
        if place is not Place.QUERY:
            if OUTPUT_ONLY in behaviors(field):
                schema["readOnly"] = True
            if INPUT_ONLY in behaviors(field):
                schema["writeOnly"] = True
        if field.GetOptions().deprecated:
            schema["deprecated"] = True
        return with_choices(schema, self._choices.get(field.full_name, ()))

    def description(self, field: FieldDescriptor) -> str:
        """The comment of a field, with what is to be known of its form."""
        notes = [self._comments[field.full_name], note(field)]
        if group := _real_oneof(field):
            names = ", ".join(f"`{name}`" for name in group)
            notes.append(f"At most one of {names} is set.")
        return " ".join(filter(None, notes))

    def value(self, field: FieldDescriptor, place: Place) -> Schema:
        """What a field holds: one value, an array or an object."""
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            held: Schema = {
                "type": "object",
                "additionalProperties": self._single(entry.fields_by_name["value"], place),
            }
            if keys := map_key(entry.fields_by_name["key"].type):
                held["propertyNames"] = keys
            return held
        if field.is_repeated:
            return {"type": "array", "items": self._single(field, place)}
        return self._single(field, place)

    def _single(self, field: FieldDescriptor, place: Place) -> Schema:
        if field.message_type is not None:
            return self.message(field.message_type, place)
        if field.enum_type is not None:
            return self._enum(field.enum_type, place)
        return plain(field.type, place)

    def _enum(self, enum: EnumDescriptor, place: Place) -> Schema:
        if enum.full_name == "google.protobuf.NullValue":
            return {"type": "null"}
        name = self._names[enum.full_name]
        if name not in self.components:
            self.components[name] = self._names_of(enum)
        reference: Schema = {"$ref": f"#/components/schemas/{name}"}
        if place is not Place.BODY:
            return reference
        return {"anyOf": [reference, {"type": "integer", "enum": sorted(enum.values_by_number)}]}

    def _names_of(self, enum: EnumDescriptor) -> Schema:
        values = "\n".join(
            f"* `{value.name}`: {self._comments[f'{enum.full_name}.{value.name}']}".removesuffix(": ")
            for value in enum.values
        )
        return {
            "type": "string",
            "description": "\n\n".join(filter(None, (self._comments[enum.full_name], values))),
            "enum": [value.name for value in enum.values],
        }


def behaviors(field: FieldDescriptor) -> Sequence[int]:
    """What `google.api.field_behavior` says of a field."""
    found: Sequence[int] = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return found


def held_message(field: FieldDescriptor) -> Descriptor:
    """The message that a field holds, where it is known to hold one."""
    assert field.message_type is not None, f"{field.full_name} holds no message"
    return field.message_type


def oneofs(message: Descriptor) -> Iterator[Sequence[str]]:
    """The names in each `oneof`, less those that protoc makes for `optional`."""
    for group in message.oneofs:
        if not group.name.startswith("_"):
            yield [field.name for field in group.fields]


def reachable(messages: Iterable[Descriptor]) -> dict[str, Descriptor | EnumDescriptor]:
    """These messages and all that are below them, with enums, by full name."""
    found: dict[str, Descriptor | EnumDescriptor] = {}
    waiting = list(messages)
    while waiting:
        message = waiting.pop()
        if message.full_name in found or is_well_known(message.full_name):
            continue
        if not message.GetOptions().map_entry:
            found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                waiting.append(field.message_type)
            elif field.enum_type is not None:
                found[field.enum_type.full_name] = field.enum_type
    return found


def short_names(full_names: Iterable[str]) -> dict[str, str]:
    """Each full name's shortest end that no other has."""
    parts = {name: name.split(".") for name in full_names}
    ends = Counter(".".join(each[begin:]) for each in parts.values() for begin in range(len(each)))
    return {
        name: next((end for size in range(1, len(each)) if ends[end := ".".join(each[-size:])] == 1), name)
        for name, each in parts.items()
    }


def _is_required(field: FieldDescriptor, place: Place) -> bool:
    if place is Place.ANSWER:
        return not field.has_presence and INPUT_ONLY not in behaviors(field)
    return REQUIRED in behaviors(field)


def _real_oneof(field: FieldDescriptor) -> Sequence[str]:
    group = field.containing_oneof
    return [] if group is None or group.name.startswith("_") else [each.name for each in group.fields]


def _not_empty(field: FieldDescriptor) -> Schema:
    """A required field without presence is missing where it has its default."""
    if field.is_repeated:
        return {"minProperties" if field.message_type and field.message_type.GetOptions().map_entry else "minItems": 1}
    return {"minLength": 1} if field.type in _TYPES_WITH_LENGTH else {}


def _at_most_one(names: Sequence[str]) -> Schema:
    each: list[Schema] = [{"required": [name]} for name in names]
    return {"oneOf": [*each, {"not": {"anyOf": each}}]}
