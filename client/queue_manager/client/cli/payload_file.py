"""Reads the file that `queuectl start -f` names. What stands in it is the client's and the server's to judge."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class UnreadablePayload(Exception):
    """The file cannot be read, or is no JSON object; the message says where and why."""


def read_payload(path: str) -> dict[str, Any]:
    """The JSON object in a UTF-8 file, or on standard input for `-`. Raises `UnreadablePayload`."""
    name = "standard input" if path == "-" else path
    try:
        raw = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as e:
        raise UnreadablePayload(f"cannot read {name}: {e.strerror or e}") from e
    try:
        payload = json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as e:
        raise UnreadablePayload(f"{name} is not UTF-8 text (byte {e.start})") from e
    except json.JSONDecodeError as e:
        raise UnreadablePayload(f"{name}, line {e.lineno}, column {e.colno}: no JSON: {e.msg}") from e
    except (ValueError, RecursionError) as e:
        raise UnreadablePayload(f"{name}: {e}") from e
    if not isinstance(payload, dict):
        raise UnreadablePayload(f"{name} must hold one JSON object, as in examples/historical-pipeline.json")
    return payload


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; a key that stands twice is a slip of the pen, and which one is meant nobody can say."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found
