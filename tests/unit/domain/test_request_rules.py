"""Starting a queue: every way in which a request can be refused, and what the violations say."""

from __future__ import annotations

import time

import pytest
from msgspec.structs import replace

from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.catalogue import Catalogue, Parameter, Target, TargetType
from queue_manager.server.domain.errors import Violation
from queue_manager.server.domain.model import DependencyCondition, Lifetime
from queue_manager.server.domain.request import MAX_REQUESTS, DependencyRequest, JobRequest, StartRequest
from queue_manager.server.domain.rules import feeders
from tests.unit.domain.samples import accepted, job, start, violations


@pytest.mark.parametrize("symbol", ["", "BTC/USDT", "BTC USDT", "X" * 33, "БТС", "BTCUSDT\n"])
def test_a_symbol_is_1_to_32_letters_and_digits(symbol: str) -> None:
    assert set(violations(start(symbol=symbol))) == {"symbol"}


@pytest.mark.parametrize(
    "time_range",
    ["2024-06-30:2024-06-01", "2024-06-01", "2024-02-30:2024-03-01", "2024-13-01:2024-13-02", "x", "2024-06-01:", ":"],
)
def test_a_time_range_is_two_days_of_the_calendar_in_order(time_range: str) -> None:
    found = violations(start(time_range=time_range))
    assert set(found) == {"time_range"}
    assert "2024-06-01:2024-06-30" in found["time_range"]


def test_targets_that_load_history_need_a_time_range() -> None:
    assert "requests[1]" in violations(start(job(), job(type="api_trades")))["time_range"]


def test_a_queue_has_at_least_one_job() -> None:
    assert set(violations(StartRequest(symbol="BTCUSDT"))) == {"requests"}


def test_a_queue_has_at_most_64_jobs() -> None:
    assert "65" in violations(start(*[job()] * 65))["requests"]
    assert len(accepted(start(*[job()] * 64)).jobs) == 64


@pytest.mark.parametrize("wrong", ["loader-produser", "LOADER-PRODUCER"])
def test_an_unknown_target_is_answered_with_the_nearest_name(wrong: str) -> None:
    assert "did you mean 'loader-producer'?" in violations(start(job(wrong)))["requests[0].target"]


def test_a_type_of_another_target_is_refused_with_those_that_fit() -> None:
    found = violations(start(job("visualizer", "api_trades")))
    assert "graph_metrics_stream" in found["requests[0].type"]


def test_a_misspelt_type_is_answered_with_the_nearest_name() -> None:
    assert "did you mean 'ws_candles_5m'?" in violations(start(job(type="ws_candle_5m")))["requests[0].type"]


def test_target_and_type_are_required() -> None:
    assert set(violations(start(JobRequest()))) == {"requests[0].target", "requests[0].type"}
    assert set(violations(start(JobRequest(target="visualizer")))) == {"requests[0].type"}


def test_an_interval_must_agree_with_the_type() -> None:
    found = violations(start(job(), job(), job(type="ws_candles_5m", interval="1m")))
    assert set(found) == {"requests[2].interval"}
    assert "5m" in found["requests[2].interval"]
    assert accepted(start(job(type="ws_candles_5m", interval="5m"))).jobs[0].spec.interval == "5m"


def test_an_interval_is_one_of_the_exchanges() -> None:
    infer = job("gnn-trainer", "realtime_gnn_infer", graph_collection="g", interval="7m", inference_interval="5 min")
    assert set(violations(start(infer))) == {"requests[0].interval", "requests[0].inference_interval"}


def test_a_field_that_the_type_does_not_take_is_refused() -> None:
    wrong = job(interval="5m", collection_output="x", graph_collection="x", model_output="x", source="x")
    found = violations(start(wrong))
    assert list(found) == [
        f"requests[0].{name}"
        for name in ("interval", "collection_output", "graph_collection", "model_output", "source")
    ]


@pytest.mark.parametrize(
    ("target", "kind", "fields"),
    [
        ("graph-builder", "gnn_graph", ["collection_inputs", "collection_output"]),
        ("gnn-trainer", "gnn_train", ["graph_collection", "model_output"]),
        ("gnn-trainer", "realtime_gnn_infer", ["graph_collection"]),
        ("visualizer", "graph_metrics_stream", ["source"]),
    ],
)
def test_a_field_that_the_type_needs_is_required(target: str, kind: str, fields: list[str]) -> None:
    assert list(violations(start(job(target, kind)))) == [f"requests[0].{name}" for name in fields]


@pytest.mark.parametrize("name", ["_system", "1abc", "a b", "a.b", "ü", "a" * 257, "-a", "a\n", "a/b", "a\0"])
def test_collection_names_that_arangodb_refuses_are_refused(name: str) -> None:
    builder = job("graph-builder", "gnn_graph", collection_inputs=["fine", name], collection_output=name)
    found = violations(start(builder, job(collection_name=name)))
    paths = ["requests[0].collection_inputs[1]", "requests[0].collection_output", "requests[1].collection_name"]
    assert list(found) == paths


def test_an_empty_collection_among_the_inputs_is_refused() -> None:
    builder = job("graph-builder", "gnn_graph", collection_inputs=[""], collection_output="g")
    assert set(violations(start(builder))) == {"requests[0].collection_inputs[0]"}


@pytest.mark.parametrize("name", ["a", "A-b_9", "a" * 256])
def test_collection_names_that_arangodb_takes_are_accepted(name: str) -> None:
    assert accepted(start(job(collection_name=name))).jobs[0].spec.collection_name == name


def test_a_graph_has_at_most_64_inputs() -> None:
    builder = job("graph-builder", "gnn_graph", collection_inputs=["c"] * 65, collection_output="g")
    assert set(violations(start(builder))) == {"requests[0].collection_inputs"}


@pytest.mark.parametrize("name", ["a b", "x" * 129, "a/b", "ü"])
def test_a_model_has_a_plain_name(name: str) -> None:
    trainer = job("gnn-trainer", "gnn_train", graph_collection="g", model_output=name)
    assert set(violations(start(trainer))) == {"requests[0].model_output"}


@pytest.mark.parametrize(
    "image", ["no spaces", "a/UPPER", ":tag", "a:", "a@sha256:12", "a" * 513, "http://a/b", "a//b", "-a", "a\n"]
)
def test_an_image_that_no_registry_could_have_is_refused(image: str) -> None:
    assert set(violations(start(job(image=image)))) == {"requests[0].image"}


@pytest.mark.parametrize(
    "image",
    [
        "a",
        "localhost:5000/a",
        "ghcr.io/team/a-b/c__d:v1.2",
        "REGISTRY.example/a",
        "[::1]:5000/a:x",
        "a.b/c@x:" + "f" * 32,
    ],
)
def test_an_image_that_a_registry_can_have_is_accepted(image: str) -> None:
    assert accepted(start(job(image=image))).jobs[0].spec.image == image


def test_unknown_parameters_are_refused_with_those_that_there_are() -> None:
    found = violations(start(job(parameters={"limits": "1", "\n": "x"})))
    assert "did you mean 'limit'?" in found['requests[0].parameters["limits"]']
    assert "telemetry_interval" in found['requests[0].parameters["\ufffd"]']


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "many", "1\0"])
def test_a_parameters_value_must_keep_its_rule(value: str) -> None:
    trainer = job("gnn-trainer", "gnn_train", graph_collection="g", model_output="m", parameters={"epochs": value})
    assert set(violations(start(job(), trainer))) == {'requests[1].parameters["epochs"]'}


@pytest.mark.parametrize("value", ["x" * 4097, "é" * 2049, "a\0b", "\ud800"])
def test_a_parameters_value_must_fit_into_the_environment(value: str) -> None:
    request = start(job("archiver", "archive", image="a", parameters={"note": value}))
    assert set(violations(request, catalogue=_archive())) == {'requests[0].parameters["note"]'}


def test_an_operators_required_parameter_and_missing_image_are_asked_for() -> None:
    found = violations(start(job("archiver", "archive")), catalogue=_archive())
    assert list(found) == ["requests[0].image", 'requests[0].parameters["note"]']
    whole = start(job("archiver", "archive", image="a", parameters={"note": "x"}))
    assert accepted(whole, catalogue=_archive()).jobs[0].spec.image == "a"


def test_at_most_64_parameters() -> None:
    found = violations(start(job(parameters={f"p{i}": "1" for i in range(65)})))
    assert "65" in found["requests[0].parameters"]


def test_simulated_workers_know_how_they_may_end() -> None:
    catalogue = builtin_catalogue(simulated_command=["true"])
    good = {"simulate_duration": "0.5", "simulate_exit_code": "255", "simulate_outcome": "crash"}
    assert accepted(start(job(parameters=good)), catalogue=catalogue).jobs[0].spec.parameters == good
    bad = {"simulate_duration": "-1", "simulate_exit_code": "256", "simulate_outcome": "explode"}
    found = violations(start(job(parameters={**bad, "simulate_ignore_stop": "yes"})), catalogue=catalogue)
    assert len(found) == 4
    assert "linger" in found['requests[0].parameters["simulate_outcome"]']


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), float("inf"), 365 * 86400 + 1.0])
def test_a_timeout_is_more_than_0_and_at_most_365_days(timeout: float) -> None:
    assert set(violations(start(job(timeout=timeout)))) == {"requests[0].timeout"}


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan"), 86401.0])
def test_a_start_timeout_is_more_than_0_and_at_most_24_hours(timeout: float) -> None:
    assert set(violations(start(start_timeout=timeout))) == {"start_timeout"}


@pytest.mark.parametrize("request_id", ["a b", "x" * 129, "ü", "a\n"])
def test_a_request_id_is_a_plain_name(request_id: str) -> None:
    assert set(violations(start(request_id=request_id))) == {"request_id"}
    assert accepted(start(request_id="A.b_c:1-2")).spec.request_id == "A.b_c:1-2"


def test_at_most_32_labels() -> None:
    assert "33" in violations(start(labels={f"l{i}": "x" for i in range(33)}))["labels"]


@pytest.mark.parametrize("key", ["", "-a", "a-", "a b", "x" * 64, "ü", "a\n"])
def test_a_labels_key_is_1_to_63_plain_characters(key: str) -> None:
    (path,) = violations(start(labels={key: "x"}))
    assert path.startswith("labels[")


@pytest.mark.parametrize("value", ["a/b", "-a", "x" * 64, "a b", "a\n"])
def test_a_labels_value_is_plain_or_empty(value: str) -> None:
    assert set(violations(start(labels={"x": value}))) == {'labels["x"]'}
    assert accepted(start(labels={"team/x": "", "y": "v.1_2-3"})).spec.labels == {"team/x": "", "y": "v.1_2-3"}


def test_a_gate_names_another_job_of_the_queue_once() -> None:
    request = start(
        job(),
        job(depends_on=["loader-producer", "loader-producer", "loader-producer-2", "loader-producer-9", ""]),
    )
    found = violations(request)
    assert list(found) == [f"requests[1].depends_on[{j}].job" for j in (1, 2, 3, 4)]
    assert "did you mean" in found["requests[1].depends_on[3].job"]


def test_a_circle_of_gates_is_named() -> None:
    request = start(
        job(depends_on=["loader-producer-3"]),
        job(depends_on=["loader-producer"]),
        job(depends_on=["loader-producer-2"]),
        job(depends_on=["loader-producer"]),
    )
    (rule,) = violations(request).values()
    assert "loader-producer → loader-producer-3 → loader-producer-2 → loader-producer" in rule


def test_two_circles_are_both_named() -> None:
    request = start(
        job(depends_on=["loader-producer-2"]),
        job(depends_on=["loader-producer"]),
        job(depends_on=["loader-producer-4"]),
        job(depends_on=["loader-producer-3"]),
    )
    assert len(violations(request)) == 2


def test_a_diamond_is_no_circle() -> None:
    request = start(
        job(),
        job(depends_on=["loader-producer"]),
        job(depends_on=["loader-producer"]),
        job(depends_on=["loader-producer-2", "loader-producer-3"]),
    )
    assert len(accepted(request).jobs) == 4


def loader(*gates: DependencyRequest, kind: str = "api_trades") -> JobRequest:
    """A loader that waits."""
    return JobRequest(target="loader-producer", type=kind, depends_on=gates)


def connector(*gates: DependencyRequest, kind: str = "api_trades") -> JobRequest:
    """A connector that drains the loaders of its type."""
    return JobRequest(target="arango-connector", type=kind, depends_on=gates)


def gate(name: str, condition: DependencyCondition | None = None) -> DependencyRequest:
    """A gate on this job."""
    return DependencyRequest(job=name, condition=condition)


def past(*jobs: JobRequest) -> StartRequest:
    """A request for a past month."""
    return start(*jobs, time_range="2024-06-01:2024-06-30")


def test_a_job_cannot_wait_until_one_that_it_feeds_has_finished() -> None:
    """That drains only once this one has ended, which would never start: neither would ever end."""
    found = violations(past(loader(gate("arango-connector")), connector()))
    assert found == {
        "requests[0].depends_on[0].job": "closes a circle of jobs that wait for each other, loader-producer → "
        "arango-connector → loader-producer, because arango-connector drains only after loader-producer has ended; "
        "take one of the gates out, or let it wait for STARTED"
    }


def test_a_circle_may_be_closed_by_draining_further_on() -> None:
    """The one that waits, and the one that feeds, may be others."""
    request = past(
        loader(gate("visualizer")),
        connector(),
        JobRequest(target="visualizer", type="graph_metrics_stream", source="s", depends_on=[gate("arango-connector")]),
    )
    ((path, rule),) = violations(request).items()
    assert path == "requests[2].depends_on[0].job"
    assert "loader-producer → visualizer → arango-connector → loader-producer, because arango-connector drains" in rule


@pytest.mark.parametrize(
    "jobs",
    [
        [loader(gate("arango-connector", DependencyCondition.STARTED)), connector()],
        [loader(), connector(gate("loader-producer"))],
        [loader(), connector(gate("loader-producer", DependencyCondition.STARTED))],
        [loader(), connector(), loader(gate("arango-connector"), kind="api_candles_5m")],
        [connector(), connector(gate("arango-connector"))],
    ],
    ids=["for its start", "the other way", "the other way, for its start", "not its feeder", "nobody feeds them"],
)
def test_waiting_for_one_that_drains_is_no_circle(jobs: list[JobRequest]) -> None:
    """Unless what it drains waits for it."""
    assert len(accepted(past(*jobs)).jobs) == len(jobs)


def test_who_feeds_whom_is_the_same_before_and_after_a_queue_is_accepted() -> None:
    """A queue with one more gate is refused where its feeder, as the queue has it, would wait for the job it feeds."""
    jobs = [
        loader(), connector(), loader(kind="api_candles_5m"), connector(kind="api_candles_5m"),
        loader(kind="ws_trades"), connector(kind="ws_trades"), loader(),
    ]  # fmt: skip
    queue = accepted(past(*jobs))
    for i, feeder in enumerate(queue.jobs):
        for reader in queue.jobs:
            if reader is feeder:
                continue
            gated = [*jobs[:i], replace(jobs[i], depends_on=[gate(reader.name)]), *jobs[i + 1 :]]
            if reader.spec.lifetime is Lifetime.DRAINS and feeder in feeders(queue, reader):
                assert set(violations(past(*gated))) == {f"requests[{i}].depends_on[0].job"}
            else:
                accepted(past(*gated))


def test_all_violations_come_at_once_in_the_order_of_the_request() -> None:
    request = StartRequest(
        symbol="?",
        time_range="yesterday",
        requests=[
            job("loader-produser", interval="x", depends_on=["nobody"]),
            job("visualizer", "graph_metrics_stream", source="_x", timeout=0.0),
        ],
        request_id=" ",
        labels={"ok": "no way"},
        start_timeout=-1.0,
    )
    assert list(violations(request)) == [
        "symbol",
        "time_range",
        "requests[0].target",
        "requests[0].interval",
        "requests[0].depends_on[0].job",
        "requests[1].source",
        "requests[1].timeout",
        "request_id",
        'labels["ok"]',
        "start_timeout",
    ]


def test_what_could_not_be_read_is_a_violation_like_others() -> None:
    """An enum's number that nobody knows cannot be expressed as a value, so whoever reads the request hands it in."""
    gate = Violation("requests[1].depends_on[0].condition", "7 is no condition")
    policy = Violation("failure_policy", "9 is no policy")
    request = start(job(), job(depends_on=["loader-producer"]), start_timeout=0.0, malformed=(policy, gate))
    assert list(violations(request)) == [gate.field, policy.field, "start_timeout"]


def _archive() -> Catalogue:
    """An operator's catalogue: a target without an image that requires a parameter."""
    kind = TargetType(name="archive", lifetime=Lifetime.FINITE)
    return Catalogue.of([Target(name="archiver", types=(kind,), parameters=(Parameter(name="note", required=True),))])


def test_a_request_that_is_far_too_long_is_refused_without_much_work() -> None:
    """It fits into a message, and every call waits while it is checked."""
    gates = [f"nobody-{number}" for number in range(MAX_REQUESTS)]
    jobs = [job(depends_on=gates)] * MAX_REQUESTS + [job()] * 100_000
    began = time.process_time()
    found = violations(start(*jobs))
    assert "split the queue" in found["requests"]
    assert (
        time.process_time() - began < 5
    )  # seconds of our own; a search among all of them for each gate takes a minute
