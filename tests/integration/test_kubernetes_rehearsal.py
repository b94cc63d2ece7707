"""`validate_only` asks Kubernetes itself (a server-side dry run), and says where in the request the fault is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import InvalidRequest
from queue_manager.server.domain.model import JobState, Reason
from tests.support.kubernetes import core_api, manager, needs_cluster, start, target

pytestmark = [pytest.mark.integration, needs_cluster]

TARGETS = Catalogue.of([target("good", "true"), target("patched", "true")])


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ({"spec": {"template": {"spec": {"restartPolicy": "Sometimes"}}}}, "Unsupported value"),
        (
            {"spec": {"template": {"spec": {"nodeSelektor": {"a": "b"}}}}},
            'unknown field "spec.template.spec.nodeSelektor"',
        ),
        ({"spec": {"template": {"spec": {"hostname": 5}}}}, "cannot unmarshal"),
    ],
    ids=["wrong value", "unknown field", "wrong type"],
)
async def test_a_patch_that_makes_no_valid_job_is_found_before_anything_is_started(
    namespace: str, tmp_path: Path, patch: dict[str, Any], words: str
) -> None:
    """By its place in the request, in the API's own words."""
    options = {"patched": PodOptions(patch=patch)}
    async with manager(namespace, tmp_path, TARGETS, options) as core:
        with pytest.raises(InvalidRequest) as caught:
            await core.service.start(start("good", "patched", validate_only=True), requested_by="tests")
        assert [violation.field for violation in caught.value.violations] == ["requests[1]"]
        assert words in caught.value.violations[0].description
        started = await core.service.start(start("good", validate_only=True), requested_by="tests")
        assert [spec.target for spec in started.plan] == ["good"]
    async with core_api() as cluster:
        assert not (await cluster.list_namespaced_pod(namespace)).items


async def test_a_namespace_that_there_is_not_is_told_then_and_at_the_launch(tmp_path: Path) -> None:
    """Never a job that is PENDING for ever."""
    async with manager("qm-test-there-is-none", tmp_path, TARGETS, {}) as core:
        with pytest.raises(InvalidRequest, match="qm-test-there-is-none"):
            await core.service.start(start("good", validate_only=True), requested_by="tests")
        queue_id = (await core.service.start(start("good"), requested_by="tests")).queue.queue_id
        await core.hub.until_ended(queue_id)
        (job,) = (await core.service.get(queue_id)).jobs
        assert job.status.state is JobState.FAILED
        assert job.status.reason is not None
        assert job.status.reason.code is Reason.CONFIG_ERROR
        assert "qm-test-there-is-none" in job.status.reason.message
