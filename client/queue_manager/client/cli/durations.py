"""Times as people type them: `30s`, `1m30s`, `500ms`, `2h`, or a bare number of seconds."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Its seconds. Raises `ValueError` with the remedy."""
    stripped = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", stripped, re.ASCII):
        return float(stripped)
    if not re.fullmatch(rf"(?:{_PART.pattern})+", stripped, re.ASCII):
        raise ValueError(f"{text!r} is no duration; write it like 30s, 1m30s or 2h")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(stripped))
