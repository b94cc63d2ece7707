"""JSON as text, read without leniency: UTF-8, no key twice, no `NaN`, and not nested without end.

Python's reader takes the last of equal keys and `NaN`; a request that says two things must not be carried out as either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from queue_manager.gateway.problems import Malformed, Violation

DEEPEST: Final = 100
"""Levels of objects and arrays; the library's own limit for messages."""


class Object(dict[str, Any]):
    """A JSON object that remembers the keys that it was given more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        """As they stand in the text."""
        super().__init__(pairs)
        self.repeated: Sequence[str] = ()
        if len(self) < len(pairs):
            seen: set[str] = set()
            self.repeated = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def parse(body: bytes) -> Any:
    """The value that the text stands for, objects as `Object`. Raises `Malformed` where it is no JSON."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    if _depth(text) > DEEPEST:
        raise _refused(f"the body is nested deeper than {DEEPEST} levels")
    try:
        return json.loads(text, object_pairs_hook=Object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise _refused(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:  # a number with thousands of digits
        raise _refused(f"the body is not JSON: {error}") from None


def _depth(text: str) -> int:
    """The deepest nesting; where that can be no more than allowed, it is not counted."""
    if text.count("{") + text.count("[") <= DEEPEST:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            in_string = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def _constant(name: str) -> NoReturn:
    raise _refused(f'{name} is not JSON; write it as a string, "{name}"')


def _refused(what: str) -> Malformed:
    return Malformed([Violation("", what)])
