"""The catalogue's built-in entries: the five targets that the platform has today, with all their types.

What each takes and how it ends comes from contracts, section 1. Operators put entries beside or over these by
configuration; nothing else in the server knows a target by its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from queue_manager.server.domain.catalogue import (
    COMMON_FIELDS,
    PLACEHOLDER,
    Catalogue,
    Parameter,
    ParameterType,
    Target,
    TargetType,
)
from queue_manager.server.domain.model import Lifetime, Reads

DEFAULT_IMAGES: Final[Mapping[str, str]] = {
    "loader-producer": "streamforge/loader-producer:latest",
    "loader-producer/api_trades": "streamforge/loader-api-trades:latest",
    "loader-producer/ws_depth": "streamforge/loader-ws-depth:latest",
    "arango-connector": "streamforge/arango-connector:latest",
    "graph-builder": "streamforge/graph-builder:latest",
    "gnn-trainer": "streamforge/gnn-trainer:latest",
    "visualizer": "streamforge/visualizer:latest",
}
"""Image of each target, and of the types that have one of their own."""

CONNECTOR_GROUP: Final = "arango-connector-consumer-{queue_id}"
GRAPH_BUILDER_GROUP: Final = "graph-build-consumer-{queue_id}"

_FEEDS: Final = (
    (f"api_candles_{PLACEHOLDER}", "historical candles"),
    ("api_trades", "historical trades"),
    (f"ws_candles_{PLACEHOLDER}", "live candles"),
    ("ws_trades", "live trades"),
    ("ws_depth", "live changes of the order book"),
    ("ws_orderbook", "live snapshots of the order book"),
)

_TELEMETRY_INTERVAL: Final = Parameter(
    name="telemetry_interval",
    description="Seconds between two progress reports of the worker.",
    type=ParameterType.NUMBER,
    minimum=0.05,
    maximum=3600,
)
_LIMIT: Final = Parameter(
    name="limit",
    description="Records that the loader asks the exchange for in one request.",
    type=ParameterType.INTEGER,
    minimum=1,
)
_EPOCHS: Final = Parameter(
    name="epochs",
    description="How often the trainer goes over the whole graph.",
    type=ParameterType.INTEGER,
    minimum=1,
)
_LEARNING_RATE: Final = Parameter(
    name="learning_rate",
    description="Step size of the trainer's optimiser.",
    type=ParameterType.NUMBER,
    minimum=0,
    maximum=100,
)

SIMULATION: Final = (
    Parameter(
        name="simulate_duration",
        description="Seconds that the simulated worker works before it ends.",
        type=ParameterType.NUMBER,
        minimum=0,
    ),
    Parameter(
        name="simulate_records",
        description="Records that the simulated worker says it has written by its end.",
        type=ParameterType.INTEGER,
        minimum=0,
    ),
    Parameter(
        name="simulate_exit_code",
        description="Exit code with which the simulated worker fails at the end of its duration; 0: it does not.",
        type=ParameterType.INTEGER,
        minimum=0,
        maximum=255,
    ),
    Parameter(
        name="simulate_outcome",
        description=(
            "How the simulated worker ends: finish; error_exit_0 (reports an error, exits 0); crash (dies of SIGKILL); "
            "hang (stops reporting, never ends); linger (says finished, stays); silent (never reports, exits 0)."
        ),
        allowed_values=("finish", "error_exit_0", "crash", "hang", "linger", "silent"),
    ),
    Parameter(
        name="simulate_ignore_stop",
        description="Whether the simulated worker ignores the stop command and SIGTERM.",
        type=ParameterType.BOOLEAN,
    ),
)
"""Parameters of the simulated worker, which every target has where there is one."""


def builtin_catalogue(images: Mapping[str, str] | None = None, simulated_command: Sequence[str] = ()) -> Catalogue:
    """The built-in catalogue, adapted."""
    return adapted(Catalogue.of(builtin_targets()), images or {}, simulated_command)


def builtin_targets() -> tuple[Target, ...]:
    """The platform's targets, as they are before anything is set."""
    return _loader_producer(), _arango_connector(), _graph_builder(), _gnn_trainer(), _visualizer()


def adapted(
    catalogue: Catalogue,
    images: Mapping[str, str],
    simulated_command: Sequence[str] = (),
    *,
    in_containers: bool = False,
) -> Catalogue:
    """The catalogue as it is on this installation.

    `images`: target → image that all its types run instead of their default ones. `simulated_command`: what every
    target that has no command runs instead of its image's own (a worker that only pretends); it brings the `simulate_*`
    parameters. `in_containers`: the runner runs images.
    """
    command = tuple(simulated_command)
    return Catalogue(
        {name: _adapt(target, images, command) for name, target in catalogue.targets.items()}, in_containers
    )


def _adapt(target: Target, images: Mapping[str, str], command: tuple[str, ...]) -> Target:
    def image(entry: TargetType) -> str:
        own = DEFAULT_IMAGES.get(f"{target.name}/{entry.name}") or DEFAULT_IMAGES.get(target.name, "")
        return images.get(target.name) or entry.default_image or own

    simulated = () if target.command else command
    types = tuple(replace(entry, default_image=image(entry)) for entry in target.types)
    return replace(
        target,
        types=types,
        command=target.command or command,
        parameters=(*target.parameters, *(SIMULATION if simulated else ())),
    )


def _fields_of(name: str) -> tuple[str, ...]:
    """Optional fields of a loader's or connector's type."""
    return (*(("interval",) if PLACEHOLDER in name else ()), "collection_name", *COMMON_FIELDS)


def _loader_producer() -> Target:
    return Target(
        name="loader-producer",
        description="Loads market data of a symbol from the exchange and writes it to the Kafka topic of its type.",
        types=tuple(
            TargetType(
                name=name,
                description=f"Loads {what}.",
                lifetime=Lifetime.FINITE if name.startswith("api_") else Lifetime.ENDLESS,
                optional_fields=_fields_of(name),
                needs_time_range=name.startswith("api_"),
                feeds=True,
                fills_collection=True,
            )
            for name, what in _FEEDS
        ),
        parameters=(_TELEMETRY_INTERVAL, _LIMIT),
    )


def _arango_connector() -> Target:
    return Target(
        name="arango-connector",
        description="Reads the Kafka topic of its type and writes it to an ArangoDB collection.",
        types=tuple(
            TargetType(
                name=name,
                description=f"Stores {what}.",
                lifetime=Lifetime.DRAINS if name.startswith("api_") else Lifetime.ENDLESS,
                optional_fields=_fields_of(name),
                reads=Reads.OWN,
                # All connectors of a queue are in one group; each reads the topic of its own type in it.
                consumer_group=CONNECTOR_GROUP,
                fills_collection=True,
            )
            for name, what in _FEEDS
        ),
        parameters=(_TELEMETRY_INTERVAL,),
    )


def _graph_builder() -> Target:
    fields = ("collection_inputs", "collection_output")
    # Its group is named although `gnn_graph` is FINITE: the group's offsets are put to the start before the first job
    # is launched, whichever way its worker reads.
    return Target(
        name="graph-builder",
        description="Builds a graph from collections and writes it to another one.",
        types=(
            TargetType(
                name="gnn_graph",
                description="Builds the graph of a span of time, then ends.",
                # FINITE, not DRAINS: its request names the collections that it reads, so it ends when it has read
                # them. A deployment whose worker reads a topic until it is stopped says DRAINS in its own entry.
                lifetime=Lifetime.FINITE,
                required_fields=fields,
                optional_fields=("interval", *COMMON_FIELDS),
                reads=Reads.ALL,
                consumer_group=GRAPH_BUILDER_GROUP,
            ),
            TargetType(
                name="realtime_graph",
                description="Keeps a graph up to date with what comes in.",
                lifetime=Lifetime.ENDLESS,
                required_fields=fields,
                optional_fields=("interval", *COMMON_FIELDS),
                reads=Reads.ALL,
                consumer_group=GRAPH_BUILDER_GROUP,
            ),
        ),
        parameters=(_TELEMETRY_INTERVAL,),
    )


def _gnn_trainer() -> Target:
    return Target(
        name="gnn-trainer",
        description="Trains a graph neural network on a graph, or infers with one.",
        types=(
            TargetType(
                name="gnn_train",
                description="Trains a model on a graph, then ends.",
                lifetime=Lifetime.FINITE,
                required_fields=("graph_collection", "model_output"),
                optional_fields=("interval", *COMMON_FIELDS),
            ),
            TargetType(
                name="realtime_gnn_infer",
                description="Infers on a live graph at an interval.",
                lifetime=Lifetime.ENDLESS,
                required_fields=("graph_collection",),
                optional_fields=("interval", "model_output", "inference_interval", *COMMON_FIELDS),
            ),
        ),
        parameters=(_TELEMETRY_INTERVAL, _EPOCHS, _LEARNING_RATE),
    )


def _visualizer() -> Target:
    return Target(
        name="visualizer",
        description="Serves live charts of a collection.",
        types=(
            TargetType(
                name="graph_metrics_stream",
                description="Streams the metrics of a graph.",
                lifetime=Lifetime.ENDLESS,
                required_fields=("source",),
            ),
        ),
        parameters=(_TELEMETRY_INTERVAL,),
    )
