"""What can be set from outside: each variable with its unit, its default and the reason for it, one class a concern.

Values come from the process environment or, where that has none, from a `.env` file in the working directory; an empty
value counts as not set. Durations are seconds or text like `90m`; sizes are bytes or text like `1MiB`. `load_settings`
reports everything that is wrong at once. The names of the platform's variables are those of its own documents
(contracts, section 7); ours begin with `QM_`. What the variables mean together is checked in `setting_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from queue_manager.server.domain.launch import ARANGO_PASSWORD, KAFKA_PASSWORD
from queue_manager.server.domain.timings import Timings
from queue_manager.server.setting_checks import Problem, SettingsError, check, read_environment, unread
from queue_manager.server.setting_types import (
    Duration,
    Listen,
    ListenAddress,
    Namespace,
    PositiveDuration,
    Secret,
    Servers,
    Size,
    Topic,
    Url,
    UserPath,
)


G = TypeVar("G", bound="Group")


def variable(name: str, default: Any, description: str, **rules: Any) -> Any:
    """A setting that is read from the environment variable `name`."""
    return Field(default=default, validation_alias=name, description=description, **rules)


class Group(BaseSettings):
    """A concern's settings."""

    model_config = SettingsConfigDict(
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        case_sensitive=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )


class GrpcSettings(Group):
    """The gRPC server."""

    listen: Listen = variable(
        "QM_GRPC_LISTEN",
        ListenAddress("127.0.0.1", 50051),
        "Address of the gRPC server, `host:port`. Port 0 picks a free one and logs it. Loopback by default, because "
        "calls are not authenticated yet.",
    )
    max_message_bytes: Size = variable(
        "QM_MAX_MESSAGE_BYTES",
        2**20,
        "Largest request that is read, in bytes; larger ones are `RESOURCE_EXHAUSTED`. A request of 100 jobs is below "
        "100 KiB.",
        ge=2**10,
        le=2**30,
    )
    shutdown_grace: Duration = variable(
        "QM_SHUTDOWN_GRACE",
        10.0,
        "How long calls in flight may take to finish when the server stops. Shorter than the 30 s that Kubernetes "
        "waits before it kills.",
    )


class MetricsSettings(Group):
    """The Prometheus endpoint."""

    listen: Listen = variable(
        "QM_METRICS_LISTEN",
        ListenAddress("127.0.0.1", 9090),
        "Address of `/metrics`, `host:port`. Port 0 picks a free one and logs it.",
    )


class StorageSettings(Group):
    """The embedded store, and how long queues are kept."""

    data_dir: UserPath = variable(
        "QM_DATA_DIR",
        Path(".queue-manager"),
        "Directory of the state file `queues.sqlite3` and of local workers' output; made if need be. It belongs to one "
        "server at a time. Below the working directory by default, so that nothing is written anywhere else.",
    )
    retention: PositiveDuration = variable(
        "QM_RETENTION",
        30 * 86400.0,
        "How long queues are kept after they have ended, e.g. `30d`, `12h`, `90m`. A month is long enough to look into "
        "last month's run.",
    )
    history: int = variable(
        "QM_HISTORY",
        512,
        "Events kept of a queue. Watchers that resume from before them get a `RESYNC`. 512 is several lives of a "
        "20-job queue, at about 1 KB each.",
        ge=16,
        le=100_000,
    )


class RunnerSettings(Group):
    """What runs the workers."""

    runner: Literal["local"] = variable(
        "QM_RUNNER",
        "local",
        "What runs the workers. This version has `local`: processes on this machine. `kubernetes` joins in a later "
        "version.",
    )
    namespace: Namespace = variable(
        "K8S_NAMESPACE",
        "",
        "Kubernetes namespace of the workers; handed to them as it is. Default: none with `local`.",
        validate_default=False,
    )


class KafkaSettings(Group):
    """The platform's Kafka. This version hands it to the workers; its own bus is in the process."""

    bootstrap_servers: Servers = variable(
        "KAFKA_BOOTSTRAP_SERVERS",
        "",
        "Kafka brokers, `host:port`, joined by commas. This version hands all `KAFKA_*` to the workers and does not "
        "connect itself. Default: none.",
        validate_default=False,
    )
    user: str = variable("KAFKA_USER", "", "User for SASL_SSL with SCRAM-SHA-512. Default: none, plaintext.")
    password: Secret | None = variable("KAFKA_PASSWORD", None, "Password of `KAFKA_USER`. Never logged or stored.")
    ca_path: UserPath | None = variable(
        "CA_PATH",
        None,
        "File with the certificate authority of the brokers, PEM. It goes with `KAFKA_USER`: with both, Kafka is "
        "SASL_SSL; with neither, plaintext.",
    )
    control_topic: Topic = variable("QUEUE_CONTROL_TOPIC", "queue-control", "Topic of commands to workers.")
    events_topic: Topic = variable("QUEUE_EVENTS_TOPIC", "queue-events", "Topic of workers' telemetry.")


class ArangoSettings(Group):
    """The platform's ArangoDB. This version hands it to the workers; its own store is SQLite."""

    url: Url = variable(
        "ARANGO_URL",
        "",
        "URL of ArangoDB, without credentials, e.g. `http://arangodb:8529`. This version hands all `ARANGO_*` to the "
        "workers and does not connect itself. Default: none.",
        validate_default=False,
    )
    db: str = variable("ARANGO_DB", "", "Database in it.")
    user: str = variable("ARANGO_USER", "", "User for it.")
    password: Secret | None = variable("ARANGO_PASSWORD", None, "Password of `ARANGO_USER`. Never logged or stored.")


class ImageSettings(Group):
    """Images of the built-in targets."""

    loader_producer: str = variable("LOADER_IMAGE", "", "Image of `loader-producer`. Default: the catalogue's.")
    consumer: str = variable("CONSUMER_IMAGE", "", "Image of `arango-connector`. Default: the catalogue's.")
    arango_connector: str = variable("ARANGO_CONNECTOR_IMAGE", "", "The same as `CONSUMER_IMAGE`; set one of them.")
    gnn_trainer: str = variable("GNN_TRAINER_IMAGE", "", "Image of `gnn-trainer`. Default: the catalogue's.")
    visualizer: str = variable("VISUALIZER_IMAGE", "", "Image of `visualizer`. Default: the catalogue's.")
    graph_builder: str = variable("GRAPH_BUILDER_IMAGE", "", "Image of `graph-builder`. Default: the catalogue's.")


class WorkerSettings(Group):
    """How long workers are waited for."""

    start_timeout: PositiveDuration = variable(
        "QM_START_TIMEOUT",
        600.0,
        "How long a job may take from launch to running, where the request does not say. Long enough for a cluster that "
        "first adds a node.",
    )
    stop_grace: Duration = variable(
        "QM_STOP_GRACE",
        30.0,
        "How long workers may take to obey `stop` before they are deleted, where the request does not say. What "
        "Kubernetes gives a pod too.",
    )
    linger_grace: Duration = variable(
        "QM_LINGER_GRACE",
        60.0,
        "How long a worker may go on running after its last message before it is ended; some keep a web server up.",
    )
    drain_settle: Duration = variable(
        "QM_DRAIN_SETTLE",
        2.0,
        "How long a reader must have had nothing left to read before it is ended as done; covers what is on its way.",
    )


class WatchSettings(Group):
    """Streams to watchers."""

    heartbeat: PositiveDuration = variable(
        "QM_HEARTBEAT",
        15.0,
        "A watch stream that has nothing to say sends a heartbeat this often. Below the idle timeouts of usual proxies "
        "(60 s).",
    )
    max_watchers: int = variable(
        "QM_MAX_WATCHERS",
        10_000,
        "Watch streams at a time; one more is `RESOURCE_EXHAUSTED`. Each costs some tens of KB.",
        ge=1,
        le=1_000_000,
    )


class ControllerSettings(Group):
    """The reconcile loop and the intake."""

    sweep: PositiveDuration = variable(
        "QM_SWEEP",
        60.0,
        "Every unfinished queue is looked at this often even if nothing points to it: the safety net, not the way.",
    )
    telemetry_window: Duration = variable(
        "QM_TELEMETRY_INTERVAL",
        0.2,
        "How long telemetry is gathered before it is written: the delay of progress, and what a thousand chatty workers "
        "are merged in. Changes of state do not wait for it.",
    )


class LoggingSettings(Group):
    """The log."""

    format: Literal["console", "json"] | None = variable(
        "QM_LOG_FORMAT", None, "`console` or `json`. Default: `console` on a terminal, else `json`."
    )
    level: Literal["debug", "info", "warning", "error"] = variable(
        "QM_LOG_LEVEL", "info", "Lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )


GROUPS: Final[tuple[type[Group], ...]] = (
    GrpcSettings,
    MetricsSettings,
    StorageSettings,
    RunnerSettings,
    WorkerSettings,
    WatchSettings,
    ControllerSettings,
    LoggingSettings,
    KafkaSettings,
    ArangoSettings,
    ImageSettings,
)
"""In the order in which they are documented."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that is set."""

    grpc: GrpcSettings
    metrics: MetricsSettings
    storage: StorageSettings
    runner: RunnerSettings
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
        found = {KAFKA_PASSWORD: self.kafka.password, ARANGO_PASSWORD: self.arango.password}
        return {name: secret.get_secret_value() for name, secret in found.items() if secret is not None}

    def parts(self) -> list[tuple[str, str, str]]:
        """Which technology each part of the server runs on, and why: (part, choice, reason)."""
        store = bus = "embedded default"
        if self.arango.url:
            store = "ARANGO_* are handed to workers; ArangoDB as the store joins in a later version"
        if self.kafka.bootstrap_servers:
            bus = "KAFKA_* are handed to workers; Kafka as the bus joins in a later version"
        runner = "QM_RUNNER" if "runner" in self.runner.model_fields_set else "embedded default"
        return [("store", "sqlite", store), ("runner", self.runner.runner, runner), ("bus", "in-process", bus)]

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
            start_timeout=self.workers.start_timeout,
            stop_grace=self.workers.stop_grace,
            linger_grace=self.workers.linger_grace,
            drain_settle=self.workers.drain_settle,
        )


def load_settings(env_file: Path = Path(".env")) -> Settings:
    """Read the process environment and `env_file`, if it exists. Raises `SettingsError` with every problem at once."""
    present = read_environment(env_file)
    variables = [field.validation_alias for group in GROUPS for field in group.model_fields.values()]
    problems = {problem.variable: problem for problem in check(present)}
    groups: dict[type[Group], Group] = {}
    for group in GROUPS:
        try:
            groups[group] = group(_env_file=env_file)
        except ValidationError as error:
            for details in error.errors(include_url=False, include_input=False):
                problem = Problem.from_pydantic(details)
                problems.setdefault(problem.variable, problem)
    if problems:
        order = {name: place for place, name in enumerate(variables)}
        raise SettingsError(sorted(problems.values(), key=lambda problem: order.get(problem.variable, len(order))))
    return Settings(
        grpc=_of(groups, GrpcSettings),
        metrics=_of(groups, MetricsSettings),
        storage=_of(groups, StorageSettings),
        runner=_of(groups, RunnerSettings),
        workers=_of(groups, WorkerSettings),
        watch=_of(groups, WatchSettings),
        controller=_of(groups, ControllerSettings),
        logging=_of(groups, LoggingSettings),
        kafka=_of(groups, KafkaSettings),
        arango=_of(groups, ArangoSettings),
        image=_of(groups, ImageSettings),
        notices=unread(present, known=[str(name) for name in variables]),
    )


def _of(groups: Mapping[type[Group], Group], kind: type[G]) -> G:
    group = groups[kind]
    assert isinstance(group, kind)
    return group
