"""From StartQueue to Jobs: one queue on an idle server, beside bare creates of the same Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, Final

import msgspec

from bench.figures import Figure, at_most, compared, percentile
from bench.kubernetes.cluster import Cluster
from bench.kubernetes.scale import Scale
from bench.kubernetes.server import Manager, managing

JOBS: Final = 6
"""Jobs of a queue."""
NUMBERS: Final = count()


async def one(scale: Scale, folder: Path) -> list[Figure]:
    """One queue on an idle server."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        manifests = await prepared(cluster, manager)
        rounds = []
        async with cluster.watch() as watch:

            async def until_there(began: float, what: Any) -> float:
                count = len(watch.created) + JOBS
                answered = asyncio.ensure_future(what)
                await watch.until(lambda seen: len(seen.created) == count)
                await answered
                await asyncio.sleep(0.05)  # what follows is no part of it, nor of the next one
                return (watch.created[-1] - began) * 1e3

            for _ in range(scale.samples + 5):
                ours = await until_there(monotonic(), manager.start())
                bare = await until_there(monotonic(), cluster.create_jobs(renamed(manifests), in_flight=JOBS))
                rounds.append((ours, bare))
        rounds = rounds[5:]
        sides = list(zip(*rounds, strict=True))
        at = [[percentile(side, percent) for side in sides] for percent in (50, 99)]
        note = f"{len(rounds)} queues one by one; bare: {JOBS} creates side by side"
        return [
            compared(f"StartQueue → Job {JOBS}, p50", "ms", [(at[0][0], at[0][1])], target=at_most(1.5), note=note),
            compared(f"StartQueue → Job {JOBS}, p99", "ms", [(at[1][0], at[1][1])]),
        ]


async def opened(stack: AsyncExitStack, folder: Path) -> tuple[Cluster, Manager]:
    """A namespace, and a server whose workers are in it."""
    cluster = await stack.enter_async_context(Cluster())
    namespace = await stack.enter_async_context(cluster.namespace())
    return cluster, await stack.enter_async_context(managing(namespace, folder))


async def prepared(cluster: Cluster, manager: Manager) -> Sequence[bytes]:
    """What the manager sends to create the Jobs of a queue, told from what the API has of them, as JSON."""
    queue_id = await manager.start()
    await manager.until_jobs(JOBS, "STARTING")
    manifests = []
    for job in await cluster.raw_jobs(queue_id):
        metadata, spec = job["metadata"], job["spec"]
        made = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name")
        _take_defaults_from(spec)
        for labels in (metadata["labels"], spec["template"]["metadata"]["labels"]):
            for name in made:
                labels.pop(name, None)
        kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations")}
        manifests.append(
            msgspec.json.encode({"apiVersion": "batch/v1", "kind": "Job", "metadata": kept, "spec": spec}).replace(
                queue_id.rpartition("-")[2].encode(), b"SUFFIX"
            )
        )
    await cluster.delete_jobs()
    await manager.until_none()
    assert len(manifests) == JOBS
    return manifests


def _take_defaults_from(spec: dict[str, Any]) -> None:
    """Take away what the API has put into a Job's specification."""
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    for field in ("selector", "manualSelector", "completionMode", "suspend"):
        spec.pop(field, None)
    for field in ("dnsPolicy", "schedulerName"):
        pod.pop(field, None)
    container.pop("terminationMessagePath", None)
    for variable in container["env"]:
        variable.get("valueFrom", {}).get("fieldRef", {}).pop("apiVersion", None)


def renamed(manifests: Sequence[bytes]) -> list[bytes]:
    """The Jobs of another queue."""
    suffix = f"{next(NUMBERS):06d}".encode()
    return [body.replace(b"SUFFIX", suffix) for body in manifests]
