"""Serialised messages, taken apart and put together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.serialised import fields, varint
from queue_manager.v1 import queue_pb2


@given(number=st.integers(0, 2**63 - 1), text=st.text(max_size=300), labels=st.dictionaries(st.text(), st.text()))
def test_the_fields_of_a_message_are_all_of_it(number: int, text: str, labels: dict[str, str]) -> None:
    """In their order; and what has a length has its content."""
    message = queue_pb2.Queue(queue_id=text, revision=number, labels=labels, progress=0.5)
    raw = message.SerializeToString()
    found = list(fields(raw))
    assert b"".join(tag + rest for tag, rest, _ in found) == raw
    assert all(content is None or rest == varint(len(content)) + content for _, rest, content in found)
    assert (text.encode() in [content for _, _, content in found]) == bool(text)


@pytest.mark.parametrize("raw", [b"\x0a", b"\x0a\x05abc", b"\x08\xff", b"\x0d\x00", b"\x09\x00", b"\x0b", b"\xff"])
def test_what_is_no_message_is_refused(raw: bytes) -> None:
    """Also where it only ends too soon."""
    with pytest.raises(ValueError, match="cut short"):
        list(fields(raw))
