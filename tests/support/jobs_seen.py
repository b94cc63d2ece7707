"""Every Job that a namespace ever had, as the API tells it: of a Job that was made twice both uids are seen."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from kubernetes_asyncio.client import ApiClient, BatchV1Api
from kubernetes_asyncio.watch import Watch

from queue_manager.server.adapters.kubernetes.manifest import ATTEMPT, JOB, MANAGED_BY, QUEUE_ID
from tests.support.kubernetes import BUSYBOX, cluster
from tests.support.local_workers import until

Attempt = tuple[str, str, str]
"""Queue, job, and which attempt at it, as the labels of a Job have them."""

MARKER: Final = "the-end"


class JobsSeen:
    """Which Jobs there were, from when it was made."""

    def __init__(self, namespace: str, client: ApiClient) -> None:
        """Made by `jobs_seen`."""
        self._namespace = namespace
        self._batch: Any = BatchV1Api(client)
        self.uids: defaultdict[Attempt, set[str]] = defaultdict(set)
        """Of all Jobs that were ever made for an attempt; one is what there may be."""
        self.left: dict[str, Attempt] = {}
        """By uid: the Jobs that there are."""
        self._caught_up = asyncio.Event()

    async def read(self, version: str) -> None:
        """Take in what happens after a version, without a gap: one that the API no longer has is an error."""
        async with Watch(return_type="object") as watch:
            async for event in watch.stream(self._batch.list_namespaced_job, self._namespace, resource_version=version):
                self._take_in(event["type"], event["raw_object"])

    async def version(self) -> str:
        """That of the namespace as it is now, in which there is no Job yet."""
        jobs = await self._batch.list_namespaced_job(self._namespace)
        assert not jobs.items
        return str(jobs.metadata.resource_version)

    async def caught_up(self, reading: asyncio.Task[None]) -> None:
        """Wait until everything is known that has happened by now: a Job that is made last, and never runs, says so."""
        pod = {"restartPolicy": "Never", "containers": [{"name": "none", "image": BUSYBOX}]}
        marker = {"metadata": {"name": MARKER}, "spec": {"suspend": True, "template": {"spec": pod}}}
        await self._batch.create_namespaced_job(self._namespace, marker)
        await until(lambda: reading.done() or self._caught_up.is_set())
        if reading.done():
            reading.result()

    def _take_in(self, kind: str, job: dict[str, Any]) -> None:
        metadata = job["metadata"]
        labels = metadata.get("labels") or {}
        if metadata["name"] == MARKER:
            self._caught_up.set()
        if MANAGED_BY not in labels:
            return
        attempt, uid = (labels[QUEUE_ID], labels[JOB], labels[ATTEMPT]), metadata["uid"]
        self.uids[attempt].add(uid)
        if kind == "DELETED":
            self.left.pop(uid, None)
        else:
            self.left[uid] = attempt


@asynccontextmanager
async def jobs_seen(namespace: str) -> AsyncIterator[JobsSeen]:
    """Look on from now on; what was seen is whole once this is left."""
    async with cluster() as client:
        seen = JobsSeen(namespace, client)
        reading = asyncio.create_task(seen.read(await seen.version()), name="see Jobs")
        try:
            yield seen
            await seen.caught_up(reading)
        finally:
            reading.cancel()
            await asyncio.wait([reading])
