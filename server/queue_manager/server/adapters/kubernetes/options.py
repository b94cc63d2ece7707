"""What a target's pods need beyond the defaults, as operators write it in the catalogue file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec

from queue_manager.server.adapters.kubernetes.resources import DEFAULT_LIMITS, DEFAULT_REQUESTS, Quantity, settled

NOBODY: Final = 65532
"""The user and group of most images without a root user."""


class PodOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is a mapping here is written as Kubernetes has it."""

    requests: Mapping[str, Quantity] = msgspec.field(default_factory=lambda: DEFAULT_REQUESTS)
    limits: Mapping[str, Quantity] = msgspec.field(default_factory=lambda: DEFAULT_LIMITS)
    """Where only one of the two is given, the other one's defaults give way to it."""
    node_selector: Mapping[str, str] = {}
    tolerations: Sequence[Mapping[str, Any]] = ()
    image_pull_secrets: Sequence[str] = ()
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = "IfNotPresent"
    service_account: str = ""
    """Only its pull secrets and its admission rules: no token is given to a worker."""
    volumes: Sequence[Mapping[str, Any]] = ()
    volume_mounts: Sequence[Mapping[str, Any]] = ()
    run_as_user: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = NOBODY
    run_as_group: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = NOBODY
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

    def __post_init__(self) -> None:
        """Raises `ValueError` for an amount that is none. Whether given ones go together is not looked at."""
        requests, limits = settled(self.requests, self.limits)
        msgspec.structs.force_setattr(self, "requests", requests)
        msgspec.structs.force_setattr(self, "limits", limits)


DEFAULT_OPTIONS: Final = PodOptions()


def described(options: PodOptions) -> dict[str, Any]:
    """What is in force, for people and programs: as the contract's `KubernetesOptions` is written in JSON."""
    told: dict[str, Any] = msgspec.to_builtins(options)
    told["grace"] = f"{options.grace}s"
    if not options.patch:
        del told["patch"]
    return told
