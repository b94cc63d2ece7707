"""Under the Role in `deploy/` everything works, and what is missing of it is told by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_asyncio.client import ApiClient, BatchV1Api

from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.permissions import GROUPS, NEEDED
from queue_manager.server.application.core import Core
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, QueueState, Reason, StopMode
from tests.support.accounts import ROLE, kubeconfig_of, make_account
from tests.support.followed import followed
from tests.support.kubernetes import begun, cluster, manager, needs_cluster, target
from tests.support.local_workers import until

TARGETS = Catalogue.of(
    [target("sleeper", "exec sleep 300"), target("done", "exit 0"), target("no-volume", "exec sleep 300")]
)
OPTIONS = {
    "no-volume": PodOptions(
        volumes=[{"name": "ca", "secret": {"secretName": "unheard-of"}}],
        volume_mounts=[{"name": "ca", "mountPath": "/ca"}],
    )
}


def test_the_role_allows_what_is_asked_for_and_no_more() -> None:
    """The manifest and the check name the same."""
    allowed = {
        (group, resource): tuple(rule["verbs"])
        for rule in yaml.safe_load(ROLE.read_text())["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert allowed == {(GROUPS.get(resource, ""), resource): tuple(verbs) for resource, verbs in NEEDED.items()}


@pytest.fixture
def role() -> dict[str, Any]:
    """The Role of `deploy/`; tests take from it."""
    return dict(yaml.safe_load(ROLE.read_text()))


async def put_under(role: Mapping[str, Any], namespace: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Have KUBECONFIG lead to that account."""
    path = folder / "kubeconfig"
    path.write_text(kubeconfig_of(await make_account(namespace, role)))
    patch.setenv("KUBECONFIG", str(path))


@pytest.mark.integration
@needs_cluster
async def test_under_the_role_everything_works_and_every_right_of_it_is_used(
    role: dict[str, Any], namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the manager calls is what the Role grants, no more and no less, and none of it is refused.

    A review of its own rights needs none: everyone may ask for that.
    """
    calls: set[tuple[str, str, str]] = set()
    async with cluster() as admin:
        with monkeypatch.context() as patch:
            await put_under(role, namespace, tmp_path, patch)
            async with manager(
                namespace, tmp_path, TARGETS, OPTIONS, observe=lambda *call: calls.add(call[:3])
            ) as core:
                assert not await core.problems()
                await _live(core, namespace, admin)
    # A watch is told of when it ends, which the last have done by now.
    granted = {(verb, resource) for rule in role["rules"] for resource in rule["resources"] for verb in rule["verbs"]}
    used = {(verb, resource) for verb, resource, _ in calls}
    assert used - {("create", "selfsubjectaccessreviews")} == granted
    assert not {call for call in calls if call[2] in {"401", "403"}}


async def _live(core: Core, namespace: str, admin: ApiClient) -> None:
    """What a manager does in its life: launch, see what keeps a worker, record an end, miss a Job, stop a queue."""
    async with followed(core, await begun(core, "sleeper", "sleeper", "done", "no-volume")) as told:
        await told.word("done", JobState.FINISHED, Reason.NEVER_REPORTED)
        await told.word("no-volume", JobState.STARTING, Reason.CONFIG_ERROR)
        await told.word("sleeper", JobState.RUNNING, None)
        missed = (await core.service.get(told.queue_id)).jobs[0].status.runner
        assert missed is not None
        await BatchV1Api(admin).delete_namespaced_job(missed.name, namespace, propagation_policy="Background")
        await told.word("sleeper", JobState.LOST, Reason.JOB_DELETED_EXTERNALLY)
        await core.service.stop(told.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
        assert (await told.ended()).status.state is QueueState.STOPPED

    async def settled() -> bool:
        return (await core.service.get(told.queue_id)).settled

    await until(settled)


@pytest.mark.integration
@needs_cluster
async def test_what_is_missing_is_told_by_name(
    role: dict[str, Any], namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readiness says which verb on which resource."""
    role["rules"][0]["verbs"].remove("delete")
    role["rules"][1]["verbs"].remove("watch")
    with monkeypatch.context() as patch:
        await put_under(role, namespace, tmp_path, patch)
        async with manager(namespace, tmp_path, TARGETS, {}) as core:
            problems = await core.problems()
    assert f"not allowed in namespace {namespace}: delete jobs, watch pods" in problems["runner"]
