"""`queue-manager serve` with its workers on Kubernetes, as a process that is watched from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
from prometheus_client.parser import text_string_to_metric_families

from bench.kubernetes.cluster import MANAGED_BY
from bench.load import SERVICE, payload
from bench.processes import Served, cpu_seconds, serving
from queue_manager.v1 import queue_pb2, service_pb2

TARGETS = ("loader-producer", "arango-connector", "graph-builder", "gnn-trainer")
CATALOGUE = "targets:\n" + "".join(
    f"  {name}:\n    image: bench/none:1\n    kubernetes: {{patch: {{spec: {{managedBy: {MANAGED_BY}}}}}}}\n"
    for name in TARGETS
)
"""Images that nobody pulls, Jobs that Kubernetes' own controller leaves alone."""


class Manager:
    """A server under test, its callers' way."""

    def __init__(self, served: Served, channel: grpc.aio.Channel, http: aiohttp.ClientSession) -> None:
        """Made by `managing`."""
        self.process = served.process
        self._metrics = f"http://{served.metrics}/metrics"
        self._http = http
        self._start: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/StartQueue")
        self._get: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/GetQueue")
        self._watch: grpc.aio.UnaryStreamMultiCallable[bytes, bytes] = channel.unary_stream(f"{SERVICE}/WatchQueue")
        self.address = served.grpc
        self.request = payload().SerializeToString()
        """What a queue of six jobs is started with."""

    @property
    def resident(self) -> int:
        """Bytes of memory that it has resident."""
        return int(self.process.memory_info().rss)

    @property
    def cpu(self) -> float:
        """CPU seconds that it has used."""
        return cpu_seconds(self.process)

    async def start(self) -> str:
        """Start a queue of six jobs: its id."""
        return service_pb2.StartQueueResponse.FromString(await self._start(self.request)).queue.queue_id

    async def get(self, queue_id: str) -> queue_pb2.Queue:
        """A queue as it stands."""
        request = service_pb2.GetQueueRequest(queue_id=queue_id).SerializeToString()
        return service_pb2.GetQueueResponse.FromString(await self._get(request)).queue

    def frames(self, queue_id: str) -> grpc.aio.UnaryStreamCall[bytes, bytes]:
        """A stream of the queue's frames."""
        return self._watch(service_pb2.WatchQueueRequest(queue_id=queue_id).SerializeToString())

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        async with self._http.get(self._metrics) as response:
            text = await response.text()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def writes(self) -> float:
        """How often a queue was written to the store."""
        name = "queue_manager_store_operations_total"
        return await self.metric(name, operation="create") + await self.metric(name, operation="replace")

    async def until_jobs(self, count: float, *states: str) -> None:
        """Wait until so many jobs of unfinished queues are in these states together."""
        async with asyncio.timeout(600):
            while True:
                found = [await self.metric("queue_manager_jobs", state=state) for state in states]
                if sum(found) >= count:
                    return
                await asyncio.sleep(0.1)

    async def until_none(self) -> None:
        """Wait until there is no queue for which something is left to do."""
        async with asyncio.timeout(300):
            while await self.metric("queue_manager_queues"):  # noqa: ASYNC110 - not measured
                await asyncio.sleep(0.1)


@asynccontextmanager
async def managing(namespace: str, folder: Path) -> AsyncIterator[Manager]:
    """A server whose workers are Jobs of this namespace, and whose state is in this folder."""
    catalogue = folder / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    environment = {"QM_RUNNER": "kubernetes", "K8S_NAMESPACE": namespace, "QM_CATALOGUE": str(catalogue)}
    async with (
        serving(folder, environment) as served,
        grpc.aio.insecure_channel(served.grpc) as channel,
        aiohttp.ClientSession() as http,
    ):
        yield Manager(served, channel, http)
