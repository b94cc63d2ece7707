"""A namespace of the cluster that KUBECONFIG names, spoken to with as little as can be: aiohttp, bytes, no models.

Its connections are kept as long as the manager keeps its own, so that no burst begins by opening sixty-four of them. Its
watch takes protobuf: one that took JSON would cost the API server a fifth of what it can do, on both sides. Both the
yardstick and the benchmark's own hands: it creates Jobs as fast as aiohttp can, and plays the job controller and
the kubelet, which write what becomes of Jobs and pods.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from time import monotonic
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
import msgspec
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config.config_exception import ConfigException
from kubernetes_asyncio.config.kube_config import load_kube_config

from queue_manager.server.adapters.kubernetes.api import KEPT_ALIVE, PROTOBUF, STREAM, frames, tls_context
from queue_manager.server.adapters.kubernetes.objects import JOB_NAME_LABEL, JOBS, KubernetesJob, read_watch_event

MANAGED_BY: Final = "bench.streamforge.io/none"
"""The Jobs' `managedBy`: anything but Kubernetes' own controller."""

MERGE: Final = "application/merge-patch+json"


class Cluster:
    """`async with` opens a connection pool; `namespace` makes one namespace and removes it."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._client: ApiClient | None = None
        self._session: aiohttp.ClientSession | None = None
        self.name = ""

    async def __aenter__(self) -> Self:
        """Read KUBECONFIG."""
        configuration = Configuration()
        try:
            await load_kube_config(client_configuration=configuration)
        except ConfigException as error:
            raise SystemExit(f"KUBECONFIG must name the cluster to measure on: {error}") from error
        self._client = ApiClient(configuration)
        connector = aiohttp.TCPConnector(ssl=tls_context(configuration), keepalive_timeout=KEPT_ALIVE)
        self._session = aiohttp.ClientSession(connector=connector, read_bufsize=2**21)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the pool."""
        assert self._client is not None
        assert self._session is not None
        await self._session.close()
        await self._client.close()

    @asynccontextmanager
    async def namespace(self) -> AsyncIterator[str]:
        """A namespace for as long as it is needed."""
        self.name = f"qm-bench-{uuid.uuid4().hex[:8]}"
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        await self.call("POST", "/api/v1/namespaces", msgspec.json.encode(body))
        try:
            yield self.name
        finally:
            await self.call("DELETE", f"/api/v1/namespaces/{self.name}")

    @property
    def server(self) -> str:
        """The API server's URL."""
        assert self._client is not None
        return str(self._client.configuration.host)

    @property
    def jobs(self) -> str:
        """The path of its Jobs."""
        return f"/apis/batch/v1/namespaces/{self.name}/jobs"

    @property
    def pods(self) -> str:
        """The path of its pods."""
        return f"/api/v1/namespaces/{self.name}/pods"

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        kind: str = "application/json",
        query: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> bytes:
        """Make a call; what is not success raises."""
        async with self._request(method, path, body, kind, query, accept) as response:
            answer = await response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {answer.decode(errors='replace')[:500]}")
            return answer

    async def create_jobs(self, bodies: Sequence[bytes], *, in_flight: int) -> None:
        """Create Jobs, so many calls at once: the bare loop."""
        await at_once((self.call("POST", self.jobs, body) for body in bodies), in_flight)

    async def all_jobs(self) -> list[KubernetesJob]:
        """Every Job of the namespace."""
        found: list[KubernetesJob] = []
        query = {"limit": "500"}
        while True:
            page = JOBS.read_list(await self.call("GET", self.jobs, query=query, accept=PROTOBUF))
            found += page.items
            if not page.more:
                return found
            query["continue"] = page.more

    async def raw_jobs(self, queue_id: str) -> list[dict[str, Any]]:
        """The Jobs of a queue, whole."""
        answer = await self.call("GET", self.jobs, query={"labelSelector": f"app.kubernetes.io/instance={queue_id}"})
        items: list[dict[str, Any]] = msgspec.json.decode(answer)["items"]
        return items

    async def delete_jobs(self) -> None:
        """All of the namespace, and wait until they are gone."""
        await self.call("DELETE", self.jobs, b'{"propagationPolicy": "Background"}')
        while await self.all_jobs():  # noqa: ASYNC110 - deleting is not what is measured
            await asyncio.sleep(0.1)

    async def collect_garbage(self) -> None:
        """Have the API server do that now, where it lets itself be asked.

        Else it does so about every third time that six hundred Jobs are created, whoever creates them, and takes a second
        for it: of ten thousand Jobs that it has seen it keeps a gigabyte.
        """
        with suppress(RuntimeError):
            await self.call("GET", "/debug/pprof/heap", query={"gc": "1"})

    async def patch_status(self, path: str, status: Mapping[str, Any]) -> None:
        """What a controller writes of an object."""
        await self.call("PATCH", f"{path}/status", msgspec.json.encode({"status": status}), kind=MERGE)

    async def run_pod(self, job: KubernetesJob) -> None:
        """A pod of a Job that runs, as its controller and a kubelet would have it."""
        name = f"{job.metadata.name}-pod00"
        owner = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "name": job.metadata.name,
            "uid": job.metadata.uid,
            "controller": True,
        }
        labels = {**(job.metadata.labels or {}), JOB_NAME_LABEL: job.metadata.name}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, "ownerReferences": [owner]},
            "spec": {
                "schedulerName": "bench",
                "restartPolicy": "Never",
                "containers": [{"name": "worker", "image": "none"}],
            },
        }
        await self.call("POST", self.pods, msgspec.json.encode(pod))
        await self.patch_status(f"{self.pods}/{name}", pod_status({"running": {"startedAt": NOW}}, "Running"))

    async def annotate(self, job: KubernetesJob, value: str) -> None:
        """A change of a Job that nobody who looks at a queue sees."""
        body = msgspec.json.encode({"metadata": {"annotations": {"bench.streamforge.io/note": value}}})
        await self.call("PATCH", f"{self.jobs}/{job.metadata.name}", body, kind=MERGE)

    async def fail_pod(self, job: KubernetesJob) -> None:
        """Its container has ended with an exit code; that is not yet the Job's condition."""
        ended = {"exitCode": 3, "startedAt": NOW, "finishedAt": NOW, "reason": "Error"}
        path = f"{self.pods}/{job.metadata.name}-pod00"
        await self.patch_status(path, pod_status({"terminated": ended}, "Failed"))

    async def fail_job(self, job: KubernetesJob) -> None:
        """Its condition says that it has failed, for good."""
        common = {"status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": NOW}
        conditions = [{"type": "FailureTarget", **common}, {"type": "Failed", **common}]
        await self.patch_status(
            f"{self.jobs}/{job.metadata.name}", {"startTime": NOW, "failed": 1, "conditions": conditions}
        )

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[Watch]:
        """The Jobs of the namespace, as they come and change from now on."""
        answer = await self.call("GET", self.jobs, query={"limit": "1"}, accept=PROTOBUF)
        watching = Watch(JOBS.read_list(answer).version)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._follow(watching))
            yield watching
            task.cancel()

    async def _follow(self, watching: Watch) -> None:
        """Go on wherever the server ends the watch."""
        while True:
            async with self.watched(watching.version) as watched:
                await watching.read(watched)

    @asynccontextmanager
    async def watched(self, version: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """The frames of a watch of the Jobs from this version on."""
        query = {"watch": "true", "resourceVersion": version}
        async with self._request("GET", self.jobs, None, "", query, STREAM) as response:
            response.raise_for_status()
            yield frames(response.content)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, body: bytes | None, kind: str, query: Mapping[str, str] | None, accept: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._client is not None
        assert self._session is not None
        headers = {"Accept": accept, **({"Content-Type": kind} if body is not None else {})}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"])
        url = f"{self._client.configuration.host}{path}"
        limits = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            method, url, data=body, headers=headers, params=query, timeout=limits
        ) as response:
            yield response


NOW: Final = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def pod_status(state: Mapping[str, Any], phase: str) -> dict[str, Any]:
    """The status of a pod whose worker is in this state."""
    container = {
        "name": "worker",
        "state": state,
        "ready": phase == "Running",
        "restartCount": 0,
        "image": "none",
        "imageID": "none",
    }
    return {"phase": phase, "containerStatuses": [container]}


class Watch:
    """When Jobs came to be, and when they ended, on the monotonic clock."""

    def __init__(self, version: str) -> None:
        """Nothing has been seen since this version."""
        self.version = version
        self.created: list[float] = []
        self.ended: dict[str, float] = {}
        self._more = asyncio.Event()

    async def read(self, watched: AsyncIterator[bytes]) -> None:
        """Take in frames until the watch ends."""
        async for frame in watched:
            now = monotonic()
            what, raw = read_watch_event(frame)
            job = JOBS.read(raw)
            self.version = job.metadata.resource_version
            if what == "ADDED":
                self.created.append(now)
            elif what == "MODIFIED" and job.ending is not None:
                self.ended.setdefault(job.metadata.name, now)
            self._more.set()

    async def until(self, condition: Callable[[Watch], bool], *, within: float = 120.0) -> None:
        """Wait until that is so."""
        try:
            async with asyncio.timeout(within):
                while not condition(self):
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError as error:
            seen = f"{len(self.created)} Jobs created and {len(self.ended)} ended"
            raise TimeoutError(f"not within {within:g} s; the watch has seen {seen}") from error


async def at_once(calls: Iterable[Coroutine[Any, Any, Any]], in_flight: int) -> None:
    """Make all calls, so many at once."""
    waiting = iter(calls)

    async def some() -> None:
        for call in waiting:
            await call

    await asyncio.gather(*(some() for _ in range(in_flight)))
