"""Path templates in OpenAPI's form, whose parameters are single segments.

`/v1/{name=shelves/*}` is `/v1/shelves/{name}`; where a variable catches several wildcards, each is a parameter of its own.
`**`, which may catch slashes, has no form there; its parameter says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from queue_manager.gateway.path_template import ONE, REST, PathTemplate, Variable

_PARAMETER: Final = re.compile(r"\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter in a path."""

    name: str
    variable: Variable | None
    """What it belongs to; None: nothing, it only must be there."""
    whole: bool
    """Whether it is all that the variable catches beside literals."""
    slashes: bool
    """Whether it may have slashes in it."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path and its parameters."""

    text: str
    parts: Sequence[Part]

    @property
    def shape(self) -> str:
        """The same for paths that differ only in the names of their parameters, which OpenAPI takes for one."""
        return _PARAMETER.sub("{}", self.text)

    def named_as(self, other: Path) -> Path:
        """With the names that the parameters have in another path of the same shape."""
        parts = [
            Part(theirs.name, ours.variable, ours.whole, ours.slashes)
            for ours, theirs in zip(self.parts, other.parts, strict=True)
        ]
        return Path(other.text, parts)


def path_of(template: PathTemplate) -> Path:
    """The path of a template."""
    segments: list[str] = []
    parts: list[Part] = []
    for index, segment in enumerate(template.segments):
        if segment in {ONE, REST}:
            part = _part(template, index, len(parts) + 1)
            parts.append(part)
            segments.append(f"{{{part.name}}}")
        else:
            segments.append(quote(segment, safe="!$&'()*+,;=:@~"))
    verb = f":{quote(template.verb, safe='')}" if template.verb else ""
    return Path(f"/{'/'.join(segments)}{verb}", parts)


def _part(template: PathTemplate, index: int, number: int) -> Part:
    slashes = template.segments[index] == REST
    for variable in template.variables:
        wildcards = list(_wildcards(template, variable))
        if index in wildcards:
            name, whole = variable.field_path, len(wildcards) == 1
            return Part(name if whole else f"{name}_{wildcards.index(index) + 1}", variable, whole, slashes)
    return Part(f"segment_{number}", None, whole=True, slashes=slashes)


def _wildcards(template: PathTemplate, variable: Variable) -> Iterator[int]:
    end = len(template.segments) if variable.end is None else variable.end
    return (index for index in range(variable.begin, end) if template.segments[index] in {ONE, REST})
