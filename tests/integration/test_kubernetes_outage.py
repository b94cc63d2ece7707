"""What befalls the real API server, and our account there: nothing twice, nothing lost, and it says why it waits.

The first two tests break the API server of the cluster that KUBECONFIG names, by commands that the environment has:
API_SERVER_PAUSE and API_SERVER_RESUME (SIGSTOP and SIGCONT), API_SERVER_KILL and API_SERVER_RESTART.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from queue_manager.server.adapters.kubernetes.api import LOCKED_OUT, Api, Refusal
from queue_manager.server.adapters.kubernetes.runner import LAUNCH_SETTLE
from queue_manager.server.application.core import Core
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, Reason, StopMode
from tests.support.accounts import ROLE, kubeconfig_of, make_account, remove_account
from tests.support.breaking import Breaking
from tests.support.kubernetes import Brief, begun, manager, needs_cluster, pods_of, target, until_all
from tests.support.local_workers import until

pytestmark = [pytest.mark.integration, needs_cluster, pytest.mark.timeout(300)]

FREEZE = 30.0
"""Seconds: longer than a call may take, shorter than a watch may be silent."""

SLEEPER = target("sleeper", "exec sleep 300")

api_server = Breaking("API_SERVER")


def opening(namespace: str, folder: Path, brief: Brief) -> AbstractAsyncContextManager[Core]:
    """A manager that knows these workers."""
    return manager(namespace, folder, Catalogue.of([SLEEPER, brief.target]), {"brief": brief.options})


@pytest.fixture
def brief(tmp_path: Path) -> Brief:
    """A worker that ends when the test says so."""
    return Brief(tmp_path)


@pytest.fixture
async def core(namespace: str, tmp_path: Path, brief: Brief) -> AsyncIterator[Core]:
    """A manager in a namespace of its own."""
    async with opening(namespace, tmp_path, brief) as opened:
        yield opened


async def waits(core: Core, queue_id: str, words: str) -> None:
    """Wait until the queue's jobs say that they wait for the API, and readiness says it, too."""
    await until_all(core, queue_id, JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER)

    async def said() -> bool:
        jobs = (await core.service.get(queue_id)).jobs  # at first, one may only say that its connection was cut
        return all(job.status.reason and words in job.status.reason.message for job in jobs)

    await until(said, within=30)

    async def unready() -> bool:
        return "Kubernetes does not" in (await core.problems()).get("runner", "")

    await until(unready)


async def is_stopped_later(core: Core, queue_id: str) -> None:
    """Stop a queue whose workers run; wait until its jobs say that the API keeps them from being ended."""
    await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
    await until_all(core, queue_id, JobState.RUNNING, Reason.WAITING_FOR_RUNNER)


async def goes_on(core: Core, namespace: str, first: str, second: str) -> None:
    """Wait until all that was to happen meanwhile has happened, once; then stop, and nothing is left."""
    await until_all(core, second, JobState.RUNNING)

    async def brief_has_finished() -> bool:
        return (await core.service.get(first)).jobs[0].status.state is JobState.FINISHED

    await until(brief_has_finished, within=60)
    assert (await core.service.get(first)).jobs[1].status.state is JobState.RUNNING
    assert set((await pods_of(namespace)).values()) == {1}
    assert len(await pods_of(namespace)) == 4

    async def ready() -> bool:
        return not await core.problems()

    await until(ready, within=60)
    for queue_id in (first, second):
        await core.service.stop(queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="tests")
        # A create that had no answer may be carried out for a minute: so long a stop does not say that all is over.
        await asyncio.wait_for(core.hub.until_ended(queue_id), LAUNCH_SETTLE + 30)

    async def none_runs() -> bool:
        return len(await pods_of(namespace)) == 1  # brief's, which is over

    await until(none_runs, within=30)


@api_server.needed
async def test_an_api_server_that_is_frozen_for_half_a_minute(core: Core, namespace: str, brief: Brief) -> None:
    """A worker ends, a queue is started and one is stopped, while connections stay open and silent."""
    first, stopped = await begun(core, "brief", "sleeper"), await begun(core, "sleeper")
    for queue_id in (first, stopped):
        await until_all(core, queue_id, JobState.RUNNING)
    await api_server.order("PAUSE")
    try:
        frozen = asyncio.get_running_loop().time()
        await is_stopped_later(core, stopped)
        await brief.ends()
        second = await begun(core, "sleeper", "sleeper")
        await waits(core, second, "cannot be said yet")
        await asyncio.sleep(frozen + FREEZE - asyncio.get_running_loop().time())
    finally:
        await api_server.order("RESUME")
    await asyncio.wait_for(core.hub.until_ended(stopped), 60)
    await goes_on(core, namespace, first, second)


@api_server.needed
async def test_an_api_server_that_is_killed_and_restarted(core: Core, namespace: str, brief: Brief) -> None:
    """A worker ends, a queue is started and one is stopped, while there is none."""
    first, stopped = await begun(core, "brief", "sleeper"), await begun(core, "sleeper")
    for queue_id in (first, stopped):
        await until_all(core, queue_id, JobState.RUNNING)
    await api_server.order("KILL")
    try:
        await is_stopped_later(core, stopped)
        await brief.ends()
        second = await begun(core, "sleeper", "sleeper")
        await waits(core, second, "Cannot connect to host")
    finally:
        await api_server.order("RESTART")
    await asyncio.wait_for(core.hub.until_ended(stopped), 60)
    await goes_on(core, namespace, first, second)


async def test_a_token_that_is_revoked_and_replaced(
    namespace: str, tmp_path: Path, brief: Brief, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is deleted, and made again with another token, which is written to the kubeconfig."""
    role: Any = yaml.safe_load(ROLE.read_text())
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig_of(await make_account(namespace, role)))
    with monkeypatch.context() as patch:
        patch.setenv("KUBECONFIG", str(path))
        async with opening(namespace, tmp_path, brief) as core, await Api.connect(namespace) as probe:
            patch.undo()  # the tests' own calls have all rights
            first = await begun(core, "brief", "sleeper")
            await until_all(core, first, JobState.RUNNING)
            await remove_account(namespace)

            async def refused() -> bool:
                try:
                    await probe.call("list", "jobs")
                except Refusal as refusal:
                    return refusal.code == LOCKED_OUT
                return False

            await until(refused, within=60)
            await brief.ends()
            second = await begun(core, "sleeper", "sleeper")
            await waits(core, second, "401 Unauthorized")
            path.write_text(kubeconfig_of(await make_account(namespace, role)))
            await goes_on(core, namespace, first, second)
