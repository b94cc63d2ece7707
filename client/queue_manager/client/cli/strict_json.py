"""JSON as its standard has it: Python's own reader also takes NaN, and of a key that stands twice the last."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

DIGITS: Final = 100
"""Of a number; Python's own limit is far beyond, and words it for programmers."""


TOO_DEEP: Final = "it is nested too deeply to be a request"


def loads(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`; of it `json.JSONDecodeError`, with the place."""
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_integer, parse_constant=_no_number)
    except RecursionError as e:
        raise ValueError(TOO_DEEP) from e


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A key that stands twice is a slip of the pen, and which one is meant nobody can say."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise ValueError(f"a number of {len(digits)} digits is none that a request has")
    return int(digits)
