"""A namespace of a real cluster for a test, and tools to look into it and to break things there."""

from __future__ import annotations

import asyncio
import base64
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
from kubernetes_asyncio.client import (
    ApiClient,
    ApiException,
    BatchV1Api,
    Configuration,
    CoreV1Api,
    V1Namespace,
    V1ObjectMeta,
    V1Secret,
)
from kubernetes_asyncio.config.kube_config import load_kube_config

from queue_manager.server.adapters.inprocess.bus import InProcessBus
from queue_manager.server.adapters.kubernetes.api import TIMEOUT, Api, Observer
from queue_manager.server.adapters.kubernetes.diagnosis import PATIENT, Patience
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.adapters.sqlite.store import SqliteStore
from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.domain.catalogue import Catalogue, Target, TargetType
from queue_manager.server.domain.launch import Platform
from queue_manager.server.domain.model import JobState, Lifetime, Queue, Reason
from queue_manager.server.domain.request import JobRequest, StartRequest
from queue_manager.server.domain.timings import Timings
from queue_manager.server.rpc.convert import encode_event
from queue_manager.server.rpc.encoder import QueueEncoder
from tests.support.local_workers import WallClock, until

SECRET = "streamforge-workers"
BUSYBOX = "localhost/busybox:1"

needs_cluster = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster")


@asynccontextmanager
async def cluster() -> AsyncIterator[ApiClient]:
    """The cluster, with all rights."""
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield client


@asynccontextmanager
async def core_api() -> AsyncIterator[CoreV1Api]:
    """The cluster's core API, with all rights."""
    async with cluster() as client:
        yield CoreV1Api(client)


async def make_namespace(secrets: Mapping[str, str], labels: Mapping[str, str] | None = None) -> str:
    """A new namespace with the workers' Secret, once pods are let in: its name."""
    name = f"qm-test-{uuid.uuid4().hex[:8]}"
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()}
    async with core_api() as core:
        await core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name, labels=dict(labels or {}))))
        await core.create_namespaced_secret(name, V1Secret(metadata=V1ObjectMeta(name=SECRET), data=data))

        async def has_account() -> bool:  # a controller makes it; pods that come before it are refused
            try:
                await core.read_namespaced_service_account("default", name)
            except ApiException as error:
                if error.status != 404:
                    raise
                return False
            return True

        await until(has_account, within=60)
    return name


async def remove_namespace(name: str) -> None:
    """It goes, with all that is in it, in its own time."""
    async with core_api() as core:
        await core.delete_namespace(name)


async def delete_job(namespace: str, name: str, *, propagation: str = "Background") -> None:
    """Behind the manager's back; with `Orphan` its pod stays."""
    async with cluster() as client:
        await BatchV1Api(client).delete_namespaced_job(name, namespace, propagation_policy=propagation)


@asynccontextmanager
async def manager(
    namespace: str,
    folder: Path,
    catalogue: Catalogue,
    options: Mapping[str, PodOptions],
    patience: Patience = PATIENT,
    *,
    timeout: float = TIMEOUT,
    observe: Observer = lambda *_: None,
) -> AsyncIterator[Core]:
    """A manager's core, whose workers are pods of this namespace."""
    clock = WallClock()
    async with (
        await Api.connect(namespace, timeout=timeout, observe=observe) as api,
        KubernetesRunner(
            api, rng=Random(1), clock=clock, secret=SECRET, options=options, patience=patience, unheard=True
        ) as runner,
        SqliteStore(folder) as store,
        InProcessBus(folder, clock=clock) as bus,
    ):
        core = Core(
            store=store,
            runner=runner,
            bus=bus,
            clock=clock,
            rng=Random(),
            catalogue=catalogue,
            platform=Platform(),
            settings=CoreSettings(timings=Timings(verdict_grace=0.5, delete_retry=2.0)),
            encode_queue=QueueEncoder(),
            encode_event=encode_event,
            instruments=Instruments(),
        )
        working = asyncio.create_task(core.run())
        await core.ready.wait()
        try:
            yield core
        finally:
            await core.service.drain()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)


OF_TYPES: Final = ("lifetime", "feeds", "reads", "consumer_group")


def target(name: str, script: str, *, image: str = BUSYBOX, **more: Any) -> Target:
    """A target that runs a shell script to its end, where its `lifetime` is not another one."""
    of_type = {"lifetime": Lifetime.FINITE} | {key: more.pop(key) for key in OF_TYPES if key in more}
    kind = TargetType(name="run", default_image=image, **of_type)
    return Target(name=name, types=(kind,), command=("/bin/sh", "-c", script), **more)


class Brief:
    """The target `brief`, whose worker runs until the test lets it go. No API is needed for that: a folder does."""

    def __init__(self, folder: Path) -> None:
        """`folder`: on the node, which is this machine."""
        self._folder = folder / "brief"
        self._folder.mkdir()
        self._folder.chmod(0o777)  # workers run as nobody
        self.target = target("brief", "until [ -e /brief/go ]; do sleep 0.1; done; echo > /brief/gone")
        self.options = PodOptions(
            volumes=[{"name": "brief", "hostPath": {"path": str(self._folder)}}],
            volume_mounts=[{"name": "brief", "mountPath": "/brief"}],
        )

    async def ends(self) -> None:
        """Let it go, and wait until it has gone."""
        (self._folder / "go").touch()
        await until((self._folder / "gone").exists)


def start(*targets: str, **fields: Any) -> StartRequest:
    """A queue of these targets."""
    return StartRequest(symbol="BTCUSDT", requests=[JobRequest(target=name, type="run") for name in targets], **fields)


async def begun(core: Core, *targets: str) -> str:
    """A queue of these targets."""
    return (await core.service.start(start(*targets), requested_by="tests")).queue.queue_id


async def until_all(core: Core, queue_id: str, state: JobState, reason: Reason | None = None) -> Queue:
    """Wait until all jobs of a queue are in this state."""

    async def there() -> bool:
        jobs = (await core.service.get(queue_id)).jobs
        return all(
            job.status.state is state and (reason is None or (job.status.reason and job.status.reason.code is reason))
            for job in jobs
        )

    await until(there, within=60)
    return await core.service.get(queue_id)


async def pods_of(namespace: str) -> dict[str, int]:
    """By Job: how many pods it has."""
    async with core_api() as cluster:
        found: dict[str, int] = {}
        for pod in (await cluster.list_namespaced_pod(namespace)).items:
            name = pod.metadata.labels["batch.kubernetes.io/job-name"]
            found[name] = found.get(name, 0) + 1
        return found


async def unfinished_pods(namespace: str, selector: str = "") -> list[str]:
    """The pods that have not ended."""
    async with core_api() as cluster:
        pods = (await cluster.list_namespaced_pod(namespace, label_selector=selector)).items
    return [pod.metadata.name for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]


async def until_none_runs(namespace: str, selector: str = "", *, within: float = 30.0) -> None:
    """Wait until no pod is left that has not ended.

    One that was made while its Job was deleted goes a moment after the Job: the garbage collector may not have known it.
    """
    left: list[str] = []

    async def none() -> bool:
        left[:] = await unfinished_pods(namespace, selector)
        return not left

    try:
        await until(none, within=within)
    except TimeoutError:
        pytest.fail(f"pods are left: {left}")
