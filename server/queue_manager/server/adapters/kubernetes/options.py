"""What a target's pods need beyond the defaults, as operators write it in the catalogue file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

NOBODY: Final = 65532
"""The user and group of most images without a root user."""


Quantity = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][0-9]+)?$")]
"""As Kubernetes writes amounts: `100m`, `256Mi`, `1.5`."""


class PodOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a mapping here is written as Kubernetes has it."""

    requests: Mapping[str, Quantity] = msgspec.field(default_factory=lambda: {"cpu": "100m", "memory": "256Mi"})
    limits: Mapping[str, Quantity] = msgspec.field(default_factory=lambda: {"cpu": "1", "memory": "1Gi"})
    node_selector: Mapping[str, str] = {}
    tolerations: Sequence[Mapping[str, Any]] = ()
    image_pull_secrets: Sequence[str] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    service_account: str = ""
    """Only its pull secrets and its admission rules: no token is given to a worker."""
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    run_as_user: Annotated[int, msgspec.Meta(ge=0)] = NOBODY
    run_as_group: Annotated[int, msgspec.Meta(ge=0)] = NOBODY
    """0 for either: as root, which needs a namespace without the "restricted" Pod Security."""
    read_only_root: bool = True
    """`/tmp` can be written to in any case."""
    share_process_namespace: bool = True
    """Another process than the worker is the pod's first, so that SIGTERM ends a worker that has no handler for it; the
    first process of a container ignores such a signal, and then sits out the whole grace."""
    grace: Annotated[int, msgspec.Meta(ge=1, le=86400)] = 30
    """Seconds between SIGTERM and SIGKILL, where somebody else than the manager ends the pod."""
    patch: Mapping[str, Any] = {}
    """Laid over the Job that was made from all this, as a strategic merge patch."""


DEFAULT_OPTIONS: Final = PodOptions()
