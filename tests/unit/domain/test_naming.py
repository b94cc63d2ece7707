"""Derived names: the golden cases, and what must hold whatever they are made from."""

from __future__ import annotations

import re
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.domain import naming
from tests.unit.domain.samples import golden

DAY = date(2024, 6, 1)
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")

suffixes = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=6, max_size=6)
texts = st.text(max_size=80)
days = st.dates()


def test_collection_names_are_those_of_the_golden_cases() -> None:
    """The user's examples only fit together if collections are called like this."""
    for case in golden("naming-cases.jsonl"):
        name = naming.collection_name(case["symbol"], case["type"], case["time_range"], DAY)
        assert name == case["collection_name"], case


@pytest.mark.parametrize(
    ("time_range", "period"),
    [
        ("2024-02-01:2024-02-29", "2024_02"),
        ("2023-02-01:2023-02-28", "2023_02"),
        ("2024-02-01:2024-02-28", "2024_02_01_2024_02_28"),
        ("2024-01-01:2024-12-31", "2024"),
        ("2023-01-01:2024-12-31", "2023_01_01_2024_12_31"),
        ("2024-01-01:2024-03-31", "2024_01_01_2024_03_31"),
        ("2024-12-31:2024-12-31", "2024_12_31"),
        ("9999-12-01:9999-12-31", "9999_12"),
        ("0001-01-01:0001-12-31", "0001"),
    ],
)
def test_a_whole_month_year_or_day_is_named_as_such(time_range: str, period: str) -> None:
    assert naming.collection_name("BTCUSDT", "api_trades", time_range, DAY) == f"btc_trades_{period}"


def test_without_a_range_the_collection_is_named_after_the_day_of_the_start() -> None:
    assert naming.collection_name("BTCUSDT", "ws_trades", "", date(2024, 8, 1)) == "btc_ws_trades_2024_08_01"


@pytest.mark.parametrize(
    ("symbol", "base"),
    [
        ("BTCUSDT", "BTC"),
        ("ethbtc", "ETH"),
        ("SOLFDUSD", "SOL"),
        ("BNBETH", "BNB"),
        ("USDT", "USDT"),
        ("BTC", "BTC"),
        ("XYZ", "XYZ"),
        ("USDCUSDT", "USDC"),
    ],
)
def test_the_longest_quote_asset_is_taken_off_a_symbol(symbol: str, base: str) -> None:
    """A symbol that has none, or is one itself, stays whole."""
    assert naming.base_asset(symbol) == base


def test_a_queue_id_is_the_one_of_the_design() -> None:
    assert naming.queue_id("BTCUSDT", "api_candles_5m", DAY, "a1b2c3") == "wf-btcusdt-api-candles-5m-20240601-a1b2c3"


@given(symbol=texts, first_type=texts, day=days, suffix=suffixes)
def test_a_queue_id_is_a_short_dns_label_that_keeps_day_and_suffix(
    symbol: str, first_type: str, day: date, suffix: str
) -> None:
    """Long parts are cut, the suffix never; the longest built-in job name fits behind it."""
    queue_id = naming.queue_id(symbol, first_type, day, suffix)
    assert DNS_LABEL.fullmatch(queue_id)
    assert len(f"{queue_id}-arango-connector") <= 63
    assert queue_id.endswith(f"-{day.isoformat().replace('-', '')}-{suffix}")
    assert naming.suffix_of(queue_id) == suffix


@pytest.mark.parametrize("suffix", ["", "a1b2c", "A1B2C3", "a1b2c34", "a1-2c3"])
def test_a_suffix_that_is_none_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="suffix"):
        naming.queue_id("BTCUSDT", "api_trades", DAY, suffix)


def test_jobs_are_numbered_from_the_second_of_a_target_on() -> None:
    targets = ["loader", "connector", "loader", "loader", "connector"]
    assert naming.job_names(targets) == ["loader", "connector", "loader-2", "loader-3", "connector-2"]


def test_a_target_that_is_called_like_anothers_second_job_keeps_its_name() -> None:
    assert naming.job_names(["a", "a", "a-2", "a-2"]) == ["a", "a-3", "a-2", "a-2-2"]


@given(st.lists(st.sampled_from(["a", "a-2", "a-2-2", "a-3", "b"]), max_size=64))
def test_job_names_are_unique_in_a_queue(targets: list[str]) -> None:
    names = naming.job_names(targets)
    assert len(set(names)) == len(names) == len(targets)
    assert all(name.startswith(target) for name, target in zip(names, targets, strict=True))


def test_a_telemetry_id_ends_with_the_queues_suffix() -> None:
    name = naming.telemetry_id("loader-producer-2", "a1b2c3")
    assert name == "loader-producer-2__a1b2c3"
    assert naming.suffix_of(name) == "a1b2c3"


def test_a_topic_is_the_queue_and_the_type() -> None:
    queue_id = "wf-btcusdt-api-candles-5m-20240601-a1b2c3"
    assert naming.kafka_topic(queue_id, "api_candles_5m") == f"{queue_id}-api-candles-5m"


@given(st.lists(texts, unique=True, min_size=2, max_size=5))
def test_different_types_never_share_a_topic(types: list[str]) -> None:
    """Also where they only differ in case, or in characters that a topic cannot have."""
    queue_id = "wf-btcusdt-api-candles-5m-20240601-a1b2c3"
    topics = [naming.kafka_topic(queue_id, kind) for kind in types]
    assert len(set(topics)) == len(types)
    assert all(TOPIC.fullmatch(topic) for topic in topics)


def test_a_minute_and_a_month_have_topics_of_their_own() -> None:
    queue_id = "wf-btcusdt-api-candles-5m-20240601-a1b2c3"
    assert naming.kafka_topic(queue_id, "api_candles_1m") != naming.kafka_topic(queue_id, "api_candles_1M")


def test_the_longest_type_has_a_topic() -> None:
    assert TOPIC.fullmatch(naming.kafka_topic("wf-x-20240601-a1b2c3", "a" * 300))


@given(queue_id=texts, job=texts, attempt=st.integers(1, 10**9))
def test_a_worker_name_is_a_dns_label_that_ends_with_its_attempt(queue_id: str, job: str, attempt: int) -> None:
    """Whatever queue and job are called."""
    name = naming.worker_name(queue_id, job, attempt)
    assert DNS_LABEL.fullmatch(name)
    assert name.endswith(f"-a{attempt}")
    assert name == naming.worker_name(queue_id, job, attempt)


@given(st.lists(st.tuples(texts, texts, st.integers(1, 99)), unique=True, min_size=2, max_size=20))
def test_worker_names_are_unique(workers: list[tuple[str, str, int]]) -> None:
    names = {naming.worker_name(*worker) for worker in workers}
    assert len(names) == len(workers)


@pytest.mark.parametrize(
    ("one", "other"),
    [(("Queue", "job"), ("queue", "job")), (("a", "b-c"), ("a-b", "c")), (("q", "x" * 80), ("q", "x" * 81))],
)
def test_names_that_look_alike_make_workers_that_do_not(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Lower-casing, joining and cutting could make two names meet; the hash is of the original bytes."""
    assert naming.worker_name(*one, 1) != naming.worker_name(*other, 1)


def test_a_worker_name_shows_symbol_suffix_and_job() -> None:
    name = naming.worker_name("wf-btcusdt-api-candles-5m-20240601-a1b2c3", "loader-producer-2", 3)
    assert re.fullmatch(r"wf-btcusdt-a1b2c3-loader-producer-2-[0-9a-f]{10}-a3", name)


@given(first=days, length=st.integers(0, 4000))
def test_every_time_range_has_a_collection_name_arangodb_can_take(first: date, length: int) -> None:
    last = first + timedelta(days=min(length, (date.max - first).days))
    time_range = f"{first.isoformat()}:{last.isoformat()}"
    assert naming.parse_time_range(time_range) == (first, last)
    name = naming.collection_name("BTCUSDT", "api_candles_5m", time_range, DAY)
    assert re.fullmatch(r"[a-z][a-z0-9_]{1,255}", name)


@pytest.mark.parametrize(
    ("time_range", "rule"),
    [
        ("2024-06-30:2024-06-01", "ends before"),
        ("2024-02-30:2024-03-01", "no day of the calendar"),
        ("0000-01-01:2024-03-01", "no day of the calendar"),
        ("2024-06-01", "YYYY"),
        ("2024-6-1:2024-6-2", "YYYY"),
        ("2024-06-01:2024-06-02\n", "YYYY"),
        ("２０２４-06-01:2024-06-02", "YYYY"),
    ],
)
def test_a_time_range_that_is_none_is_refused_with_the_rule(time_range: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        naming.parse_time_range(time_range)
