"""What workers are launched with: every spelling, nothing empty, no secret in the open."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.catalogue import Catalogue, Parameter, Target, TargetType, TimeRangeEnd
from queue_manager.server.domain.launch import LaunchSpec, LaunchSpecs, Platform, worker_key
from queue_manager.server.domain.model import Job, JobSpec, Lifetime, Queue
from queue_manager.server.domain.request import JobRequest, StartRequest
from tests.unit.domain.samples import CATALOGUE, accepted, job, payload, start

PLATFORM = Platform(
    kafka_bootstrap_servers="kafka:9093",
    kafka_user="streamforge",
    kafka_password=True,
    ca_path="/etc/kafka/ca.crt",
    arango_url="http://arango:8529",
    arango_db="market",
    arango_user="root",
    arango_password=True,
    control_topic="queue-control",
    events_topic="queue-events",
    namespace="streamforge",
)
QUEUE_ID = "wf-btcusdt-api-candles-5m-20240601-a1b2c3"


def specs(
    request: StartRequest, *, catalogue: Catalogue = CATALOGUE, platform: Platform = PLATFORM
) -> dict[str, LaunchSpec]:
    """What each job of the request is launched with."""
    queue = accepted(request, catalogue=catalogue)
    return {entry.name: LaunchSpecs(catalogue, platform)(queue, entry) for entry in queue.jobs}


def only(request: JobRequest, *, catalogue: Catalogue = CATALOGUE, **fields: Any) -> LaunchSpec:
    """What the only job of a queue is launched with."""
    (spec,) = specs(start(request, **fields), catalogue=catalogue).values()
    return spec


def target(**fields: Any) -> Catalogue:
    """An operator's catalogue with one target."""
    kind = TargetType(
        name="archive", lifetime=Lifetime.FINITE, time_range_end=fields.pop("time_range_end", TimeRangeEnd.INCLUSIVE)
    )
    return Catalogue.of([Target(name="archiver", types=(kind,), **{"command": ("archive",), **fields})])


def changed(queue: Queue, **fields: Any) -> Job:
    """The queue's first job with another specification."""
    first = queue.jobs[0]
    spec: JobSpec = replace(first.spec, **fields)
    return replace(first, spec=spec)


def test_a_connector_gets_every_spelling_of_the_contract() -> None:
    spec = specs(payload("historical"))["arango-connector"]
    assert spec.environment == {
        "QUEUE_ID": QUEUE_ID,
        "SYMBOL": "BTCUSDT",
        "TYPE": "api_candles_5m",
        "TIME_RANGE": "2024-06-01:2024-06-30",
        "INTERVAL": "5m",
        "TELEMETRY_PRODUCER_ID": "arango-connector__a1b2c3",
        "KAFKA_TOPIC": f"{QUEUE_ID}-api-candles-5m",
        "COLLECTION_NAME": "btc_candles_5m_2024_06",
        "QUEUE_CONTROL_TOPIC": "queue-control",
        "CONTROL_TOPIC": "queue-control",
        "QUEUE_EVENTS_TOPIC": "queue-events",
        "TELEMETRY_TOPIC": "queue-events",
        "KAFKA_BOOTSTRAP_SERVERS": "kafka:9093",
        "KAFKA_USER": "streamforge",
        "KAFKA_USER_PRODUCER": "streamforge",
        "KAFKA_USER_CONSUMER": "streamforge",
        "CA_PATH": "/etc/kafka/ca.crt",
        "KAFKA_CA_PATH": "/etc/kafka/ca.crt",
        "ARANGO_URL": "http://arango:8529",
        "ARANGO_DB": "market",
        "ARANGO_USER": "root",
        "K8S_NAMESPACE": "streamforge",
        "TZ": "UTC",
    }
    assert spec.secret_environment == {
        "KAFKA_PASSWORD": "kafka-password",
        "KAFKA_PASSWORD_PRODUCER": "kafka-password",
        "KAFKA_PASSWORD_CONSUMER": "kafka-password",
        "ARANGO_PASSWORD": "arango-password",
    }
    assert spec.image == "streamforge/arango-connector:latest"
    assert spec.command == ()


def test_graph_workers_get_their_collections_in_every_spelling() -> None:
    found = specs(payload("historical"))
    builder, trainer = found["graph-builder"].environment, found["gnn-trainer"].environment
    assert builder["COLLECTION_INPUTS"] == "btc_candles_5m_2024_06,btc_trades_2024_06"
    graph = "btc_graph_2024_06"
    assert builder["COLLECTION_OUTPUT"] == builder["GRAPH_COLLECTION"] == builder["GRAPH_COLLECTION_NAME"] == graph
    assert trainer["GRAPH_COLLECTION"] == trainer["GRAPH_COLLECTION_NAME"] == graph
    assert trainer["MODEL_OUTPUT"] == trainer["MODEL_NAME"] == "gnn_model_btc_2024_06"
    assert "COLLECTION_NAME" not in trainer


def test_live_workers_get_their_source_and_interval() -> None:
    found = specs(payload("realtime"))
    assert found["gnn-trainer"].environment["INFERENCE_INTERVAL"] == "5m"
    assert found["visualizer"].environment["SOURCE"] == "btc_graph_rt_2024_08_01"
    assert found["loader-producer"].environment["INTERVAL"] == "1m"


def test_what_there_is_not_is_left_out_and_never_empty() -> None:
    """Some workers die of `int("")`."""
    found = specs(start(job(), job("visualizer", "graph_metrics_stream", source="x")), platform=Platform())
    for spec in found.values():
        assert all(spec.environment.values())
        assert spec.secret_environment == {}
        assert not {"TIME_RANGE", "INTERVAL", "KAFKA_USER", "KAFKA_BOOTSTRAP_SERVERS", "LIMIT"} & set(spec.environment)


def test_parameters_are_environment_variables() -> None:
    assert only(job(parameters={"limit": "10", "telemetry_interval": "1.5"})).environment.items() >= {
        ("LIMIT", "10"),
        ("TELEMETRY_INTERVAL", "1.5"),
    }


def test_a_parameter_that_is_not_given_has_its_default() -> None:
    depth = Parameter(name="depth", default_value="3", environment_variable="ARCHIVE_DEPTH")
    catalogue = target(parameters=(depth, Parameter(name="note")))
    assert only(job("archiver", "archive"), catalogue=catalogue).environment["ARCHIVE_DEPTH"] == "3"
    given = only(job("archiver", "archive", parameters={"depth": "5", "note": ""}), catalogue=catalogue)
    assert given.environment["ARCHIVE_DEPTH"] == "5"
    assert "NOTE" not in given.environment


def test_a_targets_entry_goes_before_the_platform_and_after_the_job() -> None:
    catalogue = target(
        environment={"KAFKA_BOOTSTRAP_SERVERS": "other:9092", "ARANGO_URL": "", "QUEUE_ID": "forged", "EXTRA": "1"},
        parameters=(Parameter(name="p", environment_variable="TELEMETRY_PRODUCER_ID"),),
    )
    environment = only(job("archiver", "archive", parameters={"p": "forged"}), catalogue=catalogue).environment
    assert environment["KAFKA_BOOTSTRAP_SERVERS"] == "other:9092"
    assert environment["EXTRA"] == "1"
    assert "ARANGO_URL" not in environment
    assert environment["QUEUE_ID"].startswith("wf-btcusdt-")
    assert environment["TELEMETRY_PRODUCER_ID"] == "archiver__a1b2c3"


def test_a_target_that_speaks_plaintext_gets_no_credentials() -> None:
    spec = only(job("archiver", "archive"), catalogue=target(plaintext_kafka=True))
    assert spec.environment["KAFKA_BOOTSTRAP_SERVERS"] == "kafka:9093"
    names = {*spec.environment, *spec.secret_environment}
    assert not {name for name in names if name.startswith(("KAFKA_USER", "KAFKA_PASSWORD", "KAFKA_CA", "CA_"))}


def test_a_targets_secrets_are_named_and_never_in_the_open() -> None:
    catalogue = target(
        environment={"MINIO_SECRET_KEY": "hunter2"}, secret_environment={"MINIO_SECRET_KEY": "minio-key"}
    )
    spec = only(job("archiver", "archive"), catalogue=catalogue)
    assert spec.secret_environment["MINIO_SECRET_KEY"] == "minio-key"
    assert "hunter2" not in str(spec)


@pytest.mark.parametrize(
    ("asked", "end", "told"),
    [
        ("2024-06-01:2024-06-30", TimeRangeEnd.INCLUSIVE, "2024-06-01:2024-06-30"),
        ("2024-06-01:2024-06-30", TimeRangeEnd.EXCLUSIVE, "2024-06-01:2024-07-01"),
        ("2024-12-31:2024-12-31", TimeRangeEnd.EXCLUSIVE, "2024-12-31:2025-01-01"),
        ("9999-12-31:9999-12-31", TimeRangeEnd.EXCLUSIVE, "9999-12-31:9999-12-31"),
    ],
)
def test_a_worker_that_leaves_out_the_last_day_is_told_the_day_after(asked: str, end: TimeRangeEnd, told: str) -> None:
    spec = only(job("archiver", "archive"), catalogue=target(time_range_end=end), time_range=asked)
    assert spec.environment["TIME_RANGE"] == told


def test_the_simulated_command_is_run_by_every_target() -> None:
    catalogue = builtin_catalogue(simulated_command=["python", "-m", "simulated"])
    for spec in specs(payload("historical"), catalogue=catalogue).values():
        assert spec.command == ("python", "-m", "simulated")
    spec = only(job(parameters={"simulate_outcome": "crash"}), catalogue=catalogue)
    assert spec.environment["SIMULATE_OUTCOME"] == "crash"


def test_the_key_names_the_attempt() -> None:
    queue = accepted(start())
    first = queue.jobs[0]
    second = replace(first, status=replace(first.status, attempt=2))
    one, two = worker_key(queue, first), worker_key(queue, second)
    assert (one.queue_id, one.job, one.attempt) == (queue.queue_id, "loader-producer", 1)
    assert one.name != two.name
    assert two.name.endswith("-a2")
    assert LaunchSpecs(CATALOGUE, PLATFORM)(queue, second).key == two


def test_the_hash_covers_everything_that_is_launched() -> None:
    queue = accepted(start(time_range="2024-08-01:2024-08-01"))
    base = LaunchSpecs(CATALOGUE, PLATFORM)(queue, queue.jobs[0])
    other_catalogue = builtin_catalogue(simulated_command=["x"])
    others = [
        LaunchSpecs(CATALOGUE, PLATFORM)(queue, changed(queue, image="other")),
        LaunchSpecs(CATALOGUE, PLATFORM)(queue, changed(queue, timeout=5.0)),
        LaunchSpecs(CATALOGUE, PLATFORM)(queue, changed(queue, parameters={"limit": "5"})),
        LaunchSpecs(other_catalogue, PLATFORM)(queue, queue.jobs[0]),
        LaunchSpecs(CATALOGUE, Platform())(queue, queue.jobs[0]),
    ]
    hashes = {base.spec_hash, *(spec.spec_hash for spec in others)}
    assert len(hashes) == 1 + len(others)
    assert LaunchSpecs(CATALOGUE, PLATFORM)(queue, queue.jobs[0]) == base


def test_a_target_that_the_catalogue_no_longer_knows_is_launched_from_the_record() -> None:
    """After an upgrade, queues that were accepted before it still have to run."""
    queue = accepted(start(job(parameters={"limit": "7"}, timeout=9.0)))
    spec = LaunchSpecs(Catalogue.of([]), PLATFORM)(queue, queue.jobs[0])
    assert spec.command == ()
    assert spec.image == queue.jobs[0].spec.image
    assert spec.timeout == 9.0
    assert spec.environment["LIMIT"] == "7"
    assert spec.environment["KAFKA_TOPIC"] == queue.jobs[0].spec.kafka_topic
