"""Starting a queue: what a request becomes. How it can be refused is in `test_request_rules`."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from queue_manager.server.domain.errors import InvalidRequest, Violation
from queue_manager.server.domain.model import (
    Dependency,
    DependencyCondition,
    FailurePolicy,
    JobName,
    JobState,
    Lifetime,
    Queue,
    QueueState,
    Reads,
)
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest, accept, fingerprint
from tests.unit.domain.samples import CATALOGUE, GOLDEN, NOW, accepted, from_json, job, payload, start, violations

RANGE = "2024-06-01:2024-06-30"


# --- What is accepted -------------------------------------------------------------------------------------------------


def test_the_historical_payload_becomes_a_queue() -> None:
    queue = accepted(payload("historical"))
    assert queue.queue_id == "wf-btcusdt-api-candles-5m-20240601-a1b2c3"
    assert [job.name for job in queue.jobs] == [
        "loader-producer",
        "loader-producer-2",
        "arango-connector",
        "arango-connector-2",
        "graph-builder",
        "gnn-trainer",
    ]
    loader, _, connector = (entry.spec for entry in queue.jobs[:3])
    assert loader.kafka_topic == connector.kafka_topic == f"{queue.queue_id}-api-candles-5m"
    assert loader.collection_name == connector.collection_name == "btc_candles_5m_2024_06"
    assert (loader.lifetime, connector.lifetime) == (Lifetime.FINITE, Lifetime.DRAINS)
    assert loader.feeds
    assert (connector.reads, connector.consumer_group) == (Reads.OWN, f"arango-connector-consumer-{queue.queue_id}")
    assert loader.telemetry_id == "loader-producer__a1b2c3"
    assert connector.interval == "5m"


def test_the_collections_that_the_user_names_are_those_that_are_derived() -> None:
    """The graph-builder reads what loaders and connectors fill; nothing else makes them meet."""
    for name in ("historical", "realtime"):
        queue = accepted(payload(name))
        derived = {entry.spec.collection_name for entry in queue.jobs if entry.spec.collection_name}
        builder = next(entry.spec for entry in queue.jobs if entry.spec.target == "graph-builder")
        assert set(builder.collection_inputs) == derived


def test_the_realtime_payload_becomes_a_queue() -> None:
    queue = accepted(payload("realtime"))
    assert queue.queue_id == "wf-btcusdt-ws-candles-1m-20240801-a1b2c3"
    assert {entry.spec.lifetime for entry in queue.jobs} == {Lifetime.ENDLESS}


def test_the_payloads_in_the_repository_are_the_users_own() -> None:
    for name in ("historical", "realtime"):
        path = GOLDEN / f"{name}-pipeline.json"
        if not path.exists():
            pytest.skip(f"the design's data folder is not beside the project: no {path}")
        assert from_json(json.loads(path.read_text(encoding="utf-8"))) == payload(name)


def test_an_accepted_queue_waits_at_revision_0() -> None:
    queue = accepted(start(job(timeout=60.0), start_timeout=5.0, failure_policy=FailurePolicy.STOP_ALL))
    assert (queue.revision, queue.status.state, queue.status.update_time) == (0, QueueState.PENDING, NOW)
    assert queue.spec.create_time == NOW
    assert queue.spec.start_timeout == 5.0
    assert queue.spec.failure_policy is FailurePolicy.STOP_ALL
    assert queue.spec.requested_by == "tests"
    (only,) = queue.jobs
    assert (only.status.state, only.status.attempt, only.status.create_time) == (JobState.PENDING, 1, NOW)
    assert only.spec.timeout == 60.0


def test_defaults_are_those_of_the_contract() -> None:
    queue = accepted(start(job(), job(depends_on=["loader-producer"])))
    assert queue.spec.start_timeout == 600.0
    assert queue.spec.failure_policy is FailurePolicy.KEEP_GOING
    assert queue.jobs[1].spec.depends_on == (
        Dependency(job=JobName("loader-producer"), condition=DependencyCondition.FINISHED),
    )


def test_without_a_time_range_names_have_the_day_of_the_start() -> None:
    queue = accepted(start(job(type="ws_trades")))
    assert queue.queue_id == "wf-btcusdt-ws-trades-20240801-a1b2c3"
    assert queue.jobs[0].spec.collection_name == "btc_ws_trades_2024_08_01"


def test_what_a_caller_overrides_is_taken() -> None:
    image = "registry.example:5000/team/loader:1.2@sha256:" + "0" * 64
    queue = accepted(start(job(collection_name="mine", image=image, parameters={"limit": "10"})))
    spec = queue.jobs[0].spec
    assert (spec.collection_name, spec.image, spec.parameters) == ("mine", image, {"limit": "10"})


def test_the_symbol_is_upper_cased() -> None:
    assert accepted(start(symbol="btcusdt")).spec.symbol == "BTCUSDT"


def test_a_name_that_was_derived_in_the_queue_may_be_read_in_it() -> None:
    """Derived names are fixed, also where ArangoDB's own rule is stricter (a symbol that begins with a digit)."""
    name = "1000pepe_ws_depth_2024_12_31"
    request = start(
        job(type="ws_depth"),
        job("visualizer", "graph_metrics_stream", source=name),
        symbol="1000PEPEUSDT",
        time_range="2024-12-31:2024-12-31",
    )
    assert accepted(request).jobs[1].spec.source == name
    assert "source" in str(violations(replace(request, symbol="BTCUSDT")))


# --- Fingerprints -----------------------------------------------------------------------------------------------------


def test_the_fingerprint_ignores_how_the_same_request_is_written() -> None:
    plain = payload("historical")
    spelt_out = replace(
        plain,
        symbol="btcusdt",
        request_id="x",
        validate_only=True,
        failure_policy=FailurePolicy.KEEP_GOING,
        start_timeout=600,
        requests=tuple(plain.requests),
    )
    assert fingerprint(plain) == fingerprint(spelt_out) == accepted(plain).spec.fingerprint


@pytest.mark.parametrize(
    "change",
    [
        {"symbol": "ETHUSDT"},
        {"time_range": RANGE},
        {"labels": {"a": "b"}},
        {"failure_policy": FailurePolicy.STOP_ALL},
        {"start_timeout": 5.0},
        {"requests": (job(), job())},
        {"requests": (job(type="ws_depth"),)},
        {"requests": (job(timeout=1.0),)},
        {"requests": (job(parameters={"limit": "1"}),)},
        {"requests": (job(depends_on=["x"]),)},
        {"requests": (replace(job(), depends_on=[DependencyRequest(job="x", condition=DependencyCondition.STARTED)]),)},
    ],
)
def test_the_fingerprint_covers_the_whole_body(change: dict[str, Any]) -> None:
    gated = fingerprint(start(job(depends_on=["x"])))
    others = {fingerprint(start()), gated} - ({gated} if change == {"requests": (job(depends_on=["x"]),)} else set())
    assert fingerprint(replace(start(), **change)) not in others


# --- Whatever comes ---------------------------------------------------------------------------------------------------

anything = st.text(max_size=20) | st.sampled_from(["\0", "a" * 5000, "\x1b[31m", "btc", "5m", "loader-producer"])
numbers = st.none() | st.floats() | st.integers(-10, 10).map(float)
targets = st.sampled_from(list(CATALOGUE.targets)) | anything
types = st.sampled_from(["api_candles_5m", "ws_trades", "gnn_graph", "gnn_train", "graph_metrics_stream"]) | anything
job_requests = st.builds(
    JobRequest,
    target=targets,
    type=types,
    interval=anything,
    collection_inputs=st.lists(anything, max_size=3),
    collection_output=anything,
    graph_collection=anything,
    model_output=anything,
    inference_interval=anything,
    source=anything,
    collection_name=anything,
    image=anything,
    parameters=st.dictionaries(anything | st.just("limit"), anything, max_size=3),
    depends_on=st.lists(st.builds(DependencyRequest, job=targets), max_size=3),
    timeout=numbers,
)
start_requests = st.builds(
    StartRequest,
    symbol=anything,
    time_range=anything | st.just(RANGE),
    requests=st.lists(job_requests, max_size=5),
    request_id=anything,
    labels=st.dictionaries(anything, anything, max_size=3),
    start_timeout=numbers,
)


@given(start_requests)
def test_nothing_but_violations_comes_of_a_hostile_request(request_: StartRequest) -> None:
    """And each can be written into an answer: short, printable, at a path."""
    found: list[Violation] = []
    try:
        queue = accept(request_, CATALOGUE, now=NOW, suffix="a1b2c3", requested_by="x" * 999)
    except InvalidRequest as refused:
        found = refused.violations
    else:
        assert_whole(queue)
    fingerprint(request_)
    for violation in found:
        assert violation.field.isprintable()
        assert violation.description.isprintable()
        assert len(violation.field) < 300
        assert len(violation.description) < 3000


good_jobs = st.sampled_from(
    [
        job(),
        job(type="api_candles_1M"),
        job("arango-connector", "api_candles_1m"),
        job("graph-builder", "gnn_graph", collection_inputs=["a"], collection_output="b"),
        job("gnn-trainer", "gnn_train", graph_collection="b", model_output="m", parameters={"epochs": "3"}),
        job("visualizer", "graph_metrics_stream", source="b"),
    ]
)


@given(
    symbol=st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True),
    jobs=st.lists(good_jobs, min_size=1, max_size=64),
    suffix=st.from_regex(r"[a-z0-9]{6}", fullmatch=True),
)
def test_an_accepted_queue_is_whole(symbol: str, jobs: list[JobRequest], suffix: str) -> None:
    request = StartRequest(symbol=symbol, time_range=RANGE, requests=jobs)
    queue = accepted(request, suffix=suffix)
    assert queue.queue_id.endswith(f"-{suffix}")
    assert_whole(queue)


def assert_whole(queue: Queue) -> None:
    """Job names are unique, ids are labels, types have topics of their own, and it can be stored and read again."""
    names = [entry.name for entry in queue.jobs]
    assert len(set(names)) == len(names)
    assert len(queue.queue_id) <= 46
    topics = {(entry.spec.type, entry.spec.kafka_topic) for entry in queue.jobs}
    assert len(topics) == len({kind for kind, _ in topics}) == len({topic for _, topic in topics})
    assert len({entry.spec.telemetry_id for entry in queue.jobs}) == len(names)
    assert msgspec.json.decode(msgspec.json.encode(queue), type=Queue) == queue
