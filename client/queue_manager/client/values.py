"""Python's times and durations as the API's messages."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp


def seconds(value: float | timedelta) -> float:
    """A duration in seconds."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def duration(value: float | timedelta) -> Duration:
    """A duration of so many seconds, to the nanosecond."""
    message = Duration()
    message.FromNanoseconds(round(seconds(value) * 1e9))
    return message


def timestamp(value: datetime | None) -> Timestamp | None:
    """An instant. Raises `ValueError` for a time without a zone, which is none."""
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; a queue's times are instants")
    message = Timestamp()
    message.FromDatetime(value)
    return message
