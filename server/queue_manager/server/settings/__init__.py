"""What can be set from outside, and how it is read.

Values come from the process environment or, where that has none, from a `.env` file in the working directory; an empty
value counts as not set. Durations are seconds or text like `90m`; sizes are bytes or text like `1MiB`. `load_settings`
reports everything that is wrong at once. Which variables there are is in `groups`, how values are written in `kinds`,
what they mean together in `checks`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from queue_manager.server.domain.launch import ARANGO_PASSWORD, KAFKA_PASSWORD
from queue_manager.server.domain.timings import Timings
from queue_manager.server.settings.checks import Problem, SettingsError, check, read_environment, unread
from queue_manager.server.settings.groups import (
    GATEWAY,
    GROUPS,
    ArangoSettings,
    CatalogueSettings,
    ControllerSettings,
    GatewaySettings,
    Group,
    GrpcSettings,
    ImageSettings,
    KafkaSettings,
    LoggingSettings,
    MetricsSettings,
    RunnerSettings,
    StorageSettings,
    WatchSettings,
    WorkerSettings,
)
from queue_manager.server.settings.kinds import ListenAddress

__all__ = [
    "ArangoSettings",
    "CatalogueSettings",
    "ControllerSettings",
    "GatewaySettings",
    "GrpcSettings",
    "ImageSettings",
    "KafkaSettings",
    "ListenAddress",
    "LoggingSettings",
    "MetricsSettings",
    "RunnerSettings",
    "Settings",
    "SettingsError",
    "StorageSettings",
    "WatchSettings",
    "WorkerSettings",
    "load_gateway_settings",
    "load_settings",
]

G = TypeVar("G", bound=Group)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is set."""

    grpc: GrpcSettings
    metrics: MetricsSettings
    storage: StorageSettings
    runner: RunnerSettings
    catalogue: CatalogueSettings
    workers: WorkerSettings
    watch: WatchSettings
    controller: ControllerSettings
    logging: LoggingSettings
    kafka: KafkaSettings
    arango: ArangoSettings
    image: ImageSettings
    notices: Sequence[str] = ()
    """What is odd but no error: variables that look like ours and that nobody reads."""

    def secrets(self) -> dict[str, str]:
        """The secrets that are set, by the name that workers' environments refer to."""
        arango = self.arango.password
        found = {
            KAFKA_PASSWORD: self.kafka.secret(),
            ARANGO_PASSWORD: None if arango is None else arango.get_secret_value(),
        }
        return {name: secret for name, secret in found.items() if secret is not None}

    def parts(self) -> list[tuple[str, str, str]]:
        """Which technology each part of the server runs on, and why: (part, choice, reason)."""
        store = "embedded default"
        if self.arango.url:
            store = "ARANGO_* are handed to workers; ArangoDB as the store joins in a later version"
        runner = "QM_RUNNER" if "runner" in self.runner.model_fields_set else "embedded default"
        on_kafka = bool(self.kafka.bootstrap_servers)
        bus = ("kafka", "KAFKA_BOOTSTRAP_SERVERS") if on_kafka else ("in-process", "embedded default")
        return [("store", "sqlite", store), ("runner", self.runner.runner, runner), ("bus", *bus)]

    def images(self) -> dict[str, str]:
        """The images that are set, by target."""
        found = {
            "loader-producer": self.image.loader_producer,
            "arango-connector": self.image.consumer or self.image.arango_connector,
            "gnn-trainer": self.image.gnn_trainer,
            "visualizer": self.image.visualizer,
            "graph-builder": self.image.graph_builder,
        }
        return {target: image for target, image in found.items() if image}

    def timings(self) -> Timings:
        """What of the core's timings can be set."""
        return Timings(
            stop_grace=self.workers.stop_grace,
            linger_grace=self.workers.linger_grace,
            drain_settle=self.workers.drain_settle,
        )


def load_gateway_settings(env_file: Path = Path(".env")) -> tuple[GatewaySettings, LoggingSettings, Sequence[str]]:
    """What the gateway is told, read in the same way, and what is odd but no error. Raises `SettingsError`.

    What is wrong with the server's variables is the server's business.
    """
    groups, notices = _load(GATEWAY, env_file, [])
    return _of(groups, GatewaySettings), _of(groups, LoggingSettings), notices


def load_settings(env_file: Path = Path(".env")) -> Settings:
    """Read the process environment and `env_file`, if it exists. Raises `SettingsError` with every problem at once."""
    groups, notices = _load(GROUPS, env_file, check(read_environment(env_file)))
    return Settings(
        grpc=_of(groups, GrpcSettings),
        metrics=_of(groups, MetricsSettings),
        storage=_of(groups, StorageSettings),
        runner=_of(groups, RunnerSettings),
        catalogue=_of(groups, CatalogueSettings),
        workers=_of(groups, WorkerSettings),
        watch=_of(groups, WatchSettings),
        controller=_of(groups, ControllerSettings),
        logging=_of(groups, LoggingSettings),
        kafka=_of(groups, KafkaSettings),
        arango=_of(groups, ArangoSettings),
        image=_of(groups, ImageSettings),
        notices=notices,
    )


def _load(
    wanted: Sequence[type[Group]], env_file: Path, found: Iterable[Problem]
) -> tuple[Mapping[type[Group], Group], Sequence[str]]:
    """The groups, and what is odd. `found`: problems that are known already."""
    variables = [name for group in wanted for name in variables_of(group)]
    problems = {problem.variable: problem for problem in found}
    groups: dict[type[Group], Group] = {}
    for group in wanted:
        try:
            groups[group] = group(_env_file=env_file)  # type: ignore[call-arg]  # BaseSettings takes it
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                problem = Problem.from_pydantic(details)
                problems.setdefault(problem.variable, problem)
    if problems:
        order = {name: place for place, name in enumerate(variables)}
        raise SettingsError(sorted(problems.values(), key=lambda problem: order.get(problem.variable, len(order))))
    known = [name for group in dict.fromkeys((*GROUPS, *GATEWAY)) for name in variables_of(group)]
    return groups, unread(read_environment(env_file), known)


def variables_of(group: type[Group]) -> Sequence[str]:
    """The names of a group's variables."""
    return [str(field.validation_alias) for field in group.model_fields.values()]


def _of(groups: Mapping[type[Group], Group], kind: type[G]) -> G:
    group = groups[kind]
    assert isinstance(group, kind)
    return group
