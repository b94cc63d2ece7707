"""Jobs that no record knows, and pods that somebody left without their Job."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from queue_manager.server.adapters.kubernetes.api import Api
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.application.core import Core
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.strays import Strays
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, Reason
from tests.support.kubernetes import SECRET, core_api, delete_job, manager, needs_cluster, start, target
from tests.support.local_workers import WallClock, until

pytestmark = [pytest.mark.integration, needs_cluster]

TARGETS = Catalogue.of([target("sleeper", "exec sleep 300")])


async def pods_left(namespace: str) -> int:
    """How many pods there are."""
    async with core_api() as cluster:
        return len((await cluster.list_namespaced_pod(namespace)).items)


async def until_no_pods(namespace: str) -> None:
    """Wait until there is none."""

    async def none() -> bool:
        return not await pods_left(namespace)

    await until(none, within=30)


async def running(core: Core) -> str:
    """A queue whose worker runs."""
    queue_id = (await core.service.start(start("sleeper"), requested_by="tests")).queue.queue_id

    async def runs() -> bool:
        return (await core.service.get(queue_id)).jobs[0].status.state is JobState.RUNNING

    await until(runs, within=30)
    return queue_id


async def test_a_pod_whose_job_was_deleted_without_it_is_ended(namespace: str, tmp_path: Path) -> None:
    """Its job is LOST at once; and what nobody would end any more is swept."""
    async with manager(namespace, tmp_path, TARGETS, {}) as core:
        queue_id = await running(core)
        (job,) = (await core.service.get(queue_id)).jobs
        assert job.status.runner is not None
        await delete_job(namespace, job.status.runner.name, propagation="Orphan")
        await core.hub.until_ended(queue_id)
        (job,) = (await core.service.get(queue_id)).jobs
        assert job.status.state is JobState.LOST
        assert job.status.reason is not None
        assert job.status.reason.code is Reason.JOB_DELETED_EXTERNALLY
        assert await pods_left(namespace) == 1
        await core.strays.look()
        await core.strays.look()
        await until_no_pods(namespace)


async def test_jobs_that_no_record_knows_are_told_of_and_ended_where_that_is_wished(
    namespace: str, tmp_path: Path
) -> None:
    """A manager whose state was lost, in the namespace of the one before."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    after.mkdir()
    async with manager(namespace, before, TARGETS, {}) as core:
        queue_id = await running(core)
    async with manager(namespace, after, TARGETS, {}) as core:
        await core.strays.look()
        await core.strays.look()
        assert [worker.queue_id for worker in core.strays.orphans] == [queue_id]
        (finding,) = (await core.diagnose()).findings
        assert finding.message == "1 worker runs that no record knows"
        assert finding.subjects == [core.strays.orphans[0].name]
        assert await pods_left(namespace) == 1
        async with (
            await Api.connect(namespace) as api,
            KubernetesRunner(api, rng=Random(1), clock=WallClock(), secret=SECRET) as runner,
        ):
            ending = Strays(core.records, runner, instruments=Instruments(), grace=1.0, end_orphans=True)
            await ending.look()
            await ending.look()
            await until_no_pods(namespace)
