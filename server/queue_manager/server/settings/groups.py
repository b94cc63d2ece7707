"""The settings, one class a concern: each variable with its unit, its default and the reason for it.

The descriptions are also what README's table and the error messages are made of. The names of the platform's variables
are those of its own documents (contracts, section 7); ours begin with `QM_`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from queue_manager.server.settings.http_kinds import GrpcName, Hosts, Origins, WithinADay
from queue_manager.server.settings.kinds import (
    Duration,
    Listen,
    ListenAddress,
    Lowered,
    Namespace,
    PositiveDuration,
    Secret,
    SecretName,
    Servers,
    Size,
    Topic,
    Url,
    UserPath,
)


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
        enable_decoding=False,  # no value is JSON
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
        "Largest request that is read, in bytes; larger ones are `RESOURCE_EXHAUSTED`. A request of 64 jobs is below "
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

    runner: Annotated[Literal["local", "kubernetes"], Lowered] = variable(
        "QM_RUNNER",
        "local",
        "What runs the workers: `local`, processes on this machine, or `kubernetes`, a Job for each, in the cluster of "
        "`KUBECONFIG` (or `~/.kube/config`), else in the one that the server itself runs in.",
    )
    namespace: Namespace = variable(
        "K8S_NAMESPACE",
        "",
        "Kubernetes namespace of the workers; handed to them as it is. Default: the kubeconfig's or the pod's own; none "
        "with `local`.",
        validate_default=False,
    )
    secret: SecretName = variable(
        "QM_KUBERNETES_SECRET",
        "streamforge-workers",
        "Kubernetes Secret in the workers' namespace from which they get passwords (keys `kafka-password` and "
        "`arango-password`, where the server has that password itself, and those that targets name) and, where `CA_PATH` "
        "is set, the CA (key `ca.crt`). The Deployment in `deploy/base` names it, too.",
    )
    pull_grace: Duration = variable(
        "QM_KUBERNETES_PULL_GRACE",
        180.0,
        "How long a pod may wait for its image before its job has failed. A registry that is restarted is back by then.",
    )
    schedule_grace: Duration = variable(
        "QM_KUBERNETES_SCHEDULE_GRACE",
        480.0,
        "How long a pod may wait for a node before its job has failed. An autoscaler needs some minutes for a new one. "
        "More than a request's `start_timeout` (ten minutes where it says nothing) is not waited.",
    )

    rate: float = variable(
        "QM_KUBERNETES_RATE",
        0.0,
        "Calls a second that are made to the Kubernetes API at most, in bursts of as many; watches are not counted. 0: no "
        "limit, because the API limits its callers itself (priority and fairness), and what it asks for is heeded.",
        ge=0,
        le=100_000,
    )
    orphans: Annotated[Literal["report", "end"], Lowered] = variable(
        "QM_ORPHANS",
        "report",
        "What is done about workers that no record knows: `report` (metric `queue_manager_orphaned_workers`, `queuectl "
        "doctor`), or `end`, which kills another manager's workers where one uses the same namespace with a state of its "
        "own.",
    )

    @property
    def on_kubernetes(self) -> bool:
        """Workers are Kubernetes Jobs."""
        return self.runner == "kubernetes"


class CatalogueSettings(Group):
    """What can be launched."""

    file: UserPath | None = variable(
        "QM_CATALOGUE",
        None,
        "YAML file with targets beside or over the built-in ones (docs/catalogue.md). Default: none.",
    )


class KafkaSettings(Group):
    """Kafka, the platform's bus: the server's own way to its workers, and what it hands to them."""

    bootstrap_servers: Servers = variable(
        "KAFKA_BOOTSTRAP_SERVERS",
        "",
        "Kafka brokers, `host:port`, joined by commas. With it, commands, telemetry and events go over Kafka, and workers "
        "are handed all `KAFKA_*`, too. Default: none, a bus in the process.",
        validate_default=False,
    )
    user: str = variable("KAFKA_USER", "", "User for SASL_SSL with SCRAM-SHA-512. Default: none, plaintext.")
    password: Secret | None = variable("KAFKA_PASSWORD", None, "Password of `KAFKA_USER`. Never logged or stored.")
    ca_path: UserPath | None = variable(
        "CA_PATH",
        None,
        "File with the certificate authority of the brokers, PEM. It goes with `KAFKA_USER`: with both, Kafka is "
        "SASL_SSL; with neither, plaintext. Read again when it changes.",
    )
    protocol: Literal["", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = variable(
        "QM_KAFKA_PROTOCOL",
        "",
        "Security protocol of the server's own connections, where it is another one than `KAFKA_USER` and `CA_PATH` make "
        "of it: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT`, `SASL_SSL`. Without `CA_PATH`, the system's authorities count.",
    )
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = variable(
        "QM_KAFKA_MECHANISM",
        "SCRAM-SHA-512",
        "How the server logs in with SASL: `SCRAM-SHA-512`, `SCRAM-SHA-256`, `PLAIN`.",
    )
    password_file: UserPath | None = variable(
        "QM_KAFKA_PASSWORD_FILE",
        None,
        "File with the password of `KAFKA_USER`, instead of `KAFKA_PASSWORD`. Read again when it changes.",
    )
    certificate: UserPath | None = variable(
        "QM_KAFKA_CERTIFICATE",
        None,
        "File with the server's own certificate and its chain, PEM, where the brokers ask for one (mutual TLS). Read again "
        "when it changes. Default: none.",
    )
    key: UserPath | None = variable(
        "QM_KAFKA_KEY",
        None,
        "File with the key of `QM_KAFKA_CERTIFICATE`, PEM, not encrypted. Read again when it changes.",
    )
    control_topic: Topic = variable("QUEUE_CONTROL_TOPIC", "queue-control", "Topic of commands to workers.")
    events_topic: Topic = variable(
        "QUEUE_EVENTS_TOPIC", "queue-events", "Topic of workers' telemetry, and of the server's own events."
    )
    group: Topic = variable(
        "QM_KAFKA_GROUP",
        "queue-manager",
        "What the server's consumer groups begin with. Servers of one name share the topics' partitions.",
    )
    create_topics: bool = variable(
        "QM_KAFKA_CREATE_TOPICS",
        True,
        "Whether the server makes the two topics where they are missing. Queues' data topics are made in any case.",
    )
    partitions: int = variable(
        "QM_KAFKA_PARTITIONS",
        12,
        "Partitions of the two topics, when they are made: as many servers can share the work. Adding some later moves "
        "keys to other ones.",
        ge=1,
        le=1000,
    )
    data_partitions: int = variable(
        "QM_KAFKA_DATA_PARTITIONS",
        3,
        "Partitions of a queue's data topic: as many connectors can share it.",
        ge=1,
        le=1000,
    )
    replication: int = variable(
        "QM_KAFKA_REPLICATION",
        3,
        "Copies of each partition that is made, where there are so many brokers.",
        ge=1,
        le=15,
    )
    retention: PositiveDuration = variable(
        "QM_KAFKA_RETENTION",
        7 * 86400.0,
        "How long the two topics keep messages, when they are made. Longer than a server is ever down.",
    )

    def secret(self) -> str | None:
        """The password, if there is one; of a file, what it says now. Raises `OSError`, `UnicodeDecodeError`."""
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").strip()
        return None if self.password is None else self.password.get_secret_value()


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
        "How long telemetry is gathered before it is written: the delay of progress, and what a thousand chatty "
        "workers are merged in.",
    )


class LoggingSettings(Group):
    """The log."""

    format: Annotated[Literal["console", "json"] | None, Lowered] = variable(
        "QM_LOG_FORMAT", None, "`console` or `json`. Default: `console` on a terminal, else `json`."
    )
    level: Annotated[Literal["debug", "info", "warning", "error"], Lowered] = variable(
        "QM_LOG_LEVEL", "info", "Lowest level that is logged: `debug`, `info`, `warning` or `error`."
    )


class GatewaySettings(Group):
    """The HTTP gateway, a process of its own."""

    listen: Listen = variable(
        "QM_HTTP_LISTEN",
        ListenAddress("127.0.0.1", 8080),
        "Address of the gateway (`queue-manager gateway`), `host:port`. Port 0 picks a free one and logs it. Loopback by "
        "default, because calls are not authenticated yet.",
    )
    server: GrpcName = variable(
        "QM_SERVER",
        "127.0.0.1:50051",
        "The server that the client, `queuectl` and the gateway call, `host:port` or another name that gRPC knows "
        "(`dns:///…`, `unix:…`); the server does not read it.",
    )
    origins: Origins = variable(
        "QM_HTTP_CORS_ORIGINS",
        (),
        "Origins of other sites whose pages may call the gateway, e.g. `https://board.example.com`, separated by commas; "
        "`*` for any. Default: none.",
    )
    hosts: Hosts = variable(
        "QM_HTTP_HOSTS",
        (),
        "Names or IP addresses by which the gateway is called, separated by commas, without ports; requests for another "
        "`Host` are refused. `*`: any name will do. Default: any, and where it listens on loopback `localhost`, "
        "`127.0.0.1`, `[::1]` and the host of `QM_HTTP_LISTEN`.",
    )
    timeout: Annotated[PositiveDuration, WithinADay] = variable(
        "QM_HTTP_TIMEOUT",
        30.0,
        "How long a call through the gateway may take where the request has no `Grpc-Timeout`. Streams have no limit.",
    )
    max_body_bytes: Size = variable(
        "QM_HTTP_MAX_BODY_BYTES",
        2**20,
        "Largest body of a request to the gateway, in bytes, 64 MiB at most; larger ones get 413. As much as the "
        "server reads; it is held in memory whole.",
        ge=2**10,
        le=2**26,
    )
    body_timeout: Annotated[PositiveDuration, WithinADay] = variable(
        "QM_HTTP_BODY_TIMEOUT",
        10.0,
        "How long a body may take to come; slower ones get 408. As long may a new connection take for its first request.",
    )
    max_streams: int = variable(
        "QM_HTTP_MAX_STREAMS",
        10_000,
        "Streams that the gateway keeps open at a time; one more gets 429. Each costs some tens of KB.",
        ge=1,
        le=1_000_000,
    )


GROUPS: Final[tuple[type[Group], ...]] = (
    GrpcSettings,
    MetricsSettings,
    StorageSettings,
    RunnerSettings,
    CatalogueSettings,
    WorkerSettings,
    WatchSettings,
    ControllerSettings,
    LoggingSettings,
    KafkaSettings,
    ArangoSettings,
    ImageSettings,
)
"""What the server reads, in the order in which they are documented."""

GATEWAY: Final[tuple[type[Group], ...]] = (GatewaySettings, LoggingSettings)
"""What the gateway reads."""
