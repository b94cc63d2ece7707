"""Jobs that Kubernetes does not take: for a quota on Jobs, for a right that is missing, for what is wrong with them.

What may be taken later is waited for, and says so; what never will be fails at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, BatchV1Api, V1ObjectMeta, V1ResourceQuota, V1ResourceQuotaSpec

from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.runner import KubernetesRunner
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import InvalidRequest
from queue_manager.server.domain.model import JobState, QueueState, Reason, StopMode
from tests.support.accounts import NAME, ROLE, give, kubeconfig_of, make_account, take_back
from tests.support.followed import followed, said
from tests.support.kubernetes import (
    begun,
    cluster,
    core_api,
    make_namespace,
    manager,
    needs_cluster,
    remove_namespace,
    start,
    target,
)
from tests.support.local_workers import until

pytestmark = [pytest.mark.integration, needs_cluster]

TARGETS = Catalogue.of([target("sleeper", "exec sleep 300"), target("patched", "true")])
SOON = 5.0
"""Seconds within which what needs no pod is told, also on a slow machine; nobody's patience is as short."""
AGAIN = 30.0
"""Seconds until a launch that was refused is tried again at the latest, with what a slow node needs for a pod."""


@pytest.fixture
async def admin() -> AsyncIterator[ApiClient]:
    """The cluster with all rights, also where KUBECONFIG leads to less by now."""
    async with cluster() as client:
        yield client


@pytest.fixture
async def foreign(
    admin: ApiClient, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """A namespace in which the account that KUBECONFIG leads to may do nothing; it has its rights in another one."""
    del admin  # opened before
    other = await make_namespace({})
    token = await make_account(namespace, yaml.safe_load(ROLE.read_text()))
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig_of(token))
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(path))
        yield other
    await remove_namespace(other)


async def jobs_of(namespace: str, client: ApiClient) -> list[str]:
    """The names of the Jobs that there are."""
    return [job.metadata.name for job in (await BatchV1Api(client).list_namespaced_job(namespace)).items]


async def test_a_quota_on_jobs_is_named_and_waited_for(admin: ApiClient, namespace: str, tmp_path: Path) -> None:
    """The Job itself is refused, not its pod; once there is room, the job goes on."""
    async with manager(namespace, tmp_path, TARGETS, {}) as core, core_api() as api:
        quota = V1ResourceQuota(
            metadata=V1ObjectMeta(name="one"), spec=V1ResourceQuotaSpec(hard={"count/jobs.batch": "1"})
        )
        await api.create_namespaced_resource_quota(namespace, quota)

        async def counted() -> bool:
            return bool((await api.read_namespaced_resource_quota("one", namespace)).status.hard)

        await until(counted)
        first = await begun(core, "sleeper")
        async with followed(core, first) as told:
            await told.word("sleeper", JobState.RUNNING, None)
        second = await begun(core, "sleeper")
        async with followed(core, second) as told:
            waits = await told.word("sleeper", JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER, within=SOON)
            assert "exceeded quota: one, requested: count/jobs.batch=1, used: count/jobs.batch=1" in waits.message
            assert said((await core.service.get(second)).jobs[0])[:2] == waits.said[:2]
            await api.delete_namespaced_resource_quota("one", namespace)
            await told.word("sleeper", JobState.RUNNING, None, within=AGAIN)
        assert len(await jobs_of(namespace, admin)) == 2


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"template": {"spec": {"restartPolicy": "Sometimes"}}}}, "Unsupported value"),
        ({"spec": {"template": {"spec": {"hostname": 5}}}}, "cannot unmarshal"),
        ({"spec": {"activeDeadlineSeconds": -1}}, "spec.activeDeadlineSeconds"),
    ],
    ids=["wrong value", "wrong type", "out of range"],
)
async def test_a_patch_that_makes_no_valid_job_fails_its_job_at_once(
    admin: ApiClient, namespace: str, tmp_path: Path, patch: dict[str, object], words: str
) -> None:
    """In the API's own words, and it is not tried again; the other job of the queue runs."""
    calls: list[tuple[str, str]] = []
    async with manager(
        namespace,
        tmp_path,
        TARGETS,
        {"patched": PodOptions(patch=patch)},
        observe=lambda verb, resource, *_: calls.append((verb, resource)),
    ) as core:
        queue_id = await begun(core, "patched", "sleeper")
        async with followed(core, queue_id) as told:
            fails = await told.word("patched", JobState.FAILED, Reason.CONFIG_ERROR, within=SOON)
            assert words in fails.message, fails
            await told.word("sleeper", JobState.RUNNING, None)
        job = (await core.service.get(queue_id)).jobs[0]
        assert said(job) == fails.said
        assert job.status.runner is None
    assert len(await jobs_of(namespace, admin)) == 1
    assert calls.count(("create", "jobs")) == 2


async def test_a_namespace_in_which_nothing_is_allowed_refuses_what_is_only_to_be_checked(
    foreign: str, tmp_path: Path
) -> None:
    """It says who may not do what, and where; so does readiness."""
    async with manager(foreign, tmp_path, TARGETS, {}) as core:
        with pytest.raises(InvalidRequest) as caught:
            await core.service.start(start("sleeper", "sleeper", validate_only=True), requested_by="tests")
        assert [violation.field for violation in caught.value.violations] == ["requests[0]", "requests[1]"]
        for violation in caught.value.violations:
            assert f'{NAME}" cannot create resource "jobs" in API group "batch"' in violation.description
            assert f'in the namespace "{foreign}"' in violation.description
        assert f"not allowed in namespace {foreign}: create jobs, " in (await core.problems())["runner"]


async def test_a_queue_in_a_namespace_in_which_nothing_is_allowed_says_so_while_it_waits(
    admin: ApiClient, foreign: str, namespace: str, tmp_path: Path
) -> None:
    """It is never silent about it; one that is stopped meanwhile is STOPPED: nothing of it was ever taken."""
    async with manager(foreign, tmp_path, TARGETS, {}) as core:
        queue_id = await begun(core, "sleeper", "sleeper")
        async with followed(core, queue_id) as told:
            waits = await told.word("sleeper", JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER, within=SOON)
            assert f'{NAME}" cannot create resource "jobs" in API group "batch"' in waits.message
            assert f'in the namespace "{foreign}"' in waits.message
            queue = await core.service.get(queue_id)
            assert said(queue.jobs[0]) == waits.said
            assert queue.status.reason is not None
            assert waits.message in queue.status.reason.message
            await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
            queue = await told.ended(within=SOON)
            assert queue.status.state is QueueState.STOPPED
            assert [said(job)[:2] for job in queue.jobs] == [(JobState.STOPPED, Reason.STOPPED_BY_USER)] * 2
    assert not await jobs_of(foreign, admin)


async def test_a_stop_where_nothing_is_allowed_any_more_waits_for_what_may_have_been_launched_before(
    admin: ApiClient, foreign: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was there before may have launched it. The job says why it is not over, and is once it can be seen."""
    monkeypatch.setattr(KubernetesRunner, "launch_settle", SOON)
    async with manager(foreign, tmp_path, TARGETS, {}) as core:
        queue_id = await begun(core, "sleeper")
        async with followed(core, queue_id) as told:
            await told.word("sleeper", JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER, within=SOON)
    async with manager(foreign, tmp_path, TARGETS, {}) as core, followed(core, queue_id) as told:
        await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
        state, code, message = said((await core.service.get(queue_id)).jobs[0])
        assert (state, code) == (JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER)
        assert f'in the namespace "{foreign}"' in message
        await give(admin, foreign, yaml.safe_load(ROLE.read_text()), of=namespace)
        queue = await told.ended(within=SOON + AGAIN)
        assert queue.status.state is QueueState.STOPPED
    assert not await jobs_of(foreign, admin)


async def test_a_queue_goes_on_once_what_was_missing_is_allowed(
    admin: ApiClient, foreign: str, namespace: str, tmp_path: Path
) -> None:
    """Nobody has to start it again."""
    async with manager(foreign, tmp_path, TARGETS, {}) as core, followed(core, await begun(core, "sleeper")) as told:
        await told.word("sleeper", JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER, within=SOON)
        await give(admin, foreign, yaml.safe_load(ROLE.read_text()), of=namespace)
        await told.word("sleeper", JobState.RUNNING, None, within=AGAIN)
    assert len(await jobs_of(foreign, admin)) == 1


async def test_a_worker_that_may_not_be_ended_any_more_says_so(
    admin: ApiClient, foreign: str, namespace: str, tmp_path: Path
) -> None:
    """Its queue is STOPPING until it may; then nothing of it is left."""
    await give(admin, foreign, yaml.safe_load(ROLE.read_text()), of=namespace)
    async with manager(foreign, tmp_path, TARGETS, {}) as core, followed(core, await begun(core, "sleeper")) as told:
        await told.word("sleeper", JobState.RUNNING, None, within=AGAIN)
        await take_back(admin, foreign, yaml.safe_load(ROLE.read_text()), of=namespace)
        await core.service.stop(told.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
        waits = await told.word("sleeper", JobState.RUNNING, Reason.WAITING_FOR_RUNNER, within=SOON)
        assert "403 Forbidden" in waits.message, waits
        assert f'in the namespace "{foreign}"' in waits.message, waits
        assert (await core.service.get(told.queue_id)).status.state is QueueState.STOPPING
        await give(admin, foreign, yaml.safe_load(ROLE.read_text()), of=namespace)
        queue = await told.ended(within=AGAIN)
        assert queue.status.state is QueueState.STOPPED
        assert said(queue.jobs[0])[:2] == (JobState.STOPPED, Reason.STOPPED_BY_USER)
        await until(lambda: _is_empty(foreign, admin), within=10)


async def _is_empty(namespace: str, client: ApiClient) -> bool:
    return not await jobs_of(namespace, client)
