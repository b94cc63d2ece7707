"""The catalogue: what can be launched, and what each target takes. Mirrors `target.proto`.

Frozen values with look-ups, and the one check of a parameter's value. The built-in entries are in `builtin`; reading an
operator's file is an adapter's work (the values are plain dataclasses, so `msgspec.convert` makes them from YAML). A
catalogue that contradicts itself raises `ValueError` when it is built, not when the first request meets it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from rapidfuzz import fuzz, process

from queue_manager.server.domain.model import Lifetime, Reads

INTERVALS: Final = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M")
"""Binance's candle intervals; case matters: `1m` is a minute, `1M` a month."""

PLACEHOLDER: Final = "<interval>"
"""Stands in a type's name for any of `INTERVALS`."""

COMMON_FIELDS: Final = ("image", "parameters", "depends_on", "timeout")
"""Fields of `requests[]` that every type takes, whether or not its entry names them."""

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_TYPE_NAME: Final = re.compile(r"(?=.{1,64}\Z)[A-Za-z0-9_-]*(<interval>)?[A-Za-z0-9_-]*")
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""The name of an environment variable."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class Contradiction(ValueError):
    """An entry that contradicts itself. `found` has all that is wrong with it: its field, and what."""

    def __init__(self, entry: str, found: Sequence[tuple[str, str]]) -> None:
        """`entry`: what it is, with its name."""
        self.found = found
        super().__init__(f"{entry}: " + "; ".join(text for _, text in found))


class ParameterType(StrEnum):
    """The kind of value that a parameter takes; all are written as strings."""

    STRING = "STRING"
    INTEGER = "INTEGER"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"


class TimeRangeEnd(StrEnum):
    """Whether a type's worker reads the last day of `TIME_RANGE` as part of it; the request's always is."""

    INCLUSIVE = "inclusive"
    EXCLUSIVE = "exclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A key that `requests[].parameters` may carry; `target.proto` explains each field."""

    name: str
    description: str = ""
    type: ParameterType = ParameterType.STRING
    required: bool = False
    default_value: str = ""
    pattern: str = ""
    minimum: float | None = None
    maximum: float | None = None
    allowed_values: tuple[str, ...] = ()
    environment_variable: str = ""
    """Default: the name in upper case."""

    def __post_init__(self) -> None:
        if not self.environment_variable:
            object.__setattr__(self, "environment_variable", self.name.upper())
        if found := list(self._contradictions()):
            raise Contradiction(f"parameter {self.name!r}", found)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        """By field: what is wrong. Values are looked at only where the rules for them go together."""
        if VARIABLE.fullmatch(self.environment_variable) is None:
            yield "environment_variable", f"{self.environment_variable!r} is no environment variable's name"
        rules = list(self._broken_rules())
        yield from rules
        if rules:
            return
        for value in self.allowed_values:
            if broken := self.broken_rule(value):
                yield "allowed_values", f"of its allowed values {value!r} {broken}"
        if self.default_value and (broken := self.broken_rule(self.default_value)):
            yield "default_value", f"its default {self.default_value!r} {broken}"

    def _broken_rules(self) -> Iterator[tuple[str, str]]:
        if self.pattern:
            if self.type is not ParameterType.STRING:
                yield "pattern", f"a pattern is for texts, and its type is {self.type.lower()}"
            try:
                re.compile(self.pattern)
            except (re.error, OverflowError, RecursionError) as e:
                yield "pattern", f"its pattern is no regular expression: {e}"
        for bound, value in (("minimum", self.minimum), ("maximum", self.maximum)):
            if value is None:
                continue
            if self.type not in {ParameterType.INTEGER, ParameterType.NUMBER}:
                yield bound, f"a {bound} is for numbers, and its type is {self.type.lower()}"
            if not math.isfinite(value):
                yield bound, f"its {bound} is {value}, which is no limit"
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            yield "minimum", f"its minimum {self.minimum:g} is more than its maximum {self.maximum:g}"

    def broken_rule(self, value: str) -> str | None:
        """The rule that this value breaks, to be read behind the value ("… must be a whole number"), or None."""
        if self.type is ParameterType.STRING:
            if self.pattern and re.fullmatch(self.pattern, value) is None:
                return f"must match {self.pattern} as a whole"
        elif self.type is ParameterType.BOOLEAN:
            if value not in {"true", "false"}:
                return "must be true or false"
        elif broken := self._broken_number(value):
            return broken
        if self.allowed_values and value not in self.allowed_values:
            return f"must be one of {', '.join(self.allowed_values)}"
        return None

    def _broken_number(self, value: str) -> str | None:
        number: float
        if self.type is ParameterType.INTEGER:
            # Longer ones than 4300 digits are refused by int() itself, and none of them is in earnest.
            if _INTEGER.fullmatch(value) is None or len(value) > 4000:
                return f"must be a whole number in decimal{self._range()}"
            number = int(value)
        elif _NUMBER.fullmatch(value) is None or not math.isfinite(number := float(value)):
            return f"must be a decimal number{self._range()}"
        too_small = self.minimum is not None and number < self.minimum
        too_large = self.maximum is not None and number > self.maximum
        return f"is out of range, it must be a number{self._range()}" if too_small or too_large else None

    def _range(self) -> str:
        low = "" if self.minimum is None else f" from {self.minimum:g}"
        return low + ("" if self.maximum is None else f" up to {self.maximum:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetType:
    """What a target does under one type, or under all types of one pattern."""

    name: str
    """E.g. `api_trades`, or a pattern: `api_candles_<interval>`."""
    description: str = ""
    lifetime: Lifetime
    default_image: str = ""
    required_fields: tuple[str, ...] = ()
    optional_fields: tuple[str, ...] = COMMON_FIELDS
    needs_time_range: bool = False
    time_range_end: TimeRangeEnd = TimeRangeEnd.INCLUSIVE
    feeds: bool = False
    """Its worker writes the job's Kafka topic."""
    reads: Reads = Reads.NONE
    consumer_group: str = ""
    """Its worker's consumer group, with `{queue_id}` in it; needed where it reads."""
    fills_collection: bool = False
    """It has a `collection_name`: the request's, else the derived one."""
    names: Mapping[str, str] = field(init=False, repr=False, compare=False)
    """The types of requests that are this one → the interval that each names; empty where there is none."""
    _taken: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if found := list(self._contradictions()):
            raise Contradiction(f"type {self.name!r}", found)
        is_pattern = PLACEHOLDER in self.name
        intervals = INTERVALS if is_pattern else ("",)
        names = {self.name.replace(PLACEHOLDER, interval): interval for interval in intervals}
        derived = (*(["interval"] if is_pattern else []), *(["collection_name"] if self.fills_collection else []))
        object.__setattr__(self, "names", MappingProxyType(names))
        taken = frozenset((*COMMON_FIELDS, *self.required_fields, *self.optional_fields, *derived))
        object.__setattr__(self, "_taken", taken)

    def _contradictions(self) -> Iterator[tuple[str, str]]:
        if _TYPE_NAME.fullmatch(self.name) is None:
            yield "name", f"1 to 64 letters, digits, '_' and '-', and {PLACEHOLDER} at most once"
        if self.reads is not Reads.NONE and not self.consumer_group:
            yield "reads", "it reads topics, so it needs a consumer_group"
        if self.lifetime is Lifetime.DRAINS and self.reads is Reads.NONE:
            yield "lifetime", "it drains, so it must read a topic"

    def interval_in(self, name: str) -> str:
        """The interval that a request's type of this pattern names; empty where there is none."""
        return self.names.get(name, "")

    def takes(self, name: str) -> bool:
        """Whether a request of this type may carry this field of `requests[]`."""
        return name in self._taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A microservice that can be launched."""

    name: str
    """Also the first part of its jobs' names: a DNS label of at most 40 characters."""
    description: str = ""
    types: tuple[TargetType, ...]
    parameters: tuple[Parameter, ...] = ()
    command: tuple[str, ...] = ()
    """Command and arguments; empty: the image's own."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Plain variables of its workers, over the platform's; an empty value takes a variable of the platform's away."""
    secret_environment: Mapping[str, str] = field(default_factory=dict)
    """Variable → name of the secret that it carries, e.g. `BINANCE_API_KEY` → `binance-api-key`."""
    plaintext_kafka: bool = False
    """Its worker speaks Kafka without TLS and credentials, so it is given none."""
    _by_type: Mapping[str, TargetType] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if _NAME.fullmatch(self.name) is None:
            raise ValueError(f"target {self.name!r}: a name is 1 to 40 of a-z, 0-9 and '-', the latter not at its ends")
        if not self.types:
            raise ValueError(f"target {self.name!r}: it takes no type")
        for what, names in (
            ("type", [entry.name for entry in self.types]),
            ("parameter", [parameter.name for parameter in self.parameters]),
        ):
            if len(set(names)) < len(names):
                raise ValueError(f"target {self.name!r}: two entries for one {what}")
        by_type: dict[str, TargetType] = {}
        for entry in self.types:
            for name in entry.names:
                if name == entry.name or name not in by_type:
                    by_type[name] = entry
        object.__setattr__(self, "_by_type", MappingProxyType(by_type))

    def type_of(self, name: str) -> TargetType | None:
        """The entry for a request's type; one that is named exactly goes before a pattern."""
        return self._by_type.get(name)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, if it takes one."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def nearest_type(self, name: str) -> str | None:
        """The type that somebody who wrote `name` may have meant."""
        interval = next((interval for interval in INTERVALS if name.endswith(f"_{interval}")), "")
        shown = {
            entry.name.replace(PLACEHOLDER, interval): entry.name.replace(PLACEHOLDER, interval or PLACEHOLDER)
            for entry in self.types
        }
        found = nearest(name, shown)
        return shown[found] if found else None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All targets, by name and in its order."""

    targets: Mapping[str, Target]
    in_containers: bool = False
    """Workers are run from images, so that each needs one, also where it has a command."""

    def __post_init__(self) -> None:
        if wrong := [name for name, target in self.targets.items() if name != target.name]:
            raise ValueError(f"the catalogue has target {self.targets[wrong[0]].name!r} under the name {wrong[0]!r}")
        object.__setattr__(self, "targets", MappingProxyType(dict(sorted(self.targets.items()))))

    @classmethod
    def of(cls, targets: Iterable[Target]) -> Catalogue:
        """A catalogue of these targets; of two with one name the later one."""
        return cls({target.name: target for target in targets})

    def target(self, name: str) -> Target | None:
        """The target of that name, if there is one."""
        return self.targets.get(name)

    def type_of(self, target: str, type: str) -> TargetType | None:  # noqa: A002 - the field's name
        """The entry for a target's type, if there is one."""
        found = self.target(target)
        return found.type_of(type) if found else None

    def nearest_target(self, name: str) -> str | None:
        """The target that somebody who wrote `name` may have meant."""
        return nearest(name, self.targets)

    def needs_image(self, target: Target, kind: TargetType) -> bool:
        """Whether a request of this type has to name an image."""
        return not kind.default_image and (self.in_containers or not target.command)

    def over(self, base: Catalogue) -> Catalogue:
        """This catalogue's targets beside those of `base`, and instead of those of the same name."""
        return Catalogue({**base.targets, **self.targets}, self.in_containers or base.in_containers)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like this one, unless none is at all."""
    found = process.extractOne(name[:128].lower(), list(known), scorer=fuzz.ratio, score_cutoff=50)
    return found[0] if found else None
