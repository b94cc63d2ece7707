"""An API server that falls silent, loses answers, cuts connections: nothing twice, nothing lost, and it says why it waits.

The API server itself is not touched: a proxy before it is. For what happens to the real one, see `test_kubernetes_outage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config.kube_config import load_kube_config

from queue_manager.server.adapters.kubernetes.credentials import kubeconfig
from queue_manager.server.application.core import Core
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.model import JobState, Reason
from tests.support.kubernetes import Brief, begun, manager, needs_cluster, pods_of, target, until_all
from tests.support.local_workers import until
from tests.support.proxy import Proxy

pytestmark = [pytest.mark.integration, needs_cluster]

SLEEPER, SHORT = target("sleeper", "exec sleep 300"), target("short", "sleep 3")


@pytest.fixture
async def proxy(namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Proxy]:
    """What KUBECONFIG leads through from now on; calls are given up after two seconds."""
    del namespace  # made without it
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    behind = urlsplit(str(configuration.host))
    assert behind.hostname is not None
    assert behind.port is not None
    text = await asyncio.to_thread(Path(kubeconfig()).read_text)
    async with Proxy(behind.hostname, behind.port) as opened:
        document = yaml.safe_load(text)
        for cluster in document["clusters"]:
            cluster["cluster"]["server"] = f"https://127.0.0.1:{opened.port}"
        path = tmp_path / "kubeconfig"
        path.write_text(yaml.safe_dump(document))
        with monkeypatch.context() as patch:
            patch.setenv("KUBECONFIG", str(path))
            yield opened


@pytest.fixture
def brief(tmp_path: Path) -> Brief:
    """A worker that ends when the test says so."""
    return Brief(tmp_path)


@pytest.fixture
async def core(namespace: str, proxy: Proxy, brief: Brief, tmp_path: Path) -> AsyncIterator[Core]:
    """A manager whose way to the API is the proxy."""
    del proxy
    targets = Catalogue.of([SLEEPER, SHORT, brief.target])
    async with manager(namespace, tmp_path, targets, {"brief": brief.options}, timeout=2.0) as opened:
        yield opened


async def test_launches_whose_answers_are_lost_start_each_worker_once(core: Core, proxy: Proxy, namespace: str) -> None:
    """They did arrive, which is seen by looking."""
    await until_all(core, await begun(core, "sleeper", "sleeper", "sleeper"), JobState.RUNNING)
    proxy.lose_answers()  # on the connections over which the next launches go
    queue_id = await begun(core, "sleeper", "sleeper", "sleeper")
    await until_all(core, queue_id, JobState.STARTING)
    proxy.cut()
    queue = await until_all(core, queue_id, JobState.RUNNING)
    pods = await pods_of(namespace)
    assert [pods[job.status.runner.name] for job in queue.jobs if job.status.runner] == [1, 1, 1]


async def test_a_silent_api_is_noticed_waited_for_and_caught_up_with(
    core: Core, proxy: Proxy, brief: Brief, namespace: str
) -> None:
    """A worker that ends in the meantime, a queue that is started in the meantime."""
    first = await begun(core, "brief", "sleeper")
    await until_all(core, first, JobState.RUNNING)
    proxy.freeze()
    await brief.ends()
    second = await begun(core, "sleeper")
    await until_all(core, second, JobState.LAUNCHING, Reason.WAITING_FOR_RUNNER)
    proxy.thaw()
    await until_all(core, second, JobState.RUNNING)

    async def brief_has_finished() -> bool:
        return (await core.service.get(first)).jobs[0].status.state is JobState.FINISHED

    await until(brief_has_finished)
    assert set((await pods_of(namespace)).values()) == {1}


async def test_cut_watches_are_resumed_without_a_loss(core: Core, proxy: Proxy) -> None:
    """Again and again while workers come and go."""
    queue_ids = [await begun(core, "short", "short") for _ in range(3)]
    for _ in range(8):
        await asyncio.sleep(0.5)  # the moments of the cuts are what is tested
        proxy.cut()
    for queue_id in queue_ids:
        queue = await until_all(core, queue_id, JobState.FINISHED)
        assert [job.status.exit_code for job in queue.jobs] == [0, 0]


async def test_an_api_that_does_not_let_us_in_any_more_makes_us_unready(core: Core, proxy: Proxy) -> None:
    """The check says what is wrong."""
    problems = core.problems
    assert not await problems()
    proxy.freeze()
    proxy.cut()

    async def unready() -> bool:
        found = await problems()
        return "Kubernetes does not answer" in found.get("runner", "")

    await until(unready, within=30)
    proxy.thaw()

    async def ready() -> bool:
        return not await problems()

    await until(ready, within=60)
