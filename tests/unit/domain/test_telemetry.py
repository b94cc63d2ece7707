"""What workers say, in all their spellings: the golden variants, the rules, and whatever bytes may come."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.domain.model import MESSAGE_LIMIT
from queue_manager.server.domain.telemetry import SIZE_LIMIT, Telemetry, Unreadable, is_own, read, read_any, resolve
from tests.unit.domain.samples import accepted, golden, job, start

RECORD_TIME = 1722500125.576
"""2024-08-01 08:15:25.576 UTC."""


def heard(**message: Any) -> Telemetry:
    """A message of a worker of some queue, as it is read."""
    return read(json.dumps({"queue_id": "q", **message}).encode(), RECORD_TIME)


def test_every_published_variant_is_read_as_the_design_says() -> None:
    for case in golden("telemetry-variants.jsonl"):
        record_time = case["record_timestamp_ms"] / 1000
        report = read(json.dumps(case["message"]).encode(), record_time)
        for name, value in case["read_as"].items():
            expected = record_time if (name, value) == ("time", "record") else value
            assert getattr(report, name) == expected, (name, case)


# --- Rules ------------------------------------------------------------------------------------------------------------


def test_status_goes_before_event() -> None:
    assert heard(status="loading", event="started").status == "loading"
    assert heard(event="started").status == "started"
    assert heard(status=None, event="started").status == "started"
    assert heard(status=7, event="started").status == "started"
    assert heard().status == ""
    assert heard(status="simulating").status == "simulating"


def test_who_is_the_first_of_three_spellings() -> None:
    assert heard(telemetry_id="a", producer="b", producer_id="c").telemetry_id == "a"
    assert heard(producer="b", producer_id="c").telemetry_id == "b"
    assert heard(producer_id="c").telemetry_id == "c"
    assert heard(telemetry_id=5, producer="", producer_id="c").telemetry_id == "c"
    assert heard().telemetry_id is None


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"timestamp": 1722500125.456}, 1722500125.456),
        ({"timestamp": 1722500125456}, 1722500125.456),
        ({"sent_at": 1722500125456.0}, 1722500125.456),
        ({"timestamp": "2024-08-01T08:15:25.456Z"}, 1722500125.456),
        ({"timestamp": "2024-08-01T10:15:25.456+02:00"}, 1722500125.456),
        ({"timestamp": "2024-08-01T08:15:25.456"}, 1722500125.456),
        ({"timestamp": "2024-08-01 08:15:25"}, 1722500125.0),
        ({"timestamp": 8124.33}, RECORD_TIME),
        ({"timestamp": 8124330}, RECORD_TIME),
        ({"timestamp": 8124.33, "sent_at": 1722500125.456}, 1722500125.456),
        ({"timestamp": RECORD_TIME - 86399}, RECORD_TIME - 86399),
        ({"timestamp": RECORD_TIME - 86401}, RECORD_TIME),
        ({"timestamp": RECORD_TIME + 86401}, RECORD_TIME),
        ({"timestamp": "2024-07-01T08:15:25Z"}, RECORD_TIME),
        ({"timestamp": "0001-01-01T00:00:00+14:00"}, RECORD_TIME),
        ({"timestamp": "9999-12-31T23:59:59-14:00"}, RECORD_TIME),
        ({"timestamp": "yesterday"}, RECORD_TIME),
        ({"timestamp": True}, RECORD_TIME),
        ({"timestamp": None}, RECORD_TIME),
        ({"timestamp": [1722500125.456]}, RECORD_TIME),
        ({"timestamp": 10**25}, RECORD_TIME),
        ({"timestamp": 10**350}, RECORD_TIME),
        ({}, RECORD_TIME),
    ],
)
def test_a_time_is_taken_if_a_wall_clock_may_have_shown_it(fields: dict[str, Any], time: float) -> None:
    """Seconds, milliseconds or ISO 8601; what is not within a day of the record is another kind of clock."""
    assert heard(**fields).time == pytest.approx(time, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "read_as"),
    [
        (0, 0),
        (42, 42),
        (42.0, 42),
        (2**63 - 1, 2**63 - 1),
        (2**63, None),
        (10**400, None),
        (-1, None),
        (1.5, None),
        (True, None),
        ("42", None),
        (None, None),
        ([1], None),
    ],
)
def test_records_written_is_a_count(value: object, read_as: int | None) -> None:
    """A value of the wrong type is absent, and the message is kept."""
    report = heard(status="loading", records_written=value)
    assert report.records_written == read_as
    assert report.status == "loading"


@pytest.mark.parametrize(
    ("value", "read_as"),
    [(0, 0.0), (0.5, 0.5), (1, 1.0), (1.01, None), (-0.1, None), (50, None), (True, None), ("0.5", None)],
)
def test_progress_is_0_to_1(value: object, read_as: float | None) -> None:
    assert heard(progress=value).progress == read_as


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_no_number_is_absent(text: str) -> None:
    """Python's json writes NaN and infinities, so workers send them."""
    value = f'{{"queue_id": "q", "progress": {text}, "records_written": {text}, "loss": {text}, "epoch": 3}}'
    report = read(value.encode(), RECORD_TIME)
    assert (report.progress, report.records_written) == (None, None)
    assert report.details == {"epoch": 3}


@pytest.mark.parametrize("status", ["finished", "error", "interrupted"])
def test_last_words_are_final_unless_they_say_otherwise(status: str) -> None:
    assert heard(status=status).final
    assert heard(status=status, finished=None).final
    assert heard(status=status, finished="no").final
    assert heard(status=status, finished=True).final
    assert not heard(status=status, finished=False).final


def test_other_statuses_are_final_only_if_they_say_so() -> None:
    assert not heard(status="loading").final
    assert not heard(status="loading", finished=1).final
    assert heard(status="loading", finished=True).final


def test_a_pong_is_never_final() -> None:
    assert not heard(event="pong", finished=True).final


def test_a_pong_echoes_when_its_ping_was_sent() -> None:
    assert heard(event="pong", ping_ts=1722500125.256).ping_sent_at == 1722500125.256
    assert heard(event="pong", ping_ts=None).ping_sent_at is None
    nested = heard(event="pong", payload={"ping_timestamp": "2024-08-01T08:15:25.256Z"})
    assert nested.ping_sent_at == pytest.approx(1722500125.256)


def test_an_error_is_told_by_the_first_of_its_spellings() -> None:
    assert heard(status="error", error_message="a", reason="b", message="c").error == "a"
    assert heard(status="error", reason="b", message="c").error == "b"
    assert heard(status="error", payload={"reason": "d"}, message="c").error == "d"
    assert heard(status="error", message="c").error == "c"
    assert heard(status="error").error


def test_only_an_error_is_an_error() -> None:
    """The reason of an interruption is a message."""
    report = heard(status="interrupted", reason="stopped by a user")
    assert (report.error, report.message) == (None, "stopped by a user")


def test_long_texts_are_cut() -> None:
    """An error message can hold a whole record's bytes."""
    report = heard(status="error", error_message="é" * 10_000, message="x" * 10_000, extra={"trace": "y" * 10_000})
    assert report.error
    assert report.message
    assert len(report.error.encode()) <= MESSAGE_LIMIT
    assert len(report.message.encode()) <= MESSAGE_LIMIT
    assert len(str(report.details["trace"]).encode()) <= MESSAGE_LIMIT


def test_details_are_what_no_rule_names() -> None:
    report = heard(
        status="loading",
        epoch=3,
        extra={"loss": 0.5},
        payload={"service_version": "1"},
        nothing=None,
        kafka="b:1",
        kafka_bootstrap_servers="b:1",
        arango_url="http://root:hunter2@arango",
        k8s_namespace="n",
        loader_image="i",
        collection_name="c",
        time_range="r",
        symbol="BTCUSDT",
    )
    assert report.details == {"epoch": 3, "loss": 0.5, "service_version": "1"}


def test_a_payload_that_is_no_object_says_nothing() -> None:
    assert heard(payload="text", extra=[1]).details == {}


def test_where_a_message_came_from_is_kept() -> None:
    report = read(b'{"queue_id": "q"}', RECORD_TIME, source="queue-events/3", position=42)
    assert (report.source, report.position) == ("queue-events/3", 42)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"queue_id": "q"} x', "not JSON"),
        (b'{"queue_id": "\xff"}', "not UTF-8"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8"),
        (b"[]", "no object"),
        (b'"text"', "no object"),
        (b"null", "no object"),
        (b"NaN", "no object"),
        (b"{}", "neither"),
        (b'{"status": "finished", "queue_id": "", "producer": null}', "neither"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"queue_id": "q", "extra": ' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"queue_id": "q", "n": NaN, "extra": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"queue_id": "q", "m": "' + b"x" * SIZE_LIMIT + b'"}', "more than"),
    ],
)
def test_what_cannot_be_read_says_why(value: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as error:
        read(value, RECORD_TIME)
    assert reason in error.value.reason


def test_of_a_repeated_key_the_last_counts() -> None:
    assert read(b'{"queue_id": "a", "queue_id": "b"}', RECORD_TIME).queue_id == "b"


def test_a_byte_order_mark_does_no_harm() -> None:
    assert read(b'\xef\xbb\xbf{"queue_id": "q"}', RECORD_TIME).queue_id == "q"


def test_lone_surrogates_are_replaced() -> None:
    """They can be written in JSON, but in no UTF-8, so nothing later could keep them."""
    report = read(b'{"queue_id": "q", "message": "a\\ud800b", "x\\udfff": {"y": ["\\ud800"]}}', RECORD_TIME)
    assert report.message == "a?b"
    assert report.details == {"x?": {"y": ["?"]}}


# --- Whose it is ------------------------------------------------------------------------------------------------------


def test_the_managers_own_events_are_recognised() -> None:
    assert is_own(b'{"producer": "queue-manager", "queue_id": "q"}')
    assert not is_own(b'{"producer": "loader-producer__a1b2c3", "message": "the \\"queue-manager\\" is away"}')
    assert not is_own(b'{"producer": "x", "source": "queue-manager"}')
    assert not is_own(b'"queue-manager" {')
    assert not is_own(b"\xff")


def test_a_message_belongs_to_the_job_whose_telemetry_id_it_has() -> None:
    queue = accepted(start(job(), job()))
    assert resolve(queue, heard(producer="loader-producer-2__a1b2c3")) == "loader-producer-2"
    assert resolve(queue, heard(producer="loader-producer-2__zzzzzz")) is None


def test_without_a_who_it_is_the_only_job_else_the_only_one_of_its_type() -> None:
    alone = accepted(start(job(type="ws_trades")))
    assert resolve(alone, heard(status="started")) == "loader-producer"
    assert resolve(alone, heard(type="ws_depth")) == "loader-producer"
    several = accepted(start(job(type="ws_trades"), job(type="ws_depth"), job("arango-connector", "ws_depth")))
    assert resolve(several, heard(type="ws_trades")) == "loader-producer"
    assert resolve(several, heard(type="ws_depth")) is None
    assert resolve(several, heard(type="api_trades")) is None
    assert resolve(several, heard()) is None


def test_a_who_that_no_job_has_is_not_guessed_around() -> None:
    assert resolve(accepted(start()), heard(producer="somebody")) is None


# --- Whatever comes ---------------------------------------------------------------------------------------------------

FIELDS = (
    *("status", "event", "telemetry_id", "producer", "producer_id", "queue_id", "timestamp", "sent_at", "type"),
    *("finished", "records_written", "progress", "message", "error_message", "reason", "ping_ts", "extra", "payload"),
    "epoch",
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=30)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=5), inner),
    max_leaves=10,
)
messages = st.dictionaries(st.sampled_from(FIELDS), values)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_unreadable(value: bytes) -> None:
    with suppress(Unreadable):
        read(value, RECORD_TIME)
    is_own(value)


@given(values)
def test_any_json_is_read_or_unreadable(value: object) -> None:
    with suppress(Unreadable):
        read(json.dumps(value).encode(), RECORD_TIME)


@given(messages, st.floats(0, 4e9))
def test_whatever_a_worker_says_is_read_into_sound_values(message: dict[str, object], record_time: float) -> None:
    report = read(json.dumps({**message, "queue_id": "q"}).encode(), record_time)
    assert math.isfinite(report.time)
    assert abs(report.time - record_time) <= 86400
    assert report.progress is None or 0 <= report.progress <= 1
    assert report.records_written is None or 0 <= report.records_written < 2**63
    assert isinstance(report.final, bool)
    assert (report.error is not None) == (report.status == "error")
    for text in (report.status, report.telemetry_id, report.queue_id, report.message, report.error, report.type):
        assert text is None or len(text.encode()) <= MESSAGE_LIMIT
    resolve(accepted(start(job(), job())), report)


usual = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("queue_id", "telemetry_id", "producer", "producer_id", "symbol"), st.text(max_size=8) | scalars
        ),
        **dict.fromkeys(
            ("status", "event"), st.sampled_from(["started", "loading", "finished", "error", "pong", "", "x"])
        ),
        **dict.fromkeys(("type", "message"), st.text(max_size=20) | scalars),
        "finished": st.booleans() | scalars,
        "timestamp": st.floats(RECORD_TIME - 1e5, RECORD_TIME + 1e5) | scalars | st.just(RECORD_TIME * 1000),
        "records_written": st.integers(-2, 2**64) | st.sampled_from([5.0, 0.5, -0.0, 1e300]) | scalars,
        "progress": st.floats(-1, 2) | scalars,
        "lag": scalars,
    },
)


def outcome(reader: Any, value: bytes) -> Any:
    """What a reader makes of a message, its refusals included."""
    try:
        return reader(value, RECORD_TIME, source="s", position=3)
    except Unreadable as error:
        return error.reason


@given(usual | messages)
def test_the_short_cut_reads_what_the_long_way_does(message: dict[str, object]) -> None:
    """Whatever it is that is said."""
    value = json.dumps(message).encode()
    assert outcome(read, value) == outcome(read_any, value)


@given(st.binary(max_size=100))
def test_the_short_cut_reads_any_bytes_as_the_long_way_does(value: bytes) -> None:
    """Also what is no JSON."""
    assert outcome(read, value) == outcome(read_any, value)
