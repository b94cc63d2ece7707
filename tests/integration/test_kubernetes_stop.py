"""What STOPPED means: nothing runs any more, at whatever moment the stop came.

While pods are made, in a worker's last steps, while its image is being pulled.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic, time

import pytest
from kubernetes_asyncio.client import BatchV1Api

from queue_manager.server.adapters.kubernetes.manifest import KEPT_RECORDED, QUEUE_ID
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Message
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, Queue, QueueState, Reason, StopMode
from queue_manager.server.domain.timings import Timings
from tests.support.followed import Followed, followed, said
from tests.support.kubernetes import Brief, begun, cluster, core_api, manager, needs_cluster, target, unfinished_pods
from tests.support.local_workers import until
from tests.support.slow_registry import SlowRegistry

pytestmark = [pytest.mark.integration, needs_cluster]

LAST_STEPS = "echo > /steps/begun; sleep {seconds}; echo > /steps/done; exit 0"
WORKER = "trap '{on_term}' TERM; echo > /steps/ready; while :; do sleep 0.1; done"
TARGETS = [
    target("tidy", WORKER.format(on_term=LAST_STEPS.format(seconds=2))),
    target("endless", WORKER.format(on_term=LAST_STEPS.format(seconds=300))),
    target("polite", WORKER.format(on_term="exit 0")),
    target("sleeper", "exec sleep 300"),
]
TERMINATED = 128 + 15
KILLED = 128 + 9
MOMENTS = 24
STOPPED = (JobState.STOPPED, Reason.STOPPED_BY_USER)


@pytest.fixture
def steps(tmp_path: Path) -> Path:
    """Where workers leave a mark of each step."""
    folder = tmp_path / "steps"
    folder.mkdir()
    folder.chmod(0o777)  # workers run as nobody
    return folder


@pytest.fixture
async def core(namespace: str, tmp_path: Path, steps: Path) -> AsyncIterator[Core]:
    """A manager whose workers leave marks."""
    options = PodOptions(
        volumes=[{"name": "steps", "hostPath": {"path": str(steps)}}],
        volume_mounts=[{"name": "steps", "mountPath": "/steps"}],
    )
    each = {worker.name: options for worker in TARGETS}
    async with manager(namespace, tmp_path, Catalogue.of(TARGETS), each) as opened:
        yield opened


async def stop(core: Core, queue_id: str, mode: StopMode) -> None:
    """At once, or as soon as nobody has obeyed."""
    grace = None if mode is StopMode.FORCE else 0.1
    await core.service.stop(queue_id, mode=mode, grace_period=grace, reason="", by="tests")


async def stopped(told: Followed, namespace: str) -> Queue:
    """The queue once it is; nothing of it is there any more at that very moment."""
    queue = await told.ended()
    async with core_api() as api:
        assert not [pod.metadata.name for pod in (await api.list_namespaced_pod(namespace)).items]
    async with cluster() as client:
        assert not (await BatchV1Api(client).list_namespaced_job(namespace)).items
    assert queue.status.state is QueueState.STOPPED
    return queue


async def graces(namespace: str) -> list[int | None]:
    """Of each pod that there is: the seconds that its deletion gives it; None: it is not being deleted."""
    async with core_api() as api:
        pods = (await api.list_namespaced_pod(namespace)).items
    return [pod.metadata.deletion_grace_period_seconds for pod in pods]


async def test_a_stop_at_any_moment_of_a_start_leaves_no_pod_behind(core: Core, namespace: str) -> None:
    """Also one that is just being made: the garbage collector does not know it when its Job goes."""

    async def started_and_stopped(after: float) -> list[str]:
        await asyncio.sleep(after)  # so that not all are at the same point at once
        queue_id = await begun(core, "sleeper")
        await asyncio.sleep(after % 0.4)
        await stop(core, queue_id, StopMode.FORCE)
        await core.hub.until_ended(queue_id)
        left = await unfinished_pods(namespace, f"{QUEUE_ID}={queue_id}")
        assert (await core.service.get(queue_id)).status.state is QueueState.STOPPED
        return left

    found = await asyncio.gather(*(started_and_stopped(number * 0.15) for number in range(MOMENTS)))
    assert found == [[]] * MOMENTS


async def test_a_worker_that_is_in_its_last_steps_is_let_finish_them(core: Core, namespace: str, steps: Path) -> None:
    """It has its grace, and the queue is not stopped before its pod is gone."""
    async with followed(core, await begun(core, "tidy")) as told:
        await until((steps / "ready").exists, within=30)
        await stop(core, told.queue_id, StopMode.GRACEFUL)
        await until((steps / "begun").exists)
        queue = await core.service.get(told.queue_id)
        assert queue.status.state is QueueState.STOPPING
        assert said(queue.jobs[0])[0] is JobState.RUNNING
        queue = await stopped(told, namespace)
    assert (steps / "done").exists()
    assert said(queue.jobs[0])[:2] == STOPPED
    assert queue.jobs[0].status.exit_code == 0


async def test_a_stop_by_force_leaves_no_time_for_last_steps(core: Core, namespace: str, steps: Path) -> None:
    """A second, which is the least that Kubernetes has; they would take minutes."""
    async with followed(core, await begun(core, "endless")) as told:
        await until((steps / "ready").exists, within=30)
        forced = monotonic()
        await stop(core, told.queue_id, StopMode.FORCE)
        queue = await stopped(told, namespace)
    assert monotonic() - forced < Timings().delete_grace - 1
    assert not (steps / "done").exists()
    assert said(queue.jobs[0])[:2] == STOPPED
    assert queue.jobs[0].status.exit_code == KILLED


async def test_a_worker_in_its_last_steps_is_cut_off_when_its_grace_is_over(
    core: Core, namespace: str, steps: Path
) -> None:
    """A stop by force has the API shorten the grace; whether the node heeds it for a container that ends is its matter."""
    async with followed(core, await begun(core, "endless")) as told:
        await until((steps / "ready").exists, within=30)
        await stop(core, told.queue_id, StopMode.GRACEFUL)
        await until((steps / "begun").exists)
        assert await graces(namespace) == [int(Timings().delete_grace)]
        await stop(core, told.queue_id, StopMode.FORCE)

        async def shortened() -> bool:
            return await graces(namespace) == [1]

        await until(shortened, within=5)
        queue = await stopped(told, namespace)
    assert not (steps / "done").exists()
    assert said(queue.jobs[0])[:2] == STOPPED
    assert queue.jobs[0].status.exit_code == KILLED


@pytest.mark.parametrize("mode", [StopMode.GRACEFUL, StopMode.FORCE])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        ("finished", (JobState.FINISHED, None)),
        ("error", (JobState.FAILED, Reason.WORKER_ERROR)),
        ("loading", STOPPED),
    ],
)
async def test_a_worker_that_has_said_how_it_ends_is_believed_though_it_is_stopped_then(
    core: Core, namespace: str, steps: Path, status: str, verdict: tuple[JobState, Reason | None], mode: StopMode
) -> None:
    """It was done, and only its process was there still; one that was at work is stopped. No pod is left of either."""
    async with followed(core, await begun(core, "polite")) as told:
        await until((steps / "ready").exists, within=30)
        job = (await core.service.get(told.queue_id)).jobs[0]
        word = {"queue_id": told.queue_id, "telemetry_id": job.spec.telemetry_id, "status": status}
        await told.word("polite", JobState.RUNNING, None)
        await core.intake.telemetry([Message(json.dumps(word).encode(), time())])  # as over a bus
        await stop(core, told.queue_id, mode)
        queue = await stopped(told, namespace)
    assert said(queue.jobs[0])[:2] == verdict, said(queue.jobs[0])


async def stopped_while_pulling(namespace: str, folder: Path, mode: StopMode) -> Queue:
    """A queue that was stopped while the node waited for its image; the registry ends that once it is being deleted.

    A node need not give up a pull for a pod that is deleted. Until its pod is gone a job has not been stopped.
    """
    async with SlowRegistry() as registry:
        targets = Catalogue.of([target("slow", "exec sleep 300", image=registry.image)])
        async with manager(namespace, folder, targets, {}) as core:
            async with followed(core, await begun(core, "slow")) as told:
                await told.word("slow", JobState.STARTING, None)
                await registry.asked.wait()
                await stop(core, told.queue_id, mode)

                async def leaves() -> bool:
                    return None not in await graces(namespace)

                await until(leaves, within=30)
                registry.give_up()
                queue = await stopped(told, namespace)
            assert not any(word.code for word in told.words["slow"][:-1]), "it has nothing to complain of"
            return queue


@pytest.mark.parametrize("mode", [StopMode.GRACEFUL, StopMode.FORCE])
async def test_a_stop_while_an_image_is_pulled_leaves_nothing(namespace: str, tmp_path: Path, mode: StopMode) -> None:
    """The registry has been asked and has not answered."""
    queue = await stopped_while_pulling(namespace, tmp_path, mode)
    assert said(queue.jobs[0])[:2] == STOPPED


async def test_a_worker_whose_image_never_came_has_neither_started_nor_exited(namespace: str, tmp_path: Path) -> None:
    """It has no start time and no exit code."""
    (job,) = (await stopped_while_pulling(namespace, tmp_path, StopMode.FORCE)).jobs
    assert (job.status.start_time, job.status.exit_code) == (None, None)


@pytest.mark.parametrize("obeys", [True, False])
async def test_of_a_stopped_queue_only_what_had_ended_by_itself_is_kept(
    namespace: str, tmp_path: Path, obeys: bool
) -> None:
    """With its log, for an hour. Of one that ended as it was told neither Job nor pod is left, nor of one that did not."""
    brief = Brief(tmp_path)
    targets = Catalogue.of([brief.target, target("done", "exit 3")])
    async with manager(namespace, tmp_path, targets, {brief.target.name: brief.options}) as core:
        async with followed(core, await begun(core, "brief", "done")) as told:
            await told.word("done", JobState.FAILED, Reason.EXIT_CODE)
            await told.word("brief", JobState.RUNNING, None)
            grace = 60 if obeys else 1
            await core.service.stop(told.queue_id, mode=StopMode.GRACEFUL, grace_period=grace, reason="", by="tests")
            if obeys:
                await brief.ends()
            queue = await told.ended(within=30)
        stopped, done = (job.status for job in queue.jobs)
        assert queue.status.state is QueueState.STOPPED
        assert (stopped.state, stopped.exit_code) == (JobState.STOPPED, 0 if obeys else TERMINATED)
        kept = done.runner
        assert kept is not None

        async def alone() -> bool:
            async with core_api() as api, cluster() as client:
                pods = (await api.list_namespaced_pod(namespace)).items
                jobs = (await BatchV1Api(client).list_namespaced_job(namespace)).items
            assert kept.name in {job.metadata.name for job in jobs}
            ttls = [job.spec.ttl_seconds_after_finished for job in jobs]
            return len(pods) == len(jobs) == 1 and ttls == [KEPT_RECORDED]

        await until(alone, within=10)
