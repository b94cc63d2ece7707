"""What is sent to create the Jobs of workers: what they have in common is made and encoded once.

The Jobs of a target differ in a few texts: what they are called, whose they are, the values of their variables. So the
first one is encoded with marks where these texts belong, and cut at the marks; every other is the pieces with its own texts
between them, which takes a quarter of the time. It is what a burst of queues waits for most (decision 18).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from queue_manager.server.adapters.kubernetes.encoding import decode, encode, is_said_exactly
from queue_manager.server.adapters.kubernetes.manifest import CA_PATH, literal
from queue_manager.server.adapters.kubernetes.objects import MAGIC
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.serialised import fields, varint

KEPT: Final = 256
"""Patterns, of some kilobytes each. Where requests differ in more (images, time-outs), they are made anew now and then."""

_MARK: Final = "\ue000{}\ue000"
"""Stands for a text, with characters of private use."""
_MARKS: Final = re.compile(_MARK.format(r"(\d+)").encode())


class _Field(NamedTuple):
    """A field that differs: a text, or a message with one at its end (a variable, a label), or any other message."""

    before: bytes
    """What stands before it in its message, and its tag."""
    begin: bytes
    """Of a message with a text at its end: what stands before that, and its tag."""
    text: int
    """The number of the text."""
    message: _Message | None
    """Of any other message."""


class _Message(NamedTuple):
    """A message of which something differs."""

    fields: Sequence[_Field]
    rest: bytes


class Pattern:
    """A serialised message with gaps."""

    def __init__(self, marked: bytes) -> None:
        """`marked`: the message, with marks as texts."""
        self._message = _cut(marked)

    def filled(self, texts: Sequence[bytes]) -> bytes:
        """The message that has these texts, in UTF-8, each wherever its number was a mark."""
        return _filled(self._message, texts)


class Patterns:
    """Call it with what a worker is launched with: its Job as protobuf, or as JSON where that cannot say all of it."""

    def __init__(self, manifest: Callable[[LaunchSpec], dict[str, Any]]) -> None:
        """`manifest` makes the Job as JSON. What it is told beyond the specification's texts is the same for a target."""
        self._manifest = manifest
        self._known: dict[tuple[object, ...], Pattern | None] = {}

    def __call__(self, spec: LaunchSpec) -> Mapping[str, Any] | bytes:
        shape = _shape(spec)
        try:
            pattern = self._known[shape]
        except KeyError:
            if len(self._known) >= KEPT:
                self._known.clear()
            pattern = self._known[shape] = self._pattern(spec)
        return self._manifest(spec) if pattern is None else MAGIC + pattern.filled(_texts(spec))

    def _pattern(self, spec: LaunchSpec) -> Pattern | None:
        """None: out of one it would not be the same Job, which is seen by this one."""
        job = self._manifest(spec)
        if not is_said_exactly(job):
            return None
        texts = _texts(spec)
        marked = encode(self._manifest(_with(spec, map(_MARK.format, range(len(texts))))))
        blank = encode(self._manifest(_with(spec, [""] * len(texts))))
        wanted = encode(job)
        if marked is None or wanted is None or blank is None or _MARKS.search(blank):
            return None
        pattern = Pattern(marked.removeprefix(MAGIC))
        return pattern if decode(MAGIC + pattern.filled(texts)) == decode(wanted) else None


def _shape(spec: LaunchSpec) -> tuple[object, ...]:
    """What is the same of all Jobs of a pattern."""
    environment = spec.environment
    return (
        *(spec.target, spec.image, *spec.command, spec.timeout, spec.start_timeout, spec.key.attempt),
        *(environment.get(CA_PATH), *environment, *spec.secret_environment.items()),
    )


def _texts(spec: LaunchSpec) -> list[bytes]:
    """What differs, in the order of `_with`."""
    key = spec.key
    texts = [key.name, key.queue_id, key.job, spec.spec_hash, *map(literal, spec.environment.values())]
    return [text.encode() for text in texts]


def _with(spec: LaunchSpec, texts: Iterable[str]) -> LaunchSpec:
    """The same with other texts. The manifest takes the CA's path apart, so that stays."""
    name, queue_id, job, spec_hash, *values = texts
    environment = dict(zip(spec.environment, values, strict=True))
    if CA_PATH in environment:
        environment[CA_PATH] = spec.environment[CA_PATH]
    key = WorkerKey(queue_id, job, spec.key.attempt, name)
    return replace(spec, key=key, spec_hash=spec_hash, environment=environment)


def _cut(message: bytes) -> _Message:
    """Cut a message at its marks. A field that has a mark, and more, is itself a message."""
    found: list[_Field] = []
    plain = b""
    for tag, rest, content in fields(message):
        if content is None or not _MARKS.search(content):
            plain += tag + rest
            continue
        found.append(_field(plain + tag, content))
        plain = b""
    return _Message(found, plain)


def _field(before: bytes, content: bytes) -> _Field:
    if mark := _MARKS.fullmatch(content):
        return _Field(before, b"", int(mark[1]), None)
    match _cut(content):
        case _Message([_Field(begin, b"", text, None)], b""):
            return _Field(before, begin, text, None)
        case message:
            return _Field(before, b"", 0, message)


def _filled(message: _Message, texts: Sequence[bytes]) -> bytes:
    """Lengths stand before what they are of, so they are made from the inside out."""
    parts: list[bytes] = []
    for before, begin, text, inner in message.fields:
        if inner is not None:
            content = _filled(inner, texts)
        else:
            content = texts[text]
            if begin:
                content = begin + varint(len(content)) + content
        parts += before, varint(len(content)), content
    parts.append(message.rest)
    return b"".join(parts)
