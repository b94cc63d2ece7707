"""The Job of a worker: everything that is sent to Kubernetes, in one place.

Its shape follows from three promises. A worker is started once: no retries, no replacement beside a pod that still
runs, and a pod that is evicted fails its Job instead of getting a successor. A worker may do little: it runs as nobody,
on a read-only file system, without a token (Pod Security "restricted"); a target's `PodOptions` can loosen that. Whatever
happens to the manager, nothing stays for ever: a finished Job is removed after a week.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from queue_manager.server.adapters.kubernetes.options import DEFAULT_OPTIONS, PodOptions
from queue_manager.server.adapters.kubernetes.patch import merged
from queue_manager.server.domain.launch import LaunchSpec

DOMAIN: Final = "queue-manager.streamforge.io"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "queue-manager"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""Finds the Jobs of all queues, and their pods."""

QUEUE_ID: Final = f"{DOMAIN}/queue-id"
JOB: Final = f"{DOMAIN}/job"
ATTEMPT: Final = f"{DOMAIN}/attempt"
SPEC_HASH: Final = f"{DOMAIN}/spec-hash"
RECORDED: Final = f"{DOMAIN}/recorded"

CONTAINER: Final = "worker"
KEPT_UNRECORDED: Final = 7 * 86400
"""Seconds until Kubernetes removes a finished Job whose result nobody has recorded."""
KEPT_RECORDED: Final = 3600
"""Seconds until it removes one whose result is recorded: for people who want to look at its pod."""

START_ALLOWANCE: Final = 300.0
"""Seconds that a job's deadline grants beyond its timeout and its queue's start timeout. Kubernetes counts the time that a
pod waits for a node and for its image; the manager counts from the start, and is there to end the worker in time."""

CA_KEY: Final = "ca.crt"
"""The key of the secret under which the CA of the platform's services is, where there is one."""
CA_PATH: Final = "CA_PATH"
"""The variable that says where the worker is to find it."""


def labels(spec: LaunchSpec) -> dict[str, str]:
    """By which a Job and its pod are found, and recognised."""
    key = spec.key
    return {
        "app.kubernetes.io/name": spec.target,
        "app.kubernetes.io/instance": key.queue_id,
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/part-of": "streamforge",
        MANAGED_BY: MANAGER,
        QUEUE_ID: key.queue_id,
        JOB: key.job,
        ATTEMPT: str(key.attempt),
    }


def job(
    spec: LaunchSpec,
    *,
    namespace: str,
    secret: str,
    options: PodOptions = DEFAULT_OPTIONS,
    start_allowance: float = START_ALLOWANCE,
) -> dict[str, Any]:
    """The Job as JSON. `secret`: the Secret that has the platform's secrets, by name of the secret."""
    identity = {"labels": labels(spec), "annotations": {SPEC_HASH: spec.spec_hash}}
    made = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": spec.key.name, "namespace": namespace, **identity},
        "spec": {
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                # With `Ignore` an evicted worker would be started a second time.
                "rules": [{"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
            },
            "ttlSecondsAfterFinished": KEPT_UNRECORDED,
            **_deadline(spec, start_allowance),
            "template": {"metadata": identity, "spec": _pod(spec, namespace, secret, options)},
        },
    }
    if not options.patch:
        return made
    patched = merged(made, options.patch)
    _restore(patched, made)
    return patched


def _deadline(spec: LaunchSpec, start_allowance: float) -> dict[str, int]:
    return (
        {}
        if spec.timeout is None
        else {"activeDeadlineSeconds": math.ceil(spec.timeout + spec.start_timeout + start_allowance)}
    )


def _pod(spec: LaunchSpec, namespace: str, secret: str, options: PodOptions) -> dict[str, Any]:
    ca_path = spec.environment.get(CA_PATH, "")
    volumes: list[Mapping[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts: list[Mapping[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the container's own
    if ca_path:
        path = PurePosixPath(ca_path)
        items = [{"key": CA_KEY, "path": path.name}]
        volumes.append({"name": "ca", "secret": {"secretName": secret, "items": items}})
        mounts.append({"name": "ca", "mountPath": str(path.parent), "readOnly": True})
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": options.image_pull_policy,
        "env": _environment(spec, namespace, secret),
        "resources": {"requests": dict(options.requests), "limits": dict(options.limits)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": options.read_only_root,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, *options.volume_mounts],
    }
    if spec.command:
        container["command"] = [literal(word) for word in spec.command]
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "shareProcessNamespace": options.share_process_namespace,
        "terminationGracePeriodSeconds": options.grace,
        "securityContext": {
            "runAsNonRoot": options.run_as_user != 0,
            "runAsUser": options.run_as_user,
            "runAsGroup": options.run_as_group,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [*volumes, *options.volumes],
    }
    if options.service_account:
        pod["serviceAccountName"] = options.service_account
    if options.node_selector:
        pod["nodeSelector"] = dict(options.node_selector)
    if options.tolerations:
        pod["tolerations"] = list(options.tolerations)
    if options.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in options.image_pull_secrets]
    return pod


def _environment(spec: LaunchSpec, namespace: str, secret: str) -> list[dict[str, Any]]:
    plain = {"K8S_NAMESPACE": namespace, **spec.environment}
    variables: list[dict[str, Any]] = [{"name": name, "value": literal(plain[name])} for name in sorted(plain)]
    variables.append({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
    for name, key in sorted(spec.secret_environment.items()):
        variables.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return variables


def literal(text: str) -> str:
    """A text that Kubernetes leaves as it is: `$(NAME)` would be replaced by that variable, a secret's value included."""
    return text.replace("$", "$$")


ONCE: Final = (
    *("completions", "parallelism", "backoffLimit", "podReplacementPolicy", "podFailurePolicy"),
    "ttlSecondsAfterFinished",
)
"""Fields of a Job's specification by which its worker is started once, and its result stays until it is recorded."""


NEVER: Final = ("suspend", "selector", "manualSelector", "completionMode", "successPolicy")
"""Fields with which it would not start, or be another kind of Job."""


def _restore(patched: dict[str, Any], made: Mapping[str, Any]) -> None:
    """Put back what a patch may not change: that it is started once, and what it is found and recognised by.

    Raises `ValueError` where the pod would not end with its worker.
    """
    containers = [container.get("name") for container in patched["spec"]["template"]["spec"]["containers"]]
    if containers != [CONTAINER]:
        raise ValueError(
            f"the pod's containers would be {', '.join(map(str, containers)) or 'none'}, and it has to end with "
            f"{CONTAINER}; what runs beside it is one of initContainers, with restartPolicy: Always"
        )
    patched["spec"].update({field: made["spec"][field] for field in ONCE})
    for field in NEVER:
        patched["spec"].pop(field, None)
    ours = made["metadata"]
    patched["metadata"].update(name=ours["name"], namespace=ours["namespace"])
    for metadata in (patched["metadata"], patched["spec"]["template"].setdefault("metadata", {})):
        for field in ("labels", "annotations"):
            metadata[field] = {**(metadata.get(field) or {}), **ours[field]}
