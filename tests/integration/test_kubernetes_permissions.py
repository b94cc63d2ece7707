"""Under the Role in `deploy/` everything works, and what is missing of it is told by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from queue_manager.server.adapters.kubernetes.permissions import GROUPS, NEEDED
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, QueueState, StopMode
from tests.support.accounts import ROLE, kubeconfig_of, make_account
from tests.support.kubernetes import manager, needs_cluster, start, target
from tests.support.local_workers import until

TARGETS = Catalogue.of([target("sleeper", "exec sleep 300"), target("done", "exit 0")])


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
async def test_under_the_role_queues_are_started_stopped_and_settled(
    role: dict[str, Any], namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every verb is used, and none is refused."""
    with monkeypatch.context() as patch:
        await put_under(role, namespace, tmp_path, patch)
        async with manager(namespace, tmp_path, TARGETS, {}) as core:
            assert not await core.problems()
            queue_id = (await core.service.start(start("sleeper", "done"), requested_by="tests")).queue.queue_id

            async def half_done() -> bool:
                states = [job.status.state for job in (await core.service.get(queue_id)).jobs]
                return states == [JobState.RUNNING, JobState.FINISHED]

            await until(half_done)
            await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")

            async def settled() -> bool:
                queue = await core.service.get(queue_id)
                return queue.settled and queue.status.state is QueueState.STOPPED

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
