"""The Queue Manager as a pod, put into the cluster by `deploy/`, under its Role; workers from the same image.

QUEUE_MANAGER_IMAGE names an image on the node with this wheel, whose entry point is `queue-manager`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from queue_manager.client import AsyncClient
from queue_manager.v1.queue_pb2 import JobState, QueueState
from tests.support.deployment import MANAGERS, ROOT, deployed, kubectl, needs_image, pods, restart_manager
from tests.support.kubernetes import needs_cluster
from tests.support.local_workers import until

WORKERS = "app.kubernetes.io/managed-by=queue-manager"

pytestmark = [pytest.mark.integration, needs_cluster, needs_image, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def namespace(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A namespace with restricted Pod Security into which `deploy/trial` has been applied."""
    async with deployed(tmp_path_factory.mktemp("deploy"), {}) as name:
        yield name


@pytest_asyncio.fixture(loop_scope="module")
async def client(namespace: str) -> AsyncIterator[AsyncClient]:
    """A client of the manager in the pod."""
    (pod,) = await pods(namespace, MANAGERS)
    async with AsyncClient(f"{pod.status.pod_ip}:50051") as opened:
        yield opened


def payload(name: str) -> dict[str, Any]:
    """One of the examples."""
    loaded: dict[str, Any] = json.loads((ROOT / "examples" / f"{name}-pipeline.json").read_text())
    return loaded


async def worker_pods(namespace: str, queue_id: str) -> list[Any]:
    """The pods of a queue's workers."""
    return await pods(namespace, f"{WORKERS},queue-manager.streamforge.io/queue-id={queue_id}")


@pytest.mark.asyncio(loop_scope="module")
async def test_the_historical_pipeline_finishes(namespace: str, client: AsyncClient) -> None:
    """Six real pods: four end by themselves; the two that drain are ended, and their pods go with them."""
    queue_id = (await client.start_queue(payload("historical"))).queue.queue_id
    async for frame in client.watch(queue_id):
        last = frame
    assert last.queue.state == QueueState.QUEUE_STATE_FINISHED, last.queue
    assert {job.state for job in last.queue.jobs} == {JobState.JOB_STATE_FINISHED}
    assert [pod.status.phase for pod in await worker_pods(namespace, queue_id)] == ["Succeeded"] * 4


@pytest.mark.asyncio(loop_scope="module")
async def test_the_realtime_pipeline_runs_until_it_is_stopped(namespace: str, client: AsyncClient) -> None:
    """Seven real pods, and then none."""
    queue_id = (await client.start_queue(payload("realtime"))).queue.queue_id

    async def runs() -> bool:
        jobs = (await client.get_queue(queue_id)).jobs
        assert {job.state for job in jobs} <= {
            JobState.JOB_STATE_LAUNCHING,
            JobState.JOB_STATE_STARTING,
            JobState.JOB_STATE_RUNNING,
        }
        return all(job.state == JobState.JOB_STATE_RUNNING for job in jobs)

    await until(runs, within=60)
    stopped = await client.stop_queue(queue_id, grace_period=2.0, wait=True, timeout=60)
    assert stopped.state == QueueState.QUEUE_STATE_STOPPED
    assert not await worker_pods(namespace, queue_id)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_manager_is_probed_and_comes_back_with_its_queues(namespace: str, client: AsyncClient) -> None:
    """Its container is killed: Kubernetes starts another, which knows what the first one knew."""
    started = await client.start_queue(payload("realtime"))
    (pod,) = await pods(namespace, MANAGERS)
    said = await kubectl("-n", namespace, "exec", pod.metadata.name, "--", "queue-manager", "probe", "readiness")
    assert said.strip() == "SERVING"
    await restart_manager(namespace)
    queue = await client.get_queue(started.queue.queue_id)
    assert [job.attempt for job in queue.jobs] == [1] * 7
    await client.stop_queue(queue.queue_id, grace_period=2.0, wait=True, timeout=60)
    assert not await worker_pods(namespace, queue.queue_id)
