"""Queues and history entries as the bytes that are stored: JSON, so that a person with a SQLite shell can read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from queue_manager.server.application.ports import Record
from queue_manager.server.domain.history import Entry
from queue_manager.server.domain.model import Queue

_ENCODER: Final = msgspec.json.Encoder()
_QUEUES: Final = msgspec.json.Decoder(Queue)
_ENTRIES: Final = msgspec.json.Decoder(Entry)


def encode(value: Queue | Entry) -> bytes:
    """The stored form."""
    return _ENCODER.encode(value)


def encode_json(value: Mapping[str, str] | Sequence[str]) -> str:
    """What SQLite is to read itself, as JSON text."""
    return _ENCODER.encode(value).decode()


def decode_queue(body: bytes) -> Queue:
    """Raises `msgspec.MsgspecError`; `faults` translates it."""
    return _QUEUES.decode(body)


def decode_entry(body: bytes) -> Entry:
    """Raises `msgspec.MsgspecError`; `faults` translates it."""
    return _ENTRIES.decode(body)


def read_record(row: tuple[bytes, int]) -> Record:
    """A row of (body, version)."""
    return Record(decode_queue(row[0]), str(row[1]))


def decode_record(row: tuple[bytes, int] | None) -> Record | None:
    """A row of (body, version), or none."""
    return None if row is None else read_record(row)
