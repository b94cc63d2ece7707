"""Page tokens: they bring back their place, with their filter and no other, and whatever else comes is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from queue_manager.server.application.ports import Cursor, LetterCursor, QueueFilter
from queue_manager.server.domain.errors import PageTokenMismatch
from queue_manager.server.domain.model import QueueState
from queue_manager.server.rpc.pagination import (
    LONGEST,
    decode_letter_token,
    decode_token,
    encode_letter_token,
    encode_token,
)

TIMES = st.floats(0, 4e9)
CURSORS = st.builds(Cursor, create_time=TIMES, queue_id=st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True))
FILTERS = st.builds(
    QueueFilter,
    states=st.frozensets(st.sampled_from(QueueState)),
    symbol=st.sampled_from(["", "BTCUSDT", "ETHUSDT"]),
    target=st.sampled_from(["", "loader-producer"]),
    labels=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.none() | st.sampled_from(["", "x"])),
    created_after=st.none() | TIMES,
    created_before=st.none() | TIMES,
)


@given(cursor=CURSORS, query=FILTERS)
def test_a_token_brings_back_its_place(cursor: Cursor, query: QueueFilter) -> None:
    """Exactly, in URL-safe characters, and short."""
    token = encode_token(cursor, query)
    assert decode_token(token, query) == cursor
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()
    assert len(token) <= LONGEST


@given(cursor=CURSORS, query=FILTERS)
def test_the_order_in_which_a_filter_is_written_does_not_matter(cursor: Cursor, query: QueueFilter) -> None:
    """Labels and states are sets."""
    token = encode_token(cursor, query)
    turned = replace(query, labels=dict(reversed(list(query.labels.items()))))
    assert decode_token(token, turned) == cursor


@given(cursor=CURSORS, query=FILTERS, other=FILTERS)
def test_a_token_of_another_filter_is_refused(cursor: Cursor, query: QueueFilter, other: QueueFilter) -> None:
    """Going on with another would silently skip queues."""
    assume(query != other)
    with pytest.raises(PageTokenMismatch) as refused:
        decode_token(encode_token(cursor, query), other)
    assert [violation.field for violation in refused.value.violations] == ["page_token"]


@given(cursor=CURSORS, data=st.data())
def test_a_damaged_token_is_refused_and_nothing_else(cursor: Cursor, data: st.DataObject) -> None:
    """Cut, lengthened or with other characters: `PageTokenMismatch`, or a place, never another error."""
    token = encode_token(cursor, QueueFilter())
    begin = data.draw(st.integers(0, len(token)))
    end = data.draw(st.integers(begin, len(token)))
    damaged = token[:begin] + data.draw(st.text(max_size=5)) + token[end:]
    assume(damaged != token)
    try:
        found = decode_token(damaged, QueueFilter())
    except PageTokenMismatch:
        return
    assert isinstance(found, Cursor)


@given(cursor=CURSORS, length=st.integers(0, 1000))
def test_a_token_that_was_cut_is_refused(cursor: Cursor, length: int) -> None:
    """Wherever."""
    token = encode_token(cursor, QueueFilter())
    assume(length < len(token))
    with pytest.raises(PageTokenMismatch):
        decode_token(token[:length], QueueFilter())


@given(st.text() | st.binary(max_size=400).map(lambda raw: raw.decode("latin-1")))
def test_arbitrary_text_is_refused(text: str) -> None:
    """Whatever it is."""
    with pytest.raises(PageTokenMismatch):
        decode_token(text, QueueFilter())


@pytest.mark.parametrize("text", ["A" * (LONGEST + 1), "====", "\ud800", "é", "AA\nAA", " "])
def test_what_is_none_of_ours_is_refused(text: str) -> None:
    """Too long, no base64, no Unicode, white space."""
    with pytest.raises(PageTokenMismatch):
        decode_token(text, QueueFilter())


@given(time=TIMES, topic=st.sampled_from(["", "events", "control"]), other=st.sampled_from(["", "events", "x"]))
def test_a_token_of_dead_letters_is_good_for_its_topic(time: float, topic: str, other: str) -> None:
    """Also with the longest name that a topic can have; and it is no token of queues."""
    cursor = LetterCursor(time, f"{'t' * 249}.dlq/{2**31}/{2**63}")
    token = encode_letter_token(cursor, topic)
    assert len(token) <= LONGEST
    assert decode_letter_token(token, topic) == cursor
    with pytest.raises(PageTokenMismatch):
        decode_token(token, QueueFilter())
    if other != topic:
        with pytest.raises(PageTokenMismatch):
            decode_letter_token(token, other)
