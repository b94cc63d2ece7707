"""The operators' catalogue file: targets beside the built-in ones, and over them. docs/catalogue.md describes it.

What is wrong with it is told all at once, each fault with its line and its place, before anything is started.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from queue_manager.server.adapters.catalogue_entries import EntryReader, Scalar
from queue_manager.server.adapters.catalogue_yaml import CatalogueError, Place, load
from queue_manager.server.adapters.kubernetes import manifest, resources
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
from queue_manager.server.domain.field_rules import image as image_rule
from queue_manager.server.domain.field_rules import parameter_text
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Lifetime, Reads
from queue_manager.server.domain.request import FIELDS

__all__ = ["CatalogueError", "read_catalogue"]


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

    lifetime: Literal["finite", "endless", "drains"] | None = None
    """Has to be given; not said so here, so that what else is wrong is found where it is not."""
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


def read_catalogue(path: Path, base: Catalogue) -> tuple[Catalogue, dict[str, PodOptions]]:
    """`base` with the file's targets beside and over its own, and what their pods need. Raises `CatalogueError`."""
    document = load(path)
    reader = EntryReader(document)
    options: dict[str, PodOptions] = {}
    targets: list[Target] = []
    file = reader.entry(document.value, CatalogueFile, ())
    for name, raw in (file.targets if file else {}).items():
        place = ("targets", name)
        entry = reader.entry({} if raw is None else raw, TargetEntry, place)
        if entry is None:
            continue
        if entry.kubernetes and (pods := _pods(reader, name, entry.kubernetes, (*place, "kubernetes"))):
            options[name] = pods
        if (target := _target(reader, name, entry, base.target(name), place)) is not None:
            targets.append(target)
    if reader.faults:
        raise CatalogueError("\n".join(fault.told(path) for fault in sorted(set(reader.faults))))
    return Catalogue.of(targets).over(base), options


def _target(reader: EntryReader, name: str, entry: TargetEntry, known: Target | None, place: Place) -> Target | None:
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


def _pods(reader: EntryReader, name: str, raw: Any, place: Place) -> PodOptions | None:
    """What a target's pods need; None where something is wrong with it."""
    before = len(reader.faults)
    given = {}
    for key in ("requests", "limits"):
        given[key] = amounts = raw.get(key) if isinstance(raw, Mapping) else None
        for resource, quantity in amounts.items() if isinstance(amounts, Mapping) else ():
            if isinstance(quantity, str | int | float) and (broken := resources.broken_rule(resource, quantity)):
                reader.fault((*place, key, resource), broken)
    if len(reader.faults) > before:  # else they are compared, and what is no amount cannot be
        raw = {key: value for key, value in raw.items() if key not in given}
    pods = reader.entry(raw, PodOptions, place)
    if len(reader.faults) > before or pods is None:
        return None
    if all(key in raw for key in given):
        for resource, text in resources.contradictions(pods.requests, pods.limits):
            reader.fault((*place, "requests", resource), text)
    _try_out(reader, name, pods, place)
    return pods


def _try_out(reader: EntryReader, name: str, options: PodOptions, place: Place) -> None:
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


def _type(reader: EntryReader, name: str, raw: Any, image: str, place: Place) -> TargetType | None:
    entry = reader.entry({} if raw is None else raw, TypeEntry, place)
    if entry is None:
        return None
    lifetime = (*place, "lifetime")
    if entry.lifetime is None and not reader.is_faulty(lifetime):
        reader.fault(lifetime, "is required; say how its workers end: finite, endless or drains")
    for key, fields in (("required_fields", entry.required_fields), ("optional_fields", entry.optional_fields)):
        for unknown in (field for field in fields if field not in FIELDS):
            reader.fault((*place, key), f"{unknown!r} is no field of a request's jobs; there are {', '.join(FIELDS)}")
    if entry.image and (broken := image_rule(entry.image)):
        reader.fault((*place, "image"), broken)
    return reader.build(
        lambda: TargetType(
            name=name,
            description=entry.description,
            lifetime=Lifetime((entry.lifetime or "finite").upper()),
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


def _parameter(reader: EntryReader, name: str, raw: Any, place: Place) -> Parameter | None:
    entry = reader.entry({} if raw is None else raw, ParameterEntry, place)
    if entry is None:
        return None
    default = "" if entry.default is None else _text(entry.default)
    if broken := parameter_text(default):
        reader.fault((*place, "default"), broken)
    return reader.build(
        lambda: Parameter(
            name=name,
            description=entry.description,
            type=ParameterType(entry.type.upper()),
            required=entry.required,
            default_value=default,
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
