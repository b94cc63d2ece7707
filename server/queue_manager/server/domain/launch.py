"""What a worker is launched with (contracts, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
