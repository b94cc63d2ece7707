"""What is sent to create the Jobs of workers: what they have in common is made and encoded once.

The Jobs of a target differ in a few texts: what they are called, whose they are, the values of their variables. So the
first one is encoded with marks where these texts belong, and cut at the marks; every other is the pieces with its own texts
between them, which takes a quarter of the time. It is what a burst of queues waits for most (decision 18).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
"""Stands for a text: characters of private use, which no other text has."""
_MARKS: Final = re.compile(_MARK.format(r"(\d+)").encode())


class _Gap(NamedTuple):
    """Where a text belongs: a field of its message."""

    tag: bytes
    text: int


class _Entry(NamedTuple):
    """A message that is a field, and ends with a text: a variable with its value, a label."""

    tag: bytes
    begin: bytes
    text: int


class _Inner(NamedTuple):
    """Any other message that is a field and has texts somewhere."""

    tag: bytes
    pieces: Sequence[_Piece]


_Piece = bytes | _Gap | _Entry | _Inner


class Pattern:
    """A serialised message with gaps."""

    def __init__(self, marked: bytes) -> None:
        """`marked`: the message, with marks as texts."""
        self._pieces = _cut(marked)

    def filled(self, texts: Sequence[bytes]) -> bytes:
        """The message that has these texts, in UTF-8, each wherever its number was a mark."""
        return _filled(self._pieces, texts)


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
        marked, wanted = encode(self._manifest(_marked(spec))), encode(job)
        if marked is None or wanted is None or _MARKS.search(wanted):
            return None
        pattern = Pattern(marked.removeprefix(MAGIC))
        return pattern if decode(MAGIC + pattern.filled(_texts(spec))) == decode(wanted) else None


def _shape(spec: LaunchSpec) -> tuple[object, ...]:
    """What is the same of all Jobs of a pattern."""
    environment = spec.environment
    return (
        *(spec.target, spec.image, *spec.command, spec.timeout, spec.start_timeout, spec.key.attempt),
        *(environment.get(CA_PATH), *environment, *spec.secret_environment.items()),
    )


def _texts(spec: LaunchSpec) -> list[bytes]:
    """What differs, in the order of `_marked`."""
    key = spec.key
    texts = [key.name, key.queue_id, key.job, spec.spec_hash, *map(literal, spec.environment.values())]
    return [text.encode() for text in texts]


def _marked(spec: LaunchSpec) -> LaunchSpec:
    """The same with marks for texts. The manifest takes the CA's path apart, so that stays."""
    name, queue_id, job, spec_hash, *values = map(_MARK.format, range(4 + len(spec.environment)))
    environment = dict(zip(spec.environment, values, strict=True))
    if CA_PATH in environment:
        environment[CA_PATH] = spec.environment[CA_PATH]
    key = WorkerKey(queue_id, job, spec.key.attempt, name)
    return replace(spec, key=key, spec_hash=spec_hash, environment=environment)


def _cut(message: bytes) -> tuple[_Piece, ...]:
    """A message in pieces. A field that has a mark, and more, is itself a message."""
    pieces: list[_Piece] = []
    plain = b""
    for tag, rest, content in fields(message):
        if content is None or not _MARKS.search(content):
            plain += tag + rest
            continue
        if plain:
            pieces.append(plain)
            plain = b""
        mark = _MARKS.fullmatch(content)
        pieces.append(_Gap(tag, int(mark[1])) if mark else _inner(tag, _cut(content)))
    return (*pieces, plain) if plain else tuple(pieces)


def _inner(tag: bytes, pieces: tuple[_Piece, ...]) -> _Entry | _Inner:
    match pieces:
        case (bytes(begin), _Gap(of_text, text)):
            return _Entry(tag, begin + of_text, text)
        case _:
            return _Inner(tag, pieces)


def _filled(pieces: Sequence[_Piece], texts: Sequence[bytes]) -> bytes:
    """Lengths stand before what they are of, so they are made from the inside out."""
    parts: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            parts.append(piece)
            continue
        if isinstance(piece, _Entry):
            text = texts[piece.text]
            content = piece.begin + varint(len(text)) + text
        else:
            content = texts[piece.text] if isinstance(piece, _Gap) else _filled(piece.pieces, texts)
        parts += (piece.tag, varint(len(content)), content)
    return b"".join(parts)
