"""The rules that a single value of a request must keep, whatever stands beside it.

Each function takes the value as the caller wrote it and answers the broken rule with its remedy, as the sentence of a
violation, or None. They are those of the comments in `service.proto`. What values have to do with each other, with the
target and with the catalogue is in `request`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from queue_manager.server.domain import naming
from queue_manager.server.domain.catalogue import INTERVALS

MAX_IMAGE: Final = 512
MAX_PARAMETER_BYTES: Final = 4096
MAX_TIMEOUT: Final = 365 * 86400.0
"""Seconds: 365 days."""
MAX_START_TIMEOUT: Final = 86400.0
"""Seconds: 24 hours."""

_SYMBOL: Final = re.compile(r"[A-Za-z0-9]{1,32}")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LABEL_KEY: Final = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?")
_LABEL_VALUE: Final = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_MODEL: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_COLLECTION: Final = re.compile(rf"[A-Za-z][A-Za-z0-9_-]{{0,{naming.COLLECTION_LIMIT - 1}}}")

# The grammar of image references: [host[:port]/]path[:tag][@digest] (github.com/distribution/reference).
_HOST_PART: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST: Final = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?"
_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_TAG: Final = r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST: Final = r"@[A-Za-z][A-Za-z0-9]*(?:[+._-][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}"
_IMAGE: Final = re.compile(rf"(?:{_HOST}/)?{_COMPONENT}(?:/{_COMPONENT})*(?:{_TAG})?(?:{_DIGEST})?")


def quote(value: str) -> str:
    """A caller's value as it may stand in a message: printable, in quotes, at most about 80 characters."""
    text = repr(value[:81])
    return text if len(text) <= 82 else f"{text[:78]}…{text[0]}"


def key(name: str) -> str:
    """A map's key as it stands in a JSON path, `labels["x"]`: printable, at most about 80 characters."""
    short = name if len(name) <= 80 else f"{name[:79]}…"
    return json.dumps("".join(c if c.isprintable() else "\ufffd" for c in short), ensure_ascii=False)


def symbol(value: str) -> str | None:
    """A trading pair."""
    rule = "must be 1 to 32 letters and digits, e.g. BTCUSDT"
    if not value:
        return f"is required and {rule}"
    return None if _SYMBOL.fullmatch(value) else f"{quote(value)} {rule}"


def time_range(value: str) -> str | None:
    """A span of days."""
    try:
        naming.parse_time_range(value)
    except ValueError as e:
        return f"{quote(value)} {e}; write first and last day, both included, as in 2024-06-01:2024-06-30"
    return None


def request_id(value: str) -> str | None:
    """What makes a call idempotent."""
    rule = "must be 1 to 128 characters of letters, digits, '.', '_', ':' and '-'; choose another id"
    return None if _REQUEST_ID.fullmatch(value) else f"{quote(value)} {rule}"


def label_key(value: str) -> str | None:
    """A label's key."""
    rule = "must be 1 to 63 characters of letters, digits, '.', '_', '-' and '/', with a letter or digit at both ends"
    return None if _LABEL_KEY.fullmatch(value) else f"the key {quote(value)} {rule}"


def label_value(value: str) -> str | None:
    """A label's value; it may be empty."""
    rule = "must be empty or 1 to 63 of letters, digits, '.', '_' and '-', with a letter or digit at both ends"
    return None if not value or _LABEL_VALUE.fullmatch(value) else f"the value {quote(value)} {rule}"


def interval(value: str) -> str | None:
    """A candle interval."""
    return None if value in INTERVALS else f"{quote(value)} is no candle interval; use one of {', '.join(INTERVALS)}"


def collection(value: str) -> str | None:
    """A name that ArangoDB takes for a collection under both of its naming conventions.

    Neither lets it begin with a digit or, for users, an underscore (ArangoDB: `CollectionNameValidator`).
    """
    rule = "it must be a letter, then letters, digits, '_' and '-', 256 characters at most"
    return None if _COLLECTION.fullmatch(value) else f"{quote(value)} is no ArangoDB collection name; {rule}"


def model(value: str) -> str | None:
    """A model's name."""
    rule = "must be 1 to 128 characters of letters, digits, '_', '-' and '.'; rename the model"
    return None if _MODEL.fullmatch(value) else f"{quote(value)} {rule}"


def image(value: str) -> str | None:
    """A container image."""
    if len(value) > MAX_IMAGE:
        return f"has {len(value)} characters, at most {MAX_IMAGE} are allowed; use a shorter reference"
    rule = "write it as in registry.example:5000/team/name:tag, with the path in lower case"
    return None if _IMAGE.fullmatch(value) else f"{quote(value)} is no image reference; {rule}"


def parameter_text(value: str) -> str | None:
    """A parameter's value, before its own rule: it must fit into an environment variable."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return f"{quote(value)} is no Unicode text; take the lone surrogates out"
    if size > MAX_PARAMETER_BYTES:
        return f"has {size} bytes, at most {MAX_PARAMETER_BYTES} are allowed; shorten it"
    return (
        f"{quote(value)} has a NUL character, which no environment variable can hold; take it out"
        if "\0" in value
        else None
    )


def timeout(value: float) -> str | None:
    """Longest run of a job, in seconds."""
    return _duration(value, MAX_TIMEOUT, "365 days")


def start_timeout(value: float) -> str | None:
    """Longest time from a job's launch until it runs, in seconds."""
    return _duration(value, MAX_START_TIMEOUT, "24 hours")


def _duration(value: float, most: float, words: str) -> str | None:
    # NaN is in no range, so it is refused as well.
    return None if 0 < value <= most else f"{value:g} s is out of range; it must be more than 0 and at most {words}"


OF_TEXT_FIELDS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "interval": interval,
    "collection_output": collection,
    "graph_collection": collection,
    "model_output": model,
    "inference_interval": interval,
    "source": collection,
    "collection_name": collection,
    "image": image,
}
"""The rule of each field of `requests[]` that is a plain text."""
