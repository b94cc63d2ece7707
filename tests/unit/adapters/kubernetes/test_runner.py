"""What the runner makes of answers and watches that overtake each other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast

import msgspec

from queue_manager.server.adapters.kubernetes import manifest
from queue_manager.server.adapters.kubernetes.api import Api
from queue_manager.server.adapters.kubernetes.diagnosis import JOB_NAME_LABEL
from queue_manager.server.adapters.kubernetes.objects import KubernetesJob, Pod
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.observation import Phase
from tests.support.local_workers import WallClock

KEY = WorkerKey("wf-btcusdt-x-a1b2c3", "loader-producer", 1, "worker-a1")
LABELS = {
    manifest.MANAGED_BY: manifest.MANAGER,
    manifest.QUEUE_ID: KEY.queue_id,
    manifest.JOB: KEY.job,
    manifest.ATTEMPT: "1",
}


def pod(version: int, *, runs: bool) -> dict[str, Any]:
    """The worker's pod."""
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if runs else {"waiting": {"reason": "ContainerCreating"}}
    return {
        "metadata": {
            "name": "worker-a1-pod",
            "resourceVersion": str(version),
            "labels": {**LABELS, JOB_NAME_LABEL: KEY.name},
        },
        "status": {"containerStatuses": [{"name": manifest.CONTAINER, "state": state}]},
    }


class SlowApi:
    """Its list of pods was made before the pod ran; the watch tells that it runs before the list has arrived."""

    namespace = "workers"
    runner: KubernetesRunner

    async def call(self, verb: str, resource: str, name: str = "", **_: object) -> bytes:
        """Answer to a list of pods."""
        assert (verb, resource, name) == ("list", "pods", "")
        running = msgspec.convert(pod(7, runs=True), Pod)
        self.runner._pods.objects[running.metadata.name] = running
        self.runner._pod_changed(running)
        return msgspec.json.encode({"metadata": {"resourceVersion": "6"}, "items": [pod(5, runs=False)]})


async def test_an_old_answer_does_not_hide_what_the_watch_has_told_since() -> None:
    """Else the worker would be STARTING until its pod changes the next time."""
    api = SlowApi()
    runner = api.runner = KubernetesRunner(cast("Api", api), rng=Random(1), secret="none", clock=WallClock())
    made = datetime.now(UTC) - timedelta(seconds=60)
    job = {
        "metadata": {"name": KEY.name, "uid": "u", "labels": LABELS, "creationTimestamp": made, "resourceVersion": "3"}
    }
    runner._jobs.objects[KEY.name] = msgspec.convert(job, KubernetesJob)
    for reflector in (runner._jobs, runner._pods):
        reflector.synced.set()
    runner._pods.problem = "cut off a moment ago"
    assert [status.phase for status in await runner.observe([KEY])] == [Phase.RUNNING]
    assert [status.phase for status in await runner.observe([KEY])] == [Phase.RUNNING]
