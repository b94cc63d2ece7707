"""What a worker is launched with (contracts, section 3).

A `LaunchSpec` is a function of the queue's record, the catalogue and the platform alone, so that it can be computed
again whenever it is needed, and its hash compared. How it becomes a process or a Kubernetes Job is the runners' work;
so is what only they know (`POD_NAME`) and the secrets' values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import msgspec

from queue_manager.server.domain import naming
from queue_manager.server.domain.catalogue import Catalogue, Target, TargetType, TimeRangeEnd
from queue_manager.server.domain.model import Job, Queue

KAFKA_PASSWORD: Final = "kafka-password"  # noqa: S105 - a secret's name
ARANGO_PASSWORD: Final = "arango-password"  # noqa: S105 - a secret's name

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class WorkerKey:
    """Names a worker at the runner. `name` is derived from queue, job and attempt (`naming.worker_name`)."""

    queue_id: str
    job: str
    attempt: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSpec:
    """Everything that a runner needs to start a worker. `spec_hash` covers all of it but the secrets' values."""

    key: WorkerKey
    target: str
    image: str
    command: Sequence[str]
    environment: Mapping[str, str]
    secret_environment: Mapping[str, str]
    """Environment variable → name of the secret that it carries; the runner has the value or a reference to it."""
    spec_hash: str
    timeout: float | None = None
    """Seconds that it may run."""
    start_timeout: float = 0.0
    """Seconds that it may take to run; the manager's affair, told for runners that count both as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What all workers are told of the platform; an empty value is one that the platform does not have.

    The paths and addresses are those that hold where the workers run.
    """

    kafka_bootstrap_servers: str = ""
    kafka_user: str = ""
    kafka_password: bool = False
    """Whether there is one, as the secret `kafka-password`."""
    ca_path: str = ""
    """Where the launcher puts the CA for the worker, never the manager's own path."""
    arango_url: str = ""
    arango_db: str = ""
    arango_user: str = ""
    arango_password: bool = False
    """Whether there is one, as the secret `arango-password`."""
    control_topic: str = ""
    events_topic: str = ""
    namespace: str = ""


def worker_key(queue: Queue, job: Job) -> WorkerKey:
    """The worker of the job's current attempt."""
    attempt = job.status.attempt
    return WorkerKey(queue.queue_id, job.name, attempt, naming.worker_name(queue.queue_id, job.name, attempt))


class LaunchSpecs:
    """What jobs are launched with, given a catalogue and a platform; called with a queue and one of its jobs.

    A job's current attempt is meant. Of the same variable, the job's own value goes before a parameter's, that before
    the target's entry, that before the platform's. Variables without a value are left out: some workers die of an empty
    one. A job whose target the catalogue no longer knows is launched with what its record says.
    """

    def __init__(self, catalogue: Catalogue, platform: Platform) -> None:
        """What does not depend on the job is put together once for each target."""
        self._of_target = {name: _Base.of(target, platform) for name, target in catalogue.targets.items()}
        self._of_unknown = _Base.of(None, platform)

    def __call__(self, queue: Queue, job: Job) -> LaunchSpec:
        """The specification, under the hash that was recorded with the intent to launch it, where there is one.

        By that hash a worker of this attempt is recognised ever after.
        """
        spec = job.spec
        base = self._of_target.get(spec.target, self._of_unknown)
        target, secrets = base.target, base.secrets
        environment = dict(base.environment)
        environment.update(_parameters(job, target))
        environment.update(_of_job(queue, job, target.type_of(spec.type) if target else None))
        return LaunchSpec(
            key=worker_key(queue, job),
            target=spec.target,
            image=spec.image,
            command=base.command,
            environment={name: value for name, value in environment.items() if value and name not in secrets},
            secret_environment=secrets,
            spec_hash=job.status.spec_hash or self.hash_of(queue, job),
            timeout=spec.timeout,
            start_timeout=queue.spec.start_timeout,
        )

    def hash_of(self, queue: Queue, job: Job) -> str:
        """The specification's hash. It is of what the specification is made from, which is sooner done than to make it."""
        base = self._of_target.get(job.spec.target, self._of_unknown)
        own = _CANONICAL.encode(
            (queue.queue_id, queue.spec.symbol, queue.spec.time_range, job.status.attempt, job.spec)
        )
        return hashlib.blake2b(base.digest + own, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class _Base:
    """What all workers of a target have in common."""

    target: Target | None
    command: Sequence[str]
    environment: Mapping[str, str]
    secrets: Mapping[str, str]
    digest: bytes
    """Hash of all this, and of what else of the target a worker is told."""

    @classmethod
    def of(cls, target: Target | None, platform: Platform) -> _Base:
        plaintext = target is not None and target.plaintext_kafka
        command: tuple[str, ...] = ()
        environment, secrets = _platform(platform, plaintext=plaintext), _secrets(platform, plaintext=plaintext)
        rules: list[tuple[str, str, str]] = []
        if target is not None:
            command = tuple(target.command)
            environment |= target.environment
            secrets |= target.secret_environment
            rules += [(rule.name, rule.environment_variable, rule.default_value) for rule in target.parameters]
            rules += [(entry.name, "", entry.time_range_end) for entry in target.types]
        content = _CANONICAL.encode((command, environment, secrets, rules))
        return cls(target, command, environment, secrets, hashlib.blake2b(content, digest_size=16).digest())


def _platform(platform: Platform, *, plaintext: bool) -> dict[str, str]:
    """The platform's values, in every spelling that workers read."""
    user, ca_path = ("", "") if plaintext else (platform.kafka_user, platform.ca_path)
    return {
        "TZ": "UTC",
        "QUEUE_CONTROL_TOPIC": platform.control_topic,
        "CONTROL_TOPIC": platform.control_topic,
        "QUEUE_EVENTS_TOPIC": platform.events_topic,
        "TELEMETRY_TOPIC": platform.events_topic,
        "KAFKA_BOOTSTRAP_SERVERS": platform.kafka_bootstrap_servers,
        "KAFKA_USER": user,
        "KAFKA_USER_PRODUCER": user,
        "KAFKA_USER_CONSUMER": user,
        "CA_PATH": ca_path,
        "KAFKA_CA_PATH": ca_path,
        "ARANGO_URL": platform.arango_url,
        "ARANGO_DB": platform.arango_db,
        "ARANGO_USER": platform.arango_user,
        "K8S_NAMESPACE": platform.namespace,
    }


def _secrets(platform: Platform, *, plaintext: bool) -> dict[str, str]:
    """The platform's secrets, in every spelling that workers read."""
    secrets = {}
    if platform.kafka_password and not plaintext:
        for name in ("KAFKA_PASSWORD", "KAFKA_PASSWORD_PRODUCER", "KAFKA_PASSWORD_CONSUMER"):
            secrets[name] = KAFKA_PASSWORD
    if platform.arango_password:
        secrets["ARANGO_PASSWORD"] = ARANGO_PASSWORD
    return secrets


def _parameters(job: Job, target: Target | None) -> dict[str, str]:
    """The parameters that the target declares: the request's values, else the defaults.

    Those of a target that is no longer known go under the name that they have by default.
    """
    given = job.spec.parameters
    if target is None:
        return {name.upper(): value for name, value in given.items()}
    return {
        parameter.environment_variable: value
        for parameter in target.parameters
        if (value := given.get(parameter.name) or parameter.default_value)
    }


def _of_job(queue: Queue, job: Job, entry: TargetType | None) -> dict[str, str]:
    """The job's own values, in every spelling that workers read; only those that it has."""
    spec = job.spec
    graph = spec.graph_collection or spec.collection_output
    values = {
        "QUEUE_ID": queue.queue_id,
        "SYMBOL": queue.spec.symbol,
        "TYPE": spec.type,
        "TIME_RANGE": _time_range(queue.spec.time_range, entry),
        "INTERVAL": spec.interval,
        "TELEMETRY_PRODUCER_ID": spec.telemetry_id,
        "KAFKA_TOPIC": spec.kafka_topic,
        "COLLECTION_NAME": spec.collection_name,
        "COLLECTION_INPUTS": ",".join(spec.collection_inputs),
        "COLLECTION_OUTPUT": spec.collection_output,
        "GRAPH_COLLECTION": graph,
        "GRAPH_COLLECTION_NAME": graph,
        "MODEL_OUTPUT": spec.model_output,
        "MODEL_NAME": spec.model_output,
        "INFERENCE_INTERVAL": spec.inference_interval,
        "SOURCE": spec.source,
    }
    return {name: value for name, value in values.items() if value}


def _time_range(time_range: str, entry: TargetType | None) -> str:
    """The time range as the type's worker reads it: unchanged, or with the day after as its end."""
    if not time_range or entry is None or entry.time_range_end is TimeRangeEnd.INCLUSIVE:
        return time_range
    first, last = naming.parse_time_range(time_range)
    end = last if last == date.max else last + timedelta(days=1)
    return f"{first.isoformat()}:{end.isoformat()}"
