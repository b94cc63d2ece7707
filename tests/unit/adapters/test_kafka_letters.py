"""What dead-letter records say, whoever wrote them: letters, marks, and ids. Reading them is tested on a broker."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from aiokafka import ConsumerRecord
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.adapters.kafka.bus import _messages
from queue_manager.server.adapters.kafka.letters import Place, _letter, _mark, _place, buried
from queue_manager.server.application.ports import Message

OWN = ("x-source", b"queue-manager")


def record(
    *headers: tuple[str, bytes | None], value: bytes | None = b"", key: bytes | None = None, offset: int = 7
) -> ConsumerRecord:
    """A record of a dead-letter topic."""
    place = {"topic": "events.dlq", "partition": 0, "offset": offset}
    sizes = {"checksum": None, "serialized_key_size": 0, "serialized_value_size": 0}
    return ConsumerRecord(
        **place, timestamp=1_722_500_000_500, timestamp_type=0, key=key, value=value, **sizes, headers=headers
    )


@given(
    topic=st.text("abc.-_/", min_size=1, max_size=20),
    partition=st.integers(0, 2**31),
    offset=st.integers(0, 10**18 - 1),
)
def test_an_id_is_a_place_and_back(topic: str, partition: int, offset: int) -> None:
    """Whatever the topic's name."""
    place = Place(topic, partition, offset)
    assert Place.of(str(place)) == place


@given(text=st.text(max_size=30) | st.from_regex(r"[a-z]*(/[0-9+ _-]*){0,3}", fullmatch=True))
def test_what_is_no_id_is_no_place(text: str) -> None:
    """One that is, is spelled just so: a letter has one id."""
    place = Place.of(text)
    assert place is None or str(place) == text


def test_what_is_buried_says_what_is_read_out_of_it() -> None:
    """With its key, in the dead-letter topic of its topic."""
    sent = buried(Message(b"\xff", 1.0, "events/3@1a2b", 41, b"worker"), "is not UTF-8: é")
    assert (sent.topic, sent.value, sent.key) == ("events.dlq", b"\xff", b"worker")
    read = record(*sent.headers, value=sent.value, key=sent.key)
    letter = _letter(_place(read), read)
    assert (letter.id, letter.topic, letter.partition, letter.offset) == ("events.dlq/0/7", "events", 3, 41)
    assert (letter.time, letter.error, letter.value) == (1_722_500_000.5, "is not UTF-8: é", b"\xff")
    assert _mark(read) is None


def test_a_letter_fits_into_what_brokers_take() -> None:
    """900 KiB of a value, and no key of more than 64 KiB."""
    sent = buried(Message(b"x" * 2**20, 1.0, "events/0", 1, b"k" * (2**16 + 1)), "is no JSON")
    assert (len(sent.value), sent.key, dict(sent.headers)["x-size"]) == (900 * 1024, None, b"1048576")
    sent = buried(Message(b"x" * 900 * 1024, 1.0, "events/0", 1, b"k" * 2**16), "is no JSON")
    assert (len(sent.value), len(sent.key or b"")) == (900 * 1024, 2**16)
    assert "x-size" not in dict(sent.headers)


def test_a_message_that_comes_in_has_its_key() -> None:
    """Which it has again when it is replayed."""
    [message] = _messages("events/0", [record(key=b"worker", value=b"{}")])
    assert message.key == b"worker"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-partition", b"\xff"), ("x-offset", b"-1"), ("x-topic", b"other")],
        [("x-partition", b"2147483648"), ("x-offset", b"9223372036854775808")],
        [("x-partition", None), ("x-offset", b"1e3")],
        [("x-partition", b"9" * 5000), ("x-offset", "٣".encode())],
    ],
    ids=["none", "nonsense", "too-large", "null", "long"],
)
def test_a_record_of_somebody_else_is_a_letter_of_unknown_place(headers: Sequence[tuple[str, bytes | None]]) -> None:
    """Of the topic that the dead-letter topic is named for, whatever its headers say."""
    read = record(*headers, value=None)
    letter = _letter(_place(read), read)
    assert (letter.topic, letter.partition, letter.offset) == ("events", -1, -1)
    assert letter.error == "the Queue Manager has not put it there"
    assert (letter.value, letter.size, letter.is_text) == (b"", 0, True)


def test_a_mark_is_known_by_its_headers() -> None:
    """Only where it is our own."""
    mark = _mark(record(OWN, ("x-replayed", b"5"), ("x-replayed-by", b"ada@lab")))
    assert mark is not None
    assert (mark.letter, mark.offset, mark.time, mark.by) == (Place("events.dlq", 0, 5), 7, 1_722_500_000.5, "ada@lab")
    assert _mark(record(("x-replayed", b"5"))) is None
    assert _mark(record(OWN, ("x-replayed", b"?"))) is None
    assert _mark(record(OWN, ("x-error", b"is no JSON"))) is None
