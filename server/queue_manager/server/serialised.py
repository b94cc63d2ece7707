"""Serialised messages put together from serialised parts.

The fields of a serialised message may stand in any order, and a message that is a field stands there as its own bytes
behind a tag and its length (Protocol Buffers, "Encoding": message structure). So what is made once can be used in many
messages without being made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from google.protobuf.message import Message

_VARINT, _EIGHT_BYTES, _LENGTH_DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
"""Wire types."""
_FIXED: Final = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}


def tag_of(message: type[Message], field: str) -> bytes:
    """The tag of a field that is itself a message. Its number is below 16, so it is one byte."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    assert number < 16, f"{field} has a tag of two bytes"
    return bytes([number << 3 | _LENGTH_DELIMITED])


@lru_cache(maxsize=4096)
def varint(number: int) -> bytes:
    """A number that is not negative, as lengths are written."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def fields(message: bytes) -> Iterator[tuple[bytes, bytes, bytes | None]]:
    """The fields of a serialised message in their order: the tag, what follows it, and the content where it has a length.

    Raises `ValueError` for what is no message.
    """
    at = 0
    while at < len(message):
        begin = at
        tag, at = _read_varint(message, at)
        behind_tag, kind = at, tag & 7
        content = None
        if kind == _LENGTH_DELIMITED:
            length, at = _read_varint(message, at)
            content = message[at : at + length]
            at += length
        elif kind == _VARINT:
            _, at = _read_varint(message, at)
        else:
            at += _FIXED[kind] if kind in _FIXED else len(message) + 1
        if at > len(message):
            raise ValueError("it is cut short, or has a field of no known type")
        yield message[begin:behind_tag], message[behind_tag:at], content


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    number = shift = 0
    while True:
        if at >= len(message):
            raise ValueError("it is cut short")
        byte, at = message[at], at + 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte <= 0x7F:
            return number, at
