"""docs/events.schema.json, and what of an event does not keep to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

SCHEMA: dict[str, Any] = json.loads((Path(__file__).parents[2] / "docs/events.schema.json").read_text(encoding="utf-8"))
KINDS: dict[str, Any] = {name: kind for name, kind in SCHEMA["$defs"].items() if kind.get("type") == "object"}
"""By name: what one kind of event looks like."""

_VALIDATOR = Draft202012Validator(SCHEMA)


def as_sent(event: object) -> Any:
    """What who reads it gets."""
    return json.loads(msgspec.json.encode(event))


def fault(event: object) -> str:
    """Why an event that was read is none; empty: it is one."""
    error = best_match(_VALIDATOR.iter_errors(event))
    return "" if error is None else f"{error.json_path}: {error.message}\n{json.dumps(event, indent=1)}"
