"""The comments of a descriptor set, as Markdown.

protoc keeps them in `source_code_info`, by the way that leads to what they are about: `[6, 0, 2, 3]` is the fourth method
(2, 3) of the first service (6, 0). Here they go by full names. What is between `(--` and `--)` is for the contract's own
authors (AIP-192) and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

_INTERNAL: Final = re.compile(r"[ \t]*\(--.*?--\)[ \t]*\n?", re.DOTALL)
_BEGINS_ANEW: Final = re.compile(r"\s|[-*+|>#] |\d+\. |```")
"""A line that Markdown must see as one: of a list, a table, a block of code."""
_CLAUSE: Final = re.compile(r"(?<!\be\.g)(?<!\bi\.e)[.:;!?](?=\s|$)")
_DIRECTIVE: Final = "buf:lint:ignore"

Way = tuple[int, ...]


class Comments:
    """Looked up by the full name of a service, method, message, field or enum; a value's is `<enum>.<VALUE>`."""

    def __init__(self, files: FileDescriptorSet) -> None:
        """Without `source_code_info`, every comment is empty."""
        self._texts: dict[str, str] = {}
        for file in files.file:
            names = dict(_of_file(file))
            for location in file.source_code_info.location:
                text = location.leading_comments or location.trailing_comments
                if text and (name := names.get(tuple(location.path))):
                    self._texts[name] = markdown(text)

    def __getitem__(self, full_name: str) -> str:
        """Empty where there is none."""
        return self._texts.get(full_name, "")


def markdown(comment: str) -> str:
    """A comment with one line a paragraph, since renderers of OpenAPI break lines where the source does."""
    paragraphs: list[list[str]] = [[]]
    for line in _INTERNAL.sub("", comment).splitlines():
        text = line.removeprefix(" ").rstrip()
        if text.startswith(_DIRECTIVE):
            continue
        if not text:
            paragraphs.append([])
        elif paragraphs[-1] and not _BEGINS_ANEW.match(text):
            paragraphs[-1][-1] += f" {text}"
        else:
            paragraphs[-1].append(text)
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def summary(text: str) -> str:
    """What a text begins with, as far as it says something by itself: up to its first `.`, `;` or `:`."""
    return _CLAUSE.split(text.split("\n", 1)[0], maxsplit=1)[0]


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[Way, str]]:
    scope = f"{file.package}." if file.package else ""
    for index, message in enumerate(file.message_type):
        yield from _of_message(message, scope, (4, index))
    for index, enum in enumerate(file.enum_type):
        yield from _of_enum(enum, scope, (5, index))
    for index, service in enumerate(file.service):
        yield from _of_service(service, scope, (6, index))


def _of_message(message: DescriptorProto, scope: str, way: Way) -> Iterator[tuple[Way, str]]:
    name = scope + message.name
    yield way, name
    yield from _named(message.field, name, (*way, 2))
    for index, nested in enumerate(message.nested_type):
        yield from _of_message(nested, f"{name}.", (*way, 3, index))
    for index, enum in enumerate(message.enum_type):
        yield from _of_enum(enum, f"{name}.", (*way, 4, index))


def _of_enum(enum: EnumDescriptorProto, scope: str, way: Way) -> Iterator[tuple[Way, str]]:
    yield way, scope + enum.name
    yield from _named(enum.value, scope + enum.name, (*way, 2))


def _of_service(service: ServiceDescriptorProto, scope: str, way: Way) -> Iterator[tuple[Way, str]]:
    yield way, scope + service.name
    yield from _named(service.method, scope + service.name, (*way, 2))


def _named(parts: Sequence[object], scope: str, way: Way) -> Iterator[tuple[Way, str]]:
    for index, part in enumerate(parts):
        yield (*way, index), f"{scope}.{getattr(part, 'name')}"  # noqa: B009 - fields, values and methods alike
