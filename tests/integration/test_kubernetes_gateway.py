"""The gateways that `deploy/` puts in front of the server: found by their Service, watched through, ended and left alone.

A pod of the test's cluster may have no DNS: the server's name leads to its pod by an entry in their hosts file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.support.deployment import (
    GATEWAYS,
    ROOT,
    deployed,
    endpoints,
    kubectl,
    needs_image,
    pods,
    restart_manager,
    rolled_out,
)
from tests.support.kubernetes import needs_cluster
from tests.support.local_workers import until

NAME = "queue-manager-gateway"

pytestmark = [pytest.mark.integration, needs_cluster, needs_image, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def namespace(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A namespace in which the server and its gateways are ready; those answer to their Service's name alone."""
    async with deployed(tmp_path_factory.mktemp("deploy"), {"QM_HTTP_HOSTS": NAME}) as name:
        (server,) = (await endpoints(name, "queue-manager", "grpc")).values()
        host, _, port = server.partition(":")
        assert port == "50051"
        found = [{"ip": host, "hostnames": ["queue-manager"]}]
        patch = json.dumps({"spec": {"template": {"spec": {"hostAliases": found}}}})
        await kubectl("-n", name, "patch", f"deployment/{NAME}", "--patch", patch)
        await rolled_out(name, NAME)
        yield name


@pytest_asyncio.fixture(loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A caller who uses the Service's name."""
    async with aiohttp.ClientSession(headers={"Host": NAME}, timeout=aiohttp.ClientTimeout(None)) as opened:
        yield opened


async def two_gateways(namespace: str) -> dict[str, str]:
    """Both, by pod; waits for them."""
    found: dict[str, str] = {}

    async def both() -> bool:
        nonlocal found
        found = await endpoints(namespace, NAME, "http")
        return len(found) == 2

    await until(both, within=60)
    return found


async def grace_of(namespace: str, name: str) -> float:
    """Seconds from a pod's deletion until it is killed, if it has not gone by then."""
    (pod,) = (pod for pod in await pods(namespace, GATEWAYS) if pod.metadata.name == name)
    return float(pod.spec.termination_grace_period_seconds)


async def post(session: aiohttp.ClientSession, url: str, body: object) -> Any:
    """What is answered; it must be well."""
    async with session.post(url, json=body) as answer:
        told = await answer.json()
        assert answer.ok, told
        return told


async def start(session: aiohttp.ClientSession, gateway: str, pipeline: str) -> str:
    """Start one of the examples: the queue's id."""
    payload = json.loads((ROOT / "examples" / f"{pipeline}-pipeline.json").read_text())
    return str((await post(session, f"http://{gateway}/v1/queues", payload))["queue"]["queue_id"])


async def stop(session: aiohttp.ClientSession, gateway: str, queue_id: str) -> None:
    """Stop it, and wait until it has."""
    body = {"grace_period": "2s", "wait": True}
    stopped = await post(session, f"http://{gateway}/v1/queues/{queue_id}:stop", body)
    assert stopped["state"] == "QUEUE_STATE_STOPPED"


class Watcher:
    """Follows a queue by server-sent events, and sees to it that no revision is missed or comes twice."""

    def __init__(self, session: aiohttp.ClientSession, queue_id: str) -> None:
        """Has seen nothing yet."""
        self._session = session
        self._path = f"/v1/queues/{queue_id}:watch"
        self.revision = 0
        self.state = ""

    async def watch(self, gateway: str) -> str:
        """Go on from where it is until the stream ends: the kind of its last event."""
        headers = {"Last-Event-ID": str(self.revision)} if self.revision else {}
        kind = ""
        async with self._session.get(f"http://{gateway}{self._path}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                name, _, value = line.decode().rstrip().partition(": ")
                if name == "event":
                    kind = value
                elif name == "data" and kind != "ERROR":
                    self._see(json.loads(value))
        return kind

    def _see(self, frame: dict[str, Any]) -> None:
        assert self.revision + int(frame["revisions_merged"]) == int(frame["revision"])
        self.revision = int(frame["revision"])
        self.state = frame["queue"]["state"]

    async def until_running(self) -> None:
        """Wait until the queue runs."""
        await until(lambda: self.state == "QUEUE_STATE_RUNNING", within=60)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_queue_is_started_and_watched_through_the_service(
    namespace: str, session: aiohttp.ClientSession
) -> None:
    """Started at one gateway, watched at the other. Probes are answered by any name, calls are not."""
    one, other = (await two_gateways(namespace)).values()
    async with session.get(f"http://{one}/health/ready") as answer:
        assert (answer.status, (await answer.json())["parts"]["server"]) == (200, {"status": "SERVING"})
    for path, status in (("/health/ready", 200), ("/metrics", 200), ("/v1/queues", 421), ("/", 421)):
        async with session.get(f"http://{one}{path}", headers={"Host": "elsewhere.example.com"}) as answer:
            assert answer.status == status, path
    watcher = Watcher(session, await start(session, one, "historical"))
    assert await watcher.watch(other) == "END"
    assert watcher.state == "QUEUE_STATE_FINISHED"


@pytest.mark.asyncio(loop_scope="module")
async def test_a_watcher_whose_gateway_goes_resumes_at_the_other(
    namespace: str, session: aiohttp.ClientSession
) -> None:
    """It is told so, and misses nothing. The pod goes by itself within its grace, and another one comes."""
    (gone, one), (_, other) = (await two_gateways(namespace)).items()
    queue_id = await start(session, one, "realtime")
    watcher = Watcher(session, queue_id)
    watching = asyncio.create_task(watcher.watch(one))
    await watcher.until_running()
    killed = asyncio.get_running_loop().time() + await grace_of(namespace, gone)
    await kubectl("-n", namespace, "delete", "pod", gone, "--wait=false")
    assert await asyncio.wait_for(watching, 15) == "ERROR"

    async def is_gone() -> bool:
        return gone not in {pod.metadata.name for pod in await pods(namespace, GATEWAYS)}

    await until(is_gone, within=killed - asyncio.get_running_loop().time())
    watching = asyncio.create_task(watcher.watch(other))
    await stop(session, other, queue_id)
    assert await watching == "END"
    assert watcher.state == "QUEUE_STATE_STOPPED"
    assert gone not in await two_gateways(namespace)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_gateway_outlives_its_server(namespace: str, session: aiohttp.ClientSession) -> None:
    """The server is restarted: no gateway is, and the streams that they serve go on."""
    gateways = await two_gateways(namespace)
    one, _ = gateways.values()
    queue_id = await start(session, one, "realtime")
    watcher = Watcher(session, queue_id)
    watching = asyncio.create_task(watcher.watch(one))
    await watcher.until_running()
    await restart_manager(namespace)
    assert await two_gateways(namespace) == gateways
    await stop(session, one, queue_id)
    assert await watching == "END"
    assert watcher.state == "QUEUE_STATE_STOPPED"
    restarts = [pod.status.container_statuses[0].restart_count for pod in await pods(namespace, GATEWAYS)]
    assert restarts == [0, 0]
