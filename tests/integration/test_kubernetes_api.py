"""Calls and the reflector on a real API server: KUBECONFIG names it."""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import pytest
from google.protobuf.message import Message
from kubernetes_asyncio.client import ApiClient, BatchV1Api, CoreV1Api

from bench.kubernetes.cluster import Cluster
from queue_manager.server.adapters.kubernetes.api import PROTOBUF, Api, Refusal
from queue_manager.server.adapters.kubernetes.encoding import encode
from queue_manager.server.adapters.kubernetes.objects import EVENTS, JOBS, PODS, Kind
from queue_manager.server.adapters.kubernetes.reflector import Reflector
from queue_manager.wire import kubernetes_pb2 as wire
from tests.support.fake_kubernetes import encoded
from tests.support.kubernetes import cluster
from tests.support.local_workers import PATIENCE, until

MANIFESTS = sorted((Path(__file__).parent.parent / "unit/adapters/kubernetes/golden").glob("*.json"))

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The cluster's API, in the namespace of the kubeconfig."""
    async with await Api.connect() as opened:
        yield opened


def job(name: str, label: str) -> dict[str, Any]:
    """A Job that makes no pods."""
    container = {"name": "worker", "image": "example.com/none:1"}
    return {
        "metadata": {"name": name, "labels": {"queue-manager-test": label}},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


async def test_a_name_is_taken_once(api: Api) -> None:
    """The second create is refused with the reason by which it is known."""
    name = f"qm-test-{uuid.uuid4().hex[:8]}"
    created = await api.ask(JOBS.read, "create", "jobs", body=job(name, name))
    try:
        with pytest.raises(Refusal) as refused:
            await api.call("create", "jobs", body=job(name, name))
        assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")
        found = await api.ask(JOBS.read, "get", "jobs", name)
        assert found.metadata.uid == created.metadata.uid
        assert found.ending is None
    finally:
        await api.call("delete", "jobs", name, body={"propagationPolicy": "Background"})
    with pytest.raises(Refusal) as gone:
        await api.call("get", "jobs", name)
    assert gone.value.code == 404


async def test_the_reflector_sees_what_was_there_what_comes_and_what_goes(api: Api) -> None:
    """Only what carries the label."""
    label = uuid.uuid4().hex[:8]
    names = [f"qm-test-{label}-{number}" for number in range(3)]
    await api.call("create", "jobs", body=job(names[0], label))
    befallen: list[str] = []
    jobs = Reflector(
        api,
        JOBS,
        f"queue-manager-test={label}",
        changed=lambda _: None,
        rng=Random(1),
        observe=lambda _, befell: befallen.append(befell),
    )
    task = asyncio.create_task(jobs.run())
    try:
        await until(lambda: sorted(jobs.objects) == names[:1])
        for name in names[1:]:
            await api.call("create", "jobs", body=job(name, label))
        await until(lambda: sorted(jobs.objects) == names)
        for name in names:
            await api.call("delete", "jobs", name, body={"propagationPolicy": "Background"})
        await until(lambda: not jobs.objects)
        assert befallen == ["relist"]
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_rate_is_kept_to(namespace: str) -> None:
    """In bursts of as many calls as are allowed in a second."""
    async with await Api.connect(namespace, rate=20) as api:
        began = monotonic()
        await asyncio.gather(*(api.call("list", "jobs") for _ in range(60)))
        assert monotonic() - began > 1.9


NOW = "2026-01-02T03:04:05Z"
CONTAINERS = [
    {"name": "worker", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled", "startedAt": NOW}}},
    {"name": "beside", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}},
    {"name": "third", "state": {"running": {"startedAt": NOW}}},
]
COMMON: dict[str, Any] = {"ready": False, "restartCount": 0, "image": "none", "imageID": ""}
POD_STATUS = {
    "phase": "Failed",
    "reason": "Evicted",
    "message": "the node was low on memory",
    "conditions": [
        {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "EvictionByEvictionAPI",
            "message": "evicted",
            "lastTransitionTime": NOW,
        }
    ],
    "containerStatuses": [{**COMMON, **status} for status in CONTAINERS],
    "initContainerStatuses": [{**COMMON, "name": "first", "state": {"terminated": {"exitCode": 2, "message": "no"}}}],
}


async def read_both_ways(
    client: ApiClient, api: Api, url: str, kind: Kind[Any, Any], message: type[Message]
) -> tuple[list[Any], list[Any]]:
    """All objects of a kind from the API's JSON, and as they are read; controllers write, so both in the same versions."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await client.call_api(url, "GET", response_types_map={}, _preload_content=False)
            items = (await answer.json())["items"]
            read = (await api.ask(kind.read_list, "list", kind.resource)).items
            versions = {item["metadata"]["name"]: item["metadata"]["resourceVersion"] for item in items}
            if {each.metadata.name: each.metadata.resource_version for each in read} == versions:
                return [kind.read(encoded(message, item)) for item in items], list(read)


async def test_what_is_read_over_the_wire_is_what_json_says(namespace: str) -> None:
    """The oracle of the field numbers: the API's own JSON of the same objects, every field that is read among them."""
    container = {"name": "worker", "image": "example.com/none:1"}
    identity = {"name": "a", "labels": {"x": "y"}, "annotations": {"note": "n"}, "finalizers": ["example.com/stay"]}
    pod: Any = {"metadata": identity, "spec": {"schedulerName": "nobody", "containers": [container]}}
    noted = {"apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "some-uid"}
    event: Any = {
        "metadata": {"name": "e"},
        "involvedObject": {**noted, "namespace": namespace},
        "reason": "R",
        "message": "m",
        "lastTimestamp": NOW,
    }
    async with cluster() as client, await Api.connect(namespace) as api:
        core, batch = CoreV1Api(client), BatchV1Api(client)
        await core.create_namespaced_pod(namespace, pod)
        await core.patch_namespaced_pod_status("a", namespace, {"status": POD_STATUS})
        await core.create_namespaced_event(namespace, event)
        suspended: Any = {**job("a", "x"), "metadata": identity}
        await batch.create_namespaced_job(namespace, suspended)
        ended = [
            {"type": kind, "status": "True", "reason": "R", "message": "m"} for kind in ("FailureTarget", "Failed")
        ]
        status = {"startTime": NOW, "failed": 1, "conditions": ended}
        await batch.patch_namespaced_job_status("a", namespace, {"status": status})
        try:
            await core.delete_namespaced_pod("a", namespace)
            await batch.delete_namespaced_job("a", namespace, propagation_policy="Background")
            kinds: list[tuple[Kind[Any, Any], Any, str]] = [
                (PODS, wire.Pod, "/api/v1"),
                (JOBS, wire.Job, "/apis/batch/v1"),
                (EVENTS, wire.Event, "/api/v1"),
            ]
            for kind, message, group in kinds:
                url = f"{group}/namespaces/{namespace}/{kind.resource}"
                expected, read = await read_both_ways(client, api, url, kind, message)
                assert expected, kind.resource
                assert read == expected
            (seen,) = (await api.ask(PODS.read_list, "list", "pods")).items
            assert (seen.container("worker").terminated.exit_code, seen.metadata.deletion_grace) == (137, 0)  # type: ignore[union-attr]
            assert seen.metadata.deletion_time is not None
            assert seen.metadata.creation_time is not None
        finally:
            nothing = {"metadata": {"finalizers": None}}
            await core.patch_namespaced_pod("a", namespace, nothing)
            await batch.patch_namespaced_job("a", namespace, nothing)


@pytest.mark.parametrize("manifest", [pytest.param(path.read_text(), id=path.stem) for path in MANIFESTS])
async def test_a_job_sent_as_protobuf_is_the_one_that_json_makes(manifest: str, namespace: str) -> None:
    """In every field, and every field that counts as set."""
    document = json.loads(manifest)
    document["metadata"]["namespace"] = namespace
    sent = encode(document)
    assert sent is not None
    bodies = {PROTOBUF: sent, "application/json": json.dumps(document).encode()}
    async with Cluster() as kubernetes:
        kubernetes.name = namespace
        made = [
            json.loads(await kubernetes.call("POST", kubernetes.jobs, body, kind=kind, query={"dryRun": "All"}))
            for kind, body in bodies.items()
        ]
    for job in made:
        uid = job["metadata"].pop("uid")
        del job["metadata"]["creationTimestamp"], job["metadata"]["managedFields"][0]["time"]
        labels = (job["spec"]["selector"]["matchLabels"], job["spec"]["template"]["metadata"]["labels"])
        assert {found.pop("batch.kubernetes.io/controller-uid") for found in labels} == {uid}
        job["spec"]["template"]["metadata"]["labels"].pop("controller-uid")
    assert made[0] == made[1]
