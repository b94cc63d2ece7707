"""The YAML of a catalogue file: its document, the line of each place in it, and what in it is not as its writer meant it.

A place is the keys and numbers that lead there. What can be gone over is noted and the rest is read on, so that all faults
are told at once; only where the text is no YAML at all, nothing else can be said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from queue_manager.server.domain.errors import QueueManagerError

LARGEST: Final = 2**20
"""Bytes of a file that is read, and places in it with all its aliases."""
DEEPEST: Final = 64
"""Levels; a patch of a Job has a dozen."""

Place = tuple[str, ...]

_PREFIX: Final = "tag:yaml.org,2002:"
_TEXT: Final = f"{_PREFIX}str"
_MERGE: Final = f"{_PREFIX}merge"
_TAGS: Final = {
    yaml.ScalarNode: {"null", "bool", "int", "float", "str", "timestamp"},
    yaml.SequenceNode: {"seq"},
    yaml.MappingNode: {"map"},
}
"""What each kind of node can be: what JSON has, and dates, which are dealt with."""


class CatalogueError(QueueManagerError):
    """The file cannot be used: every fault on a line of its own."""

    reason = "CATALOGUE"


class Fault(NamedTuple):
    """What is wrong, on which line."""

    line: int
    text: str

    def told(self, path: Path) -> str:
        """As operators read it."""
        return f"QM_CATALOGUE: {path}:{self.line}: {self.text}"


@dataclass(slots=True)
class Document:
    """What a file says."""

    value: Any = None
    lines: dict[Place, int] = field(default_factory=dict)
    """Counted from 1."""
    faults: list[Fault] = field(default_factory=list)
    faulty: set[Place] = field(default_factory=set)
    """The places of texts and numbers that are; they stand in the value as a text."""


def fault_at(place: Place, line: int, text: str) -> Fault:
    """A fault that names its place."""
    return Fault(line, f"{'.'.join(place)}: {text}" if place else text)


def load(path: Path) -> Document:
    """Read a file. Raises `CatalogueError` where it cannot be read, or is no YAML."""
    try:
        if path.stat().st_size > LARGEST:
            raise CatalogueError(f"QM_CATALOGUE: {path} has more than {LARGEST} bytes; it cannot be a catalogue")
        raw = path.read_bytes()
    except OSError as error:
        raise CatalogueError(
            f"QM_CATALOGUE: {path} cannot be read ({error.strerror}); set it to a YAML file"
        ) from error
    try:
        return _document(raw.decode())
    except UnicodeDecodeError as error:
        fault = Fault(raw.count(b"\n", 0, error.start) + 1, "it is not UTF-8; store it as such")
        raise CatalogueError(fault.told(path)) from error
    except _Broken as error:
        raise CatalogueError(error.fault.told(path)) from error


class _Broken(Exception):
    """It is no YAML."""

    def __init__(self, line: int, text: str) -> None:
        self.fault = Fault(line, text)
        super().__init__(text)


def _document(text: str) -> Document:
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _Broken(line, f"the character U+{error.character:04X} cannot stand in YAML; take it out") from error
    try:
        node = loader.get_single_node()
        if node is None:
            return Document({})
        walk = _Walk(loader)
        walk.visit(node, ())
        walk.found.value = loader.construct_document(node)
        return walk.found
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise _Broken(line, f"{error.problem}; {error.note or 'correct it'}") from error
    except RecursionError as error:
        raise _Broken(loader.line + 1, "it is nested too deeply; write it flatter") from error


class _Walk:
    """Goes over all nodes of a document. One that is faulty is made a text, so that the others can be read."""

    def __init__(self, loader: yaml.SafeLoader) -> None:
        self._loader = loader
        self._above: set[int] = set()
        self.found = Document()

    def visit(self, node: yaml.Node, place: Place) -> None:
        """It, and all in it. Raises `yaml.MarkedYAMLError` where the rest cannot be read."""
        kinds = _TAGS[type(node)]
        if len(self._above) > DEEPEST or len(self.found.lines) > LARGEST:
            what = "deeply" if len(self._above) > DEEPEST else "often"
            raise yaml.MarkedYAMLError(
                problem=f"it is nested, or repeated by aliases, too {what}",
                problem_mark=node.start_mark,
                note="write it flatter",
            )
        if not isinstance(node, yaml.ScalarNode) and id(node) in self._above:
            raise yaml.MarkedYAMLError(
                problem="an alias leads into itself", problem_mark=node.start_mark, note="write it out"
            )
        if node.tag.removeprefix(_PREFIX) not in kinds:
            shown = node.tag.replace(_PREFIX, "!!")
            self._fault(node, place, f"there is nothing in a catalogue that is tagged {shown}; take the tag out")
            node.tag = _TEXT if isinstance(node, yaml.ScalarNode) else f"{_PREFIX}{next(iter(kinds))}"
        if isinstance(node, yaml.ScalarNode):
            self._scalar(node, place)
            return
        self._above.add(id(node))
        if isinstance(node, yaml.MappingNode):
            self._mapping(node, place)
        else:
            for number, value in enumerate(node.value):
                self._inner(value, value, (*place, str(number)))
        self._above.remove(id(node))

    def _inner(self, at: yaml.Node, value: yaml.Node, place: Place) -> None:
        self.found.lines[place] = at.start_mark.line + 1
        self.visit(value, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> None:
        seen: set[str] = set()
        pairs: Sequence[tuple[yaml.Node, yaml.Node]] = node.value
        node.value = []
        for key, value in pairs:
            if not isinstance(key, yaml.ScalarNode) or _unsayable(key.value):
                self._fault(key, (*place, "?"), "a key must be a plain text; write it as one")
                continue
            if key.value in seen:
                self._fault(key, (*place, key.value), f"the key {key.value!r} stands twice; take one of them out")
                continue
            seen.add(key.value)
            if key.tag != _MERGE:
                key.tag = _TEXT  # `on` and 5 are names here
            node.value.append((key, value))
            self._inner(key, value, (*place, key.value))

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> None:
        kind = node.tag.removeprefix(_PREFIX)
        fault = _misread(kind, node.value)
        if not fault:
            try:
                value = yaml.SafeLoader.yaml_constructors[node.tag](self._loader, node)
            except (ValueError, LookupError, TypeError, AttributeError):
                # A tag that it is none of, or a number with too many digits.
                fault = f"{node.value:.40} is no {kind}; correct it, or put it in quotes"
            else:
                if isinstance(value, float) and not math.isfinite(value):
                    fault = f"{node.value} is not finite; leave it out for no limit"
                elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                    fault = f"{node.value:.40} has more than 64 bits; put it in quotes"
                elif _unsayable(node.value):
                    fault = "it has characters that are none (lone surrogates); take them out"
        if fault:
            self._fault(node, place, fault)
            node.tag = _TEXT

    def _fault(self, node: yaml.Node, place: Place, text: str) -> None:
        self.found.faults.append(fault_at(place, node.start_mark.line + 1, text))
        if isinstance(node, yaml.ScalarNode):
            self.found.faulty.add(place)


def _unsayable(text: str) -> bool:
    """Whether it has half a character, which JSON and YAML can write and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _misread(kind: str, text: str) -> str:
    """What YAML 1.1 takes a text for, where its writer hardly meant that: a date, a time of day, `010`, a plain `no`."""
    if kind == "timestamp":
        another = "a date"
    elif kind in {"int", "float"} and re.search(r":|^[-+]?0[0-9_]", text):
        another = "another number"
    elif kind == "bool" and text.lower() not in {"true", "false"}:
        another = "true or false"
    else:
        return ""
    return f"YAML reads {text:.40} as {another}; put it in quotes"
