"""JSON as text, read without leniency: UTF-8, no key twice and no `NaN`.

Python's reader takes the last of equal keys and `NaN`; a request that says two things must not be carried out as either.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NoReturn

from queue_manager.gateway.problems import Malformed, Violation


class Object(dict[str, Any]):
    """A JSON object that had keys more than once."""

    __slots__ = ("repeated",)

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        """As they stand in the text."""
        super().__init__(pairs)
        seen: set[str] = set()
        self.repeated = [key for key, _ in pairs if key in seen or seen.add(key)]  # type: ignore[func-returns-value]


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    return found if len(found) == len(pairs) else Object(pairs)


def parse(body: bytes) -> Any:
    """The value that the text stands for; an object with equal keys is an `Object`. Raises `Malformed`."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"the body is not UTF-8: byte {error.start} is 0x{body[error.start]:02x}") from None
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise _refused(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except RecursionError:
        raise _refused("the body is nested too deep") from None
    except ValueError as error:  # a number with thousands of digits
        raise _refused(f"the body is not JSON: {error}") from None


def _constant(name: str) -> NoReturn:
    raise _refused(f'{name} is not JSON; write it as a string, "{name}"')


def _refused(what: str) -> Malformed:
    return Malformed([Violation("", what)])
