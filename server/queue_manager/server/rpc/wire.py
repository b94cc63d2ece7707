"""Serialised messages put together from serialised parts.

The fields of a serialised message may stand in any order, and a message that is a field stands there as its own bytes
behind a tag and its length (Protocol Buffers, "Encoding": message structure). So what is made once can be used in many
messages without being made again.
"""

from __future__ import annotations

from google.protobuf.message import Message

_LENGTH_DELIMITED = 2


def tag_of(message: type[Message], field: str) -> bytes:
    """The tag of a field that is itself a message. Its number is below 16, so it is one byte."""
    number = message.DESCRIPTOR.fields_by_name[field].number
    assert number < 16, f"{field} has a tag of two bytes"
    return bytes([number << 3 | _LENGTH_DELIMITED])


def varint(number: int) -> bytes:
    """A number that is not negative, as lengths are written."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
