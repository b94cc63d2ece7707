"""The operators' catalogue file: targets beside the built-in ones, and over them. docs/catalogue.md describes it.

What is wrong with it is told all at once, each fault with its line and its place, before anything is started.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import yaml

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.domain.catalogue import (
    COMMON_FIELDS,
    VARIABLE,
    Catalogue,
    Parameter,
    ParameterType,
    Target,
    TargetType,
    TimeRangeEnd,
)
from queue_manager.server.domain.errors import QueueManagerError
from queue_manager.server.domain.field_rules import image as image_rule
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Lifetime, Reads
from queue_manager.server.domain.request import FIELDS

T = TypeVar("T")
E = TypeVar("E", bound=msgspec.Struct)
Scalar = str | int | float | bool

LARGEST: Final = 2**20
"""Bytes of a file that is read."""


class ParameterEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A key that requests may give in `parameters`; see `domain.catalogue.Parameter`."""

    description: str = ""
    type: Literal["string", "integer", "number", "boolean"] = "string"
    required: bool = False
    default: Scalar | None = None
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    allowed_values: tuple[Scalar, ...] = ()
    environment_variable: str = ""


class TypeEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What the target does under one type; see `domain.catalogue.TargetType`."""

    lifetime: Literal["finite", "endless", "drains"]
    description: str = ""
    image: str = ""
    required_fields: tuple[str, ...] = ()
    optional_fields: tuple[str, ...] = ()
    needs_time_range: bool = False
    time_range_end: Literal["inclusive", "exclusive"] = "inclusive"
    feeds: bool = False
    reads: Literal["none", "own", "all"] = "none"
    consumer_group: str = ""
    fills_collection: bool = False


class TargetEntry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A target; of a built-in one, what is not given stays as it is."""

    description: str | None = None
    image: str = ""
    command: tuple[str, ...] | None = None
    types: dict[str, Any] = {}
    parameters: dict[str, Any] = {}
    environment: dict[str, Scalar] = {}
    secret_environment: dict[str, str] = {}
    plaintext_kafka: bool | None = None
    kubernetes: dict[str, Any] = {}


class CatalogueFile(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    targets: dict[str, Any]


class CatalogueError(QueueManagerError):
    """The file cannot be used: every fault on a line of its own."""

    reason = "CATALOGUE"


@dataclass(frozen=True, slots=True)
class _Fault:
    line: int
    text: str


@dataclass(slots=True)
class _Reader:
    """Reads one document; `lines` has the line of each place in it, a place being the keys that lead there."""

    lines: Mapping[tuple[str, ...], int]
    faults: list[_Fault] = dataclasses.field(default_factory=list)

    def fault(self, place: tuple[str, ...], text: str) -> None:
        """Something is wrong there."""
        while place not in self.lines and place:
            place = place[:-1]
        where = ".".join(place)
        self.faults.append(_Fault(self.lines.get(place, 1), f"{where}: {text}" if where else text))

    def convert(self, value: Any, kind: type[E], place: tuple[str, ...]) -> E | None:
        """The value as this kind; None where it is none, which is noted."""
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text, _, path = str(error).partition(" - at `$")
            inner = tuple(re.findall(r"[^.\[\]`]+", path))
            if unknown := re.search(r"unknown field `(.*)`", text):
                known = ", ".join(kind.__struct_fields__)
                self.fault((*place, *inner, unknown[1]), f"there is no such key; there are {known}")
            else:
                self.fault((*place, *inner), f"{text[:1].lower()}{text[1:]}; correct it")
            return None

    def build(self, make: Callable[[], T], place: tuple[str, ...]) -> T | None:
        """What the domain makes of it; None where that contradicts itself, which is noted."""
        try:
            return make()
        except ValueError as error:
            self.fault(place, f"{error}; correct it")
            return None


def read_catalogue(path: Path, base: Catalogue) -> tuple[Catalogue, dict[str, PodOptions]]:
    """`base` with the file's targets beside and over its own, and what their pods need. Raises `CatalogueError`."""
    document, lines = _load(path)
    reader = _Reader(lines)
    options: dict[str, PodOptions] = {}
    targets: list[Target] = []
    file = reader.convert(document, CatalogueFile, ())
    for name, raw in (file.targets if file else {}).items():
        place = ("targets", name)
        entry = reader.convert({} if raw is None else raw, TargetEntry, place)
        if entry is None:
            continue
        if entry.kubernetes and (pods := reader.convert(entry.kubernetes, PodOptions, (*place, "kubernetes"))):
            options[name] = pods
            _try_out(reader, name, pods, (*place, "kubernetes"))
        if (target := _target(reader, name, entry, base.target(name), place)) is not None:
            targets.append(target)
    if reader.faults:
        found = sorted(reader.faults, key=lambda fault: fault.line)
        raise CatalogueError("\n".join(f"QM_CATALOGUE: {path}:{fault.line}: {fault.text}" for fault in found))
    return Catalogue.of(targets).over(base), options


def _target(
    reader: _Reader, name: str, entry: TargetEntry, known: Target | None, place: tuple[str, ...]
) -> Target | None:
    """The target that an entry makes, of a known one where there is one."""
    kinds = {kind.name: kind for kind in known.types} if known else {}
    if entry.image:
        if broken := image_rule(entry.image):
            reader.fault((*place, "image"), broken)
        kinds = {kind.name: dataclasses.replace(kind, default_image=entry.image) for kind in kinds.values()}
    for type_name, raw in entry.types.items():
        kind = _type(reader, type_name, raw, entry.image, (*place, "types", type_name))
        if kind is not None:
            kinds[type_name] = kind
    parameters = {parameter.name: parameter for parameter in known.parameters} if known else {}
    for key, raw in entry.parameters.items():
        parameter = _parameter(reader, key, raw, (*place, "parameters", key))
        if parameter is not None:
            parameters[key] = parameter
    if not kinds:
        if not entry.types:
            reader.fault(place, "it has no types, and there is no built-in target of that name; add what it does")
        return None
    for key, variables in (("environment", entry.environment), ("secret_environment", entry.secret_environment)):
        for variable, value in variables.items():
            if VARIABLE.fullmatch(variable) is None or "\0" in str(value):
                reader.fault((*place, key, variable), "is no environment variable; use letters, digits and '_'")
    plain = known.environment if known else {}
    secret = known.secret_environment if known else {}
    said = {"description": entry.description, "command": entry.command, "plaintext_kafka": entry.plaintext_kafka}
    fields: dict[str, Any] = {key: value for key, value in said.items() if value is not None}
    fields |= {
        "types": tuple(kinds.values()),
        "parameters": tuple(parameters.values()),
        "environment": {**plain, **{key: _text(value) for key, value in entry.environment.items()}},
        "secret_environment": {**secret, **entry.secret_environment},
    }
    return reader.build(lambda: dataclasses.replace(known, **fields) if known else Target(name=name, **fields), place)


def _try_out(reader: _Reader, name: str, options: PodOptions, place: tuple[str, ...]) -> None:
    """A patch that no Job can be made with is not to be found at the first launch."""
    specimen = LaunchSpec(
        key=WorkerKey("wf", name, 1, "wf"),
        target=name,
        image="specimen",
        command=(),
        environment={},
        secret_environment={},
        spec_hash="",
    )
    try:
        manifest.job(specimen, namespace="specimen", secret="specimen", options=options)  # noqa: S106 - a name
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = (
            str(error)
            if isinstance(error, ValueError)
            else "it takes away, or makes another thing of, what a Job needs"
        )
        reader.fault((*place, "patch"), f"{what}; correct it")


def _type(reader: _Reader, name: str, raw: Any, image: str, place: tuple[str, ...]) -> TargetType | None:
    entry = reader.convert(raw, TypeEntry, place)
    if entry is None:
        return None
    for key, fields in (("required_fields", entry.required_fields), ("optional_fields", entry.optional_fields)):
        for unknown in (field for field in fields if field not in FIELDS):
            reader.fault((*place, key), f"{unknown!r} is no field of a request's jobs; there are {', '.join(FIELDS)}")
    if entry.image and (broken := image_rule(entry.image)):
        reader.fault((*place, "image"), broken)
    return reader.build(
        lambda: TargetType(
            name=name,
            description=entry.description,
            lifetime=Lifetime(entry.lifetime.upper()),
            default_image=entry.image or image,
            required_fields=entry.required_fields,
            optional_fields=(*entry.optional_fields, *COMMON_FIELDS),
            needs_time_range=entry.needs_time_range,
            time_range_end=TimeRangeEnd(entry.time_range_end),
            feeds=entry.feeds,
            reads=Reads(entry.reads.upper()),
            consumer_group=entry.consumer_group,
            fills_collection=entry.fills_collection,
        ),
        place,
    )


def _parameter(reader: _Reader, name: str, raw: Any, place: tuple[str, ...]) -> Parameter | None:
    entry = reader.convert({} if raw is None else raw, ParameterEntry, place)
    if entry is None:
        return None
    return reader.build(
        lambda: Parameter(
            name=name,
            description=entry.description,
            type=ParameterType(entry.type.upper()),
            required=entry.required,
            default_value="" if entry.default is None else _text(entry.default),
            pattern=entry.pattern,
            minimum=entry.minimum,
            maximum=entry.maximum,
            allowed_values=tuple(_text(value) for value in entry.allowed_values),
            environment_variable=entry.environment_variable,
        ),
        place,
    )


def _text(value: Scalar) -> str:
    """A value as an environment variable has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _load(path: Path) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The document, and the line of each place in it. Raises `CatalogueError`."""
    try:
        if path.stat().st_size > LARGEST:
            raise CatalogueError(f"QM_CATALOGUE: {path} has more than {LARGEST} bytes; it cannot be a catalogue")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines = dict(_places(node, ())) if node is not None else {}
        return (loader.construct_document(node) if node is not None else {}), lines
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise CatalogueError(f"QM_CATALOGUE: {path} cannot be read ({what}); set it to a YAML file") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise CatalogueError(f"QM_CATALOGUE: {path}:{line}: {error.problem}; {error.note or 'correct it'}") from error
    except ValueError as error:  # what looks like a date, or is tagged as a number, and is none
        raise CatalogueError(f"QM_CATALOGUE: {path}: {error}; put it in quotes") from error
    except RecursionError as error:
        raise CatalogueError(f"QM_CATALOGUE: {path}: an alias leads into itself; write it out") from error
    except yaml.YAMLError as error:
        raise CatalogueError(f"QM_CATALOGUE: {path}: {error}; correct it") from error


def _misread(node: yaml.ScalarNode) -> str:
    """What this is taken for, where its writer hardly meant that: a time of day, leading zeros, a plain `on` or `no`."""
    kind = node.tag.rpartition(":")[2]
    if kind in {"int", "float"} and re.search(r":|^[-+]?0[0-9_]", node.value):
        return "another number"
    if kind == "bool" and node.value.lower() not in {"true", "false"}:
        return "true or false"
    return ""


def _places(node: yaml.Node, place: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every place in the document with its line, counted from 1.

    Raises `yaml.MarkedYAMLError` for a key that stands twice, and for what YAML 1.1 makes another thing of.
    """
    if isinstance(node, yaml.ScalarNode) and (meant := _misread(node)):
        raise yaml.MarkedYAMLError(
            problem=f"YAML reads {node.value} as {meant}", problem_mark=node.start_mark, note="put it in quotes"
        )
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
            yield (*place, key.value), key.start_mark.line + 1
            yield from _places(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*place, str(number)), value.start_mark.line + 1
            yield from _places(value, (*place, str(number)))
