"""The Job of a worker: golden files, and the promises that they must keep whatever a target says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.patch import merged
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey

GOLDEN = Path(__file__).parent / "golden"
"""Written anew with GOLDEN=write, to be looked at before they are committed."""

QUEUE = "wf-btcusdt-api-trades-20240601-a1b2c3"


def spec(**fields: Any) -> LaunchSpec:
    """A worker of a loader."""
    given = {
        "key": WorkerKey(QUEUE, "loader-producer", 1, "wf-btcusdt-a1b2c3-loader-producer-0123456789-a1"),
        "target": "loader-producer",
        "image": "registry.example.com/loader:1",
        "command": (),
        "environment": {"SYMBOL": "BTCUSDT", "TYPE": "api_trades"},
        "secret_environment": {},
        "spec_hash": "0123abcd",
        **fields,
    }
    return LaunchSpec(**given)


CASES: dict[str, tuple[LaunchSpec, PodOptions]] = {
    "plain": (spec(), PodOptions()),
    "full": (
        spec(
            command=("python", "-m", "loader", "$(KAFKA_PASSWORD)"),
            environment={"SYMBOL": "BTCUSDT", "CA_PATH": "/etc/streamforge/ca.crt", "NOTE": "costs $5"},
            secret_environment={"KAFKA_PASSWORD": "kafka-password", "BINANCE_API_KEY": "binance-api-key"},
            timeout=90.5,
        ),
        PodOptions(
            requests={"cpu": "2", "memory": "4Gi"},
            limits={"memory": "8Gi", "nvidia.com/gpu": "1"},
            node_selector={"pool": "gpu"},
            tolerations=[{"key": "gpu", "operator": "Exists"}],
            image_pull_secrets=["registry"],
            service_account="trainer",
            volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
            volume_mounts=[{"name": "data", "mountPath": "/data"}],
            run_as_user=0,
            run_as_group=0,
            read_only_root=False,
            share_process_namespace=False,
            grace=120,
        ),
    ),
    "patched": (
        spec(),
        PodOptions(
            patch={
                "metadata": {"labels": {"team": "research", manifest.QUEUE_ID: "another"}, "name": "another"},
                "spec": {
                    "ttlSecondsAfterFinished": 0,
                    "suspend": True,
                    "backoffLimit": 3,
                    "podFailurePolicy": None,
                    "template": {
                        "metadata": {"annotations": {"sidecar.istio.io/inject": "false"}},
                        "spec": {
                            "containers": [
                                {"name": "worker", "env": [{"name": "SYMBOL", "$patch": "delete"}]},
                            ],
                            "initContainers": [
                                {
                                    "name": "sidecar",
                                    "image": "registry.example.com/sidecar:1",
                                    "restartPolicy": "Always",
                                },
                            ],
                        },
                    },
                },
            }
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_job_is_as_it_was(name: str) -> None:
    """A change of it is a change of how every worker runs."""
    launch, options = CASES[name]
    made = json.dumps(manifest.job(launch, namespace="workers", secret="secrets", options=options), indent=2) + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(made)
    assert made == path.read_text()


@pytest.mark.parametrize("name", CASES)
def test_a_worker_is_started_once_and_recognised_whatever_a_target_says(name: str) -> None:
    """No second pod, and labels by which it is found."""
    launch, options = CASES[name]
    made = manifest.job(launch, namespace="workers", secret="secrets", options=options)
    assert made["spec"]["backoffLimit"] == 0
    assert "suspend" not in made["spec"]
    assert made["spec"]["podReplacementPolicy"] == "Failed"
    assert made["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"
    assert made["metadata"]["name"] == launch.key.name
    for metadata in (made["metadata"], made["spec"]["template"]["metadata"]):
        assert metadata["labels"].items() >= manifest.labels(launch).items()
        assert metadata["annotations"][manifest.SPEC_HASH] == launch.spec_hash


@pytest.mark.parametrize(
    "containers",
    [[{"name": "beside"}], [{"name": "worker", "$patch": "delete"}, {"name": "other"}]],
    ids=["a second one", "another one"],
)
def test_a_patch_may_not_change_which_container_the_pod_ends_with(containers: list[dict[str, str]]) -> None:
    """It would run on, or never be seen to run."""
    options = PodOptions(patch={"spec": {"template": {"spec": {"containers": containers}}}})
    with pytest.raises(ValueError, match="initContainers, with restartPolicy: Always"):
        manifest.job(spec(), namespace="n", secret="s", options=options)


def test_nothing_of_a_secret_is_in_it_and_nothing_is_put_into_texts() -> None:
    """Kubernetes would put a variable's value for `$(NAME)`, also a secret's, into a command or another variable."""
    launch = spec(
        command=("echo", "$(KAFKA_PASSWORD) $$ $x"),
        environment={"NOTE": "$(KAFKA_PASSWORD)"},
        secret_environment={"KAFKA_PASSWORD": "kafka-password"},
    )
    (container,) = manifest.job(launch, namespace="n", secret="s")["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["echo", "$$(KAFKA_PASSWORD) $$$$ $$x"]
    env = {variable["name"]: variable for variable in container["env"]}
    assert env["NOTE"]["value"] == "$$(KAFKA_PASSWORD)"
    assert env["KAFKA_PASSWORD"] == {
        "name": "KAFKA_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "s", "key": "kafka-password"}},
    }


BASE = {"a": 1, "o": {"x": 1, "y": 2}, "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["a"]}


@pytest.mark.parametrize(
    ("patch", "changed"),
    [
        ({}, {}),
        ({"a": 2, "b": 3}, {"a": 2, "b": 3}),
        ({"o": {"x": None, "z": 3}}, {"o": {"y": 2, "z": 3}}),
        ({"o": {"$patch": "replace", "z": 3}}, {"o": {"z": 3}}),
        ({"args": ["b", "c"]}, {"args": ["b", "c"]}),
        (
            {"env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
            {"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]},
        ),
        ({"env": [{"name": "A", "$patch": "delete"}]}, {"env": [{"name": "B", "value": "2"}]}),
        ({"env": [{"name": "Z", "$patch": "delete"}]}, {}),
        ({"env": [{"$patch": "replace"}, {"name": "C"}]}, {"env": [{"name": "C"}]}),
    ],
)
def test_a_patch_is_laid_over_as_kubernetes_does_it(patch: dict[str, Any], changed: dict[str, Any]) -> None:
    """And what it is laid over stays as it is."""
    before = json.dumps(BASE)
    assert merged(BASE, patch) == {**BASE, **changed}
    assert json.dumps(BASE) == before


def test_a_patch_takes_an_object_away() -> None:
    """By directive or by null."""
    assert merged(BASE, {"o": {"$patch": "delete"}, "env": None}) == {"a": 1, "args": ["a"]}


@pytest.mark.parametrize(
    "patch",
    [{"env": ["A"]}, {"env": [{"value": "1"}]}, {"$retainKeys": ["a"]}, {"o": {"$patch": "remove"}}],
)
def test_what_is_no_patch_is_refused(patch: dict[str, Any]) -> None:
    """Rather than sent as it is."""
    with pytest.raises(ValueError, match=r"\$|elements of env"):
        merged(BASE, patch)
