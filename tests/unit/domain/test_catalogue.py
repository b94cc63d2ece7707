"""The catalogue: what the built-in targets take, how their workers end, and what an entry may not say."""

from __future__ import annotations

from typing import Any

import pytest

from queue_manager.server.domain.builtin import SIMULATION, builtin_catalogue
from queue_manager.server.domain.catalogue import Catalogue, Parameter, ParameterType, Target, TargetType
from queue_manager.server.domain.model import Lifetime, Reads

CATALOGUE = builtin_catalogue()


def entry(target: str, kind: str) -> TargetType:
    """The entry for a target's type."""
    found = CATALOGUE.type_of(target, kind)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("target", "kind", "lifetime"),
    [
        ("loader-producer", "api_candles_5m", Lifetime.FINITE),
        ("loader-producer", "api_trades", Lifetime.FINITE),
        ("loader-producer", "ws_candles_1M", Lifetime.ENDLESS),
        ("loader-producer", "ws_trades", Lifetime.ENDLESS),
        ("loader-producer", "ws_depth", Lifetime.ENDLESS),
        ("loader-producer", "ws_orderbook", Lifetime.ENDLESS),
        ("arango-connector", "api_candles_5m", Lifetime.DRAINS),
        ("arango-connector", "api_trades", Lifetime.DRAINS),
        ("arango-connector", "ws_trades", Lifetime.ENDLESS),
        ("graph-builder", "gnn_graph", Lifetime.FINITE),
        ("graph-builder", "realtime_graph", Lifetime.ENDLESS),
        ("gnn-trainer", "gnn_train", Lifetime.FINITE),
        ("gnn-trainer", "realtime_gnn_infer", Lifetime.ENDLESS),
        ("visualizer", "graph_metrics_stream", Lifetime.ENDLESS),
    ],
)
def test_every_built_in_type_says_how_its_worker_ends(target: str, kind: str, lifetime: Lifetime) -> None:
    assert entry(target, kind).lifetime is lifetime


def test_the_built_in_targets_are_five() -> None:
    targets = ["arango-connector", "gnn-trainer", "graph-builder", "loader-producer", "visualizer"]
    assert list(CATALOGUE.targets) == targets


@pytest.mark.parametrize("kind", ["api_candles", "api_candles_", "api_candles_7m", "api_candles_5m_", "API_TRADES", ""])
def test_a_type_that_fits_no_pattern_is_unknown(kind: str) -> None:
    assert CATALOGUE.type_of("loader-producer", kind) is None


def test_a_pattern_tells_the_interval_that_a_type_names() -> None:
    assert entry("loader-producer", "api_candles_15m").interval_in("api_candles_15m") == "15m"
    assert entry("loader-producer", "api_trades").interval_in("api_trades") == ""


def test_trades_and_depth_have_loaders_of_their_own() -> None:
    kinds = ("api_candles_5m", "api_trades", "ws_depth")
    images = {entry("loader-producer", kind).default_image for kind in kinds}
    assert len(images) == 3


def test_an_operators_image_replaces_all_images_of_a_target() -> None:
    catalogue = builtin_catalogue({"loader-producer": "registry.example/loader:1"})
    loader, connector = catalogue.target("loader-producer"), catalogue.target("arango-connector")
    assert loader
    assert connector
    assert {kind.default_image for kind in loader.types} == {"registry.example/loader:1"}
    assert {kind.default_image for kind in connector.types} == {"streamforge/arango-connector:latest"}


def test_what_reads_a_topic_names_its_consumer_group() -> None:
    assert entry("arango-connector", "api_trades").reads is Reads.OWN
    assert entry("arango-connector", "api_trades").consumer_group == "arango-connector-consumer-{queue_id}"
    assert entry("graph-builder", "gnn_graph").reads is Reads.ALL
    assert entry("graph-builder", "gnn_graph").consumer_group == "graph-build-consumer-{queue_id}"
    assert entry("loader-producer", "api_trades").reads is Reads.NONE
    assert entry("loader-producer", "api_trades").feeds


def test_the_simulated_worker_brings_its_parameters() -> None:
    """Only where there is one: a real worker would not know what to do with them."""
    simulated = builtin_catalogue(simulated_command=["python", "-m", "simulated"])
    for target in simulated.targets.values():
        assert target.command == ("python", "-m", "simulated")
        assert set(SIMULATION) <= set(target.parameters)
        duration = target.parameter("simulate_duration")
        assert duration
        assert duration.environment_variable == "SIMULATE_DURATION"
    real = CATALOGUE.target("loader-producer")
    assert real
    assert real.command == ()
    assert real.parameter("simulate_duration") is None


@pytest.mark.parametrize(
    ("written", "meant"),
    [("loader-produser", "loader-producer"), ("Visualiser", "visualizer"), ("connector", "arango-connector")],
)
def test_a_misspelt_target_is_recognised(written: str, meant: str) -> None:
    assert CATALOGUE.nearest_target(written) == meant


def test_a_misspelt_type_is_recognised_with_its_interval() -> None:
    loader = CATALOGUE.target("loader-producer")
    assert loader
    assert loader.nearest_type("api_candle_5m") == "api_candles_5m"
    assert loader.nearest_type("api_candel") == "api_candles_<interval>"
    assert loader.nearest_type("\0" * 10000) is None


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ({"type": ParameterType.INTEGER}, ["0", "-7", "+7", "007"], ["", "1.0", "1e3", "x", " 1", "١", "9" * 5000]),
        ({"type": ParameterType.NUMBER}, ["0", "-1.5", "1e3", ".5", "5."], ["", "nan", "inf", "1e999", "0x1", "1_0"]),
        ({"type": ParameterType.BOOLEAN}, ["true", "false"], ["", "True", "1", "yes"]),
        ({"type": ParameterType.INTEGER, "minimum": 1, "maximum": 3}, ["1", "3"], ["0", "4", "9" * 400]),
        ({"type": ParameterType.NUMBER, "minimum": 0}, ["0", "1e9"], ["-0.1"]),
        ({"pattern": "[a-z]+"}, ["abc"], ["", "abc1", "abc\n"]),
        ({"allowed_values": ("a", "b")}, ["a"], ["c", ""]),
        ({}, ["", "anything at all ☃"], []),
    ],
)
def test_a_parameter_refuses_values_that_break_its_rule(rule: dict[str, Any], good: list[str], bad: list[str]) -> None:
    parameter = Parameter(name="some_parameter", **rule)
    assert [value for value in good if parameter.broken_rule(value)] == []
    assert [value for value in bad if not parameter.broken_rule(value)] == []


def test_operators_targets_stand_beside_and_over_the_built_in_ones() -> None:
    kind = TargetType(name="archive", lifetime=Lifetime.FINITE)
    mine = Catalogue.of([Target(name="archiver", types=(kind,)), Target(name="visualizer", types=(kind,))])
    both = mine.over(CATALOGUE)
    assert both.type_of("archiver", "archive") == kind
    assert both.type_of("visualizer", "archive") == kind
    assert both.type_of("visualizer", "graph_metrics_stream") is None
    assert both.type_of("gnn-trainer", "gnn_train") is not None


def test_a_type_that_is_named_exactly_goes_before_a_pattern() -> None:
    exact = TargetType(name="candles_1d", lifetime=Lifetime.FINITE, default_image="daily")
    pattern = TargetType(name="candles_<interval>", lifetime=Lifetime.FINITE, default_image="any")
    target = Target(name="x", types=(pattern, exact))
    assert target.type_of("candles_1d") == exact
    assert target.type_of("candles_1h") == pattern


def test_entries_that_contradict_themselves_are_refused_when_they_are_read() -> None:
    """An operator learns of them at start-up, not a caller at the first request."""
    kind = TargetType(name="t", lifetime=Lifetime.FINITE)
    with pytest.raises(ValueError, match="consumer_group"):
        TargetType(name="t", lifetime=Lifetime.FINITE, reads=Reads.OWN)
    with pytest.raises(ValueError, match="drains"):
        TargetType(name="t", lifetime=Lifetime.DRAINS)
    with pytest.raises(ValueError, match="letters"):
        TargetType(name="a b", lifetime=Lifetime.FINITE)
    with pytest.raises(ValueError, match="name is"):
        Target(name="Not_a_label", types=(kind,))
    with pytest.raises(ValueError, match="no type"):
        Target(name="x", types=())
    with pytest.raises(ValueError, match="two entries"):
        Target(name="x", types=(kind, kind))
    with pytest.raises(ValueError, match="regular expression"):
        Parameter(name="p", pattern="(")
    with pytest.raises(ValueError, match="default"):
        Parameter(name="p", type=ParameterType.INTEGER, default_value="x")
    with pytest.raises(ValueError, match="environment variable"):
        Parameter(name="p q")
    with pytest.raises(ValueError, match="under the name"):
        Catalogue({"y": Target(name="x", types=(kind,))})
