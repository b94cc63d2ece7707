"""From StartQueue to Jobs: many queues at once, and one on an idle server, beside bare creates of the same Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final

import msgspec

from bench.figures import Figure, at_least, at_most, compared, no_more_than, percentile
from bench.kubernetes.cluster import Cluster
from bench.kubernetes.scale import Scale
from bench.kubernetes.server import Manager, managing
from bench.rounds import in_turn

JOBS: Final = 6
"""Jobs of a queue."""
NUMBERS: Final = count()
IN_FLIGHT: Final = 64
"""Creates under way at once, as many as the manager has."""


async def burst(scale: Scale, folder: Path) -> list[Figure]:
    """Many queues started at once, until the last of their Jobs is there."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        elsewhere = await stack.enter_async_context(Cluster())  # where the manager does not look
        await stack.enter_async_context(elsewhere.namespace())
        manifests = [
            body.replace(cluster.name.encode(), elsewhere.name.encode()) for body in await _manifests(cluster, manager)
        ]
        expected = scale.queues * JOBS
        costs, writes = [], []

        async def ours() -> float:
            before, cpu = await manager.writes(), manager.cpu
            async with cluster.watch() as watch:
                began = monotonic()
                await asyncio.gather(*(manager.start() for _ in range(scale.queues)))
                await watch.until(lambda seen: len(seen.created) == expected)
            await manager.until_jobs(expected, "STARTING")  # and every launch has been written down
            costs.append((manager.cpu - cpu) / expected * 1e3)
            writes.append((await manager.writes() - before) / scale.queues)
            rate = expected / (watch.created[-1] - began)
            await cluster.delete_jobs()
            await manager.until_none()
            await asyncio.sleep(scale.rest)
            return rate

        async def bare() -> float:
            bodies = [body for _ in range(scale.queues) for body in _renamed(manifests)]
            async with elsewhere.watch() as watch:
                began = monotonic()
                await elsewhere.create_jobs(bodies, in_flight=IN_FLIGHT)
                await watch.until(lambda seen: len(seen.created) == expected)
            rate = expected / (watch.created[-1] - began)
            await elsewhere.delete_jobs()
            await asyncio.sleep(scale.rest)
            return rate

        rounds = await in_turn(scale.rounds, ours, bare, lambda side: side())
        note = f"{scale.queues} queues of {JOBS} started at once; {IN_FLIGHT} in flight, {len(manifests[0])} bytes each"
        return [
            compared("Jobs created", "Jobs/s", rounds, target=at_least(0.9), note=note),
            Figure("store writes a queue", max(writes), "", target=no_more_than(2), note="accepted, launched"),
            Figure("server CPU", median(costs[1:]), "ms/Job"),
        ]


async def one(scale: Scale, folder: Path) -> list[Figure]:
    """One queue on an idle server."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        manifests = await _manifests(cluster, manager)
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
                bare = await until_there(monotonic(), cluster.create_jobs(_renamed(manifests), in_flight=JOBS))
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


async def _manifests(cluster: Cluster, manager: Manager) -> Sequence[bytes]:
    """What the manager sends to create the Jobs of a queue, told from what the API has of them."""
    queue_id = await manager.start()
    await manager.until_jobs(JOBS, "STARTING")
    manifests = []
    for job in await cluster.raw_jobs(queue_id):
        metadata, spec = job["metadata"], job["spec"]
        made = ("batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name", "controller-uid", "job-name")
        spec.pop("selector")
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


def _renamed(manifests: Sequence[bytes]) -> list[bytes]:
    """The Jobs of another queue."""
    suffix = f"{next(NUMBERS):06d}".encode()
    return [body.replace(b"SUFFIX", suffix) for body in manifests]
