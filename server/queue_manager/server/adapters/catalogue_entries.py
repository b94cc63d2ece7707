"""Reading entries of a catalogue file into structs, with every fault of them noted at its place.

`msgspec.convert` stops at the first thing that is wrong. Here every key, and in lists and maps every value, is converted by
itself; what is faulty is noted and taken as not given, so that what else is wrong is found, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Final, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from queue_manager.server.adapters.catalogue_yaml import Document, Fault, Place, fault_at
from queue_manager.server.domain.catalogue import Contradiction, nearest

T = TypeVar("T")
E = TypeVar("E", bound=msgspec.Struct)
Scalar = str | int | float | bool

_KEYS: Final = {"default_value": "default"}
"""Fields of the domain's values that have another name in the file."""


class EntryReader:
    """Reads one document."""

    def __init__(self, document: Document) -> None:
        """What is wrong with the document as YAML counts, too."""
        self._lines = document.lines
        self._faulty = document.faulty
        self.faults: list[Fault] = document.faults

    def fault(self, place: Place, text: str) -> None:
        """Something is wrong there."""
        self._faulty.add(place)
        known = place
        while known not in self._lines and known:
            known = known[:-1]
        self.faults.append(fault_at(place, self._lines.get(known, 1), text))

    def is_faulty(self, place: Place) -> bool:
        """Whether something is wrong right there."""
        return place in self._faulty

    def entry(self, value: Any, kind: type[E], place: Place) -> E | None:
        """The value as this kind, less what of it is wrong; None where nothing can be made of it."""
        if not isinstance(value, Mapping):
            self._less_its_faults(value, kind, place)
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        good = {}
        for key, given in value.items():
            if key not in fields:
                near = nearest(key, fields)
                hint = f"did you mean {near}? " if near else ""
                self.fault((*place, key), f"there is no such key; {hint}there are {', '.join(fields)}")
            elif (left := self._less_its_faults(given, fields[key].type, (*place, key))) is not msgspec.UNSET:
                good[key] = left
        if any(field.required and name in value and name not in good for name, field in fields.items()):
            return None  # it is noted
        return None if self._less_its_faults(good, kind, place) is msgspec.UNSET else msgspec.convert(good, kind)

    def build(self, make: Callable[[], T], place: Place) -> T | None:
        """What the domain makes of it; None where that contradicts itself, which is noted."""
        try:
            return make()
        except Contradiction as error:
            for field, text in error.found:
                at = (*place, _KEYS.get(field, field))
                self.fault(at if at in self._lines else place, f"{text}; correct it")
        except ValueError as error:
            self.fault(place, f"{error}; correct it")
        return None

    def _less_its_faults(self, value: Any, kind: Any, place: Place) -> Any:
        """What of the value is of this type, UNSET for nothing of it; all that is not is noted."""
        if self.is_faulty(place):
            return msgspec.UNSET
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            before = len(self.faults)
            left = self._good_parts(value, kind, place)
            if len(self.faults) > before:
                return left
            text, _, path = str(error).partition(" - at `")
            inner = tuple(re.findall(r"[^.\[\]`$]+", path))
            remedy = f"there are {', '.join(choices)}" if (choices := _choices(kind)) else "correct it"
            self.fault((*place, *inner), f"{text[:1].lower()}{text[1:]}; {remedy}")
            return msgspec.UNSET
        return value

    def _good_parts(self, value: Any, kind: Any, place: Place) -> Any:
        """Of a list or a map what of its values is of their type, UNSET for anything else."""
        if get_origin(kind) in {UnionType, Union}:
            kind = next((each for each in get_args(kind) if get_origin(each)), kind)
        arguments = get_args(kind)
        left: list[tuple[Any, Any]]
        if get_origin(kind) in {dict, Mapping} and isinstance(value, Mapping):
            left = [(key, self._less_its_faults(inner, arguments[1], (*place, key))) for key, inner in value.items()]
            return {key: inner for key, inner in left if inner is not msgspec.UNSET}
        if get_origin(kind) in {tuple, Sequence} and isinstance(value, list):
            left = [(i, self._less_its_faults(inner, arguments[0], (*place, str(i)))) for i, inner in enumerate(value)]
            return [inner for _, inner in left if inner is not msgspec.UNSET]
        return msgspec.UNSET


def _choices(kind: Any) -> Sequence[str]:
    """The only values of a type, where these are texts that are listed."""
    kinds = get_args(kind) if get_origin(kind) in {UnionType, Union} else (kind,)
    return [choice for each in kinds if get_origin(each) is Literal for choice in get_args(each)]
