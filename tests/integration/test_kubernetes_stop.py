"""What STOPPED means: no pod runs any more, at whatever moment the stop came."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from queue_manager.server.application.core import Core
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import QueueState, StopMode
from tests.support.kubernetes import begun, core_api, manager, needs_cluster, target

pytestmark = [pytest.mark.integration, needs_cluster]

TARGETS = Catalogue.of([target("sleeper", "exec sleep 300")])
MOMENTS = 24


async def unfinished_pods(namespace: str, queue_id: str) -> list[str]:
    """The queue's pods that have not ended."""
    async with core_api() as cluster:
        selector = f"queue-manager.streamforge.io/queue-id={queue_id}"
        pods = (await cluster.list_namespaced_pod(namespace, label_selector=selector)).items
    return [pod.metadata.name for pod in pods if pod.status.phase not in {"Succeeded", "Failed"}]


async def test_a_stop_at_any_moment_of_a_start_leaves_no_pod_behind(namespace: str, tmp_path: Path) -> None:
    """Also one that is just being made: the garbage collector does not know it when its Job goes."""
    async with manager(namespace, tmp_path, TARGETS, {}) as core:

        async def started_and_stopped(after: float) -> list[str]:
            await asyncio.sleep(after)  # so that not all are at the same point at once
            return await stopped(core, namespace, after % 0.4)

        found = await asyncio.gather(*(started_and_stopped(number * 0.15) for number in range(MOMENTS)))
    assert found == [[]] * MOMENTS


async def stopped(core: Core, namespace: str, after: float) -> list[str]:
    """Stop a queue so many seconds after its start: the pods that have not ended once it says STOPPED."""
    queue_id = await begun(core, "sleeper")
    await asyncio.sleep(after)
    await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
    await core.hub.until_ended(queue_id)
    left = await unfinished_pods(namespace, queue_id)
    assert (await core.service.get(queue_id)).status.state is QueueState.STOPPED
    return left
