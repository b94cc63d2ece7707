"""From StartQueue to Jobs: many queues at once, and one on an idle server, beside bare creates of the same Jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any, Final

import grpc
import msgspec

from bench.figures import Figure, at_least, at_most, compared, no_more_than, percentile
from bench.kubernetes.cluster import Cluster
from bench.kubernetes.scale import Scale
from bench.kubernetes.server import Manager, managing
from bench.kubernetes.service import IN_FLIGHT, SERVICE
from bench.processes import ServerUnderTest
from bench.rounds import in_turn, merged

JOBS: Final = 6
"""Jobs of a queue."""
NUMBERS: Final = count()


async def burst(scale: Scale, folder: Path) -> list[Figure]:
    """Many queues started at once, until the last of their Jobs is there."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        manifests = await _manifests(cluster, manager)
        expected = scale.queues * JOBS
        costs, writes = [], []

        async def created(where: Cluster, start: Callable[[], Awaitable[object]]) -> float:
            """Jobs a second, from when they are asked for until the last one is told of."""
            async with where.watch() as watch:
                began = monotonic()
                await start()
                await watch.until(lambda seen: len(seen.created) == expected)
            return expected / (watch.created[-1] - began)

        async def cleared(where: Cluster) -> None:
            await where.delete_jobs()
            await manager.until_none()
            await asyncio.sleep(scale.rest)

        async def ours() -> float:
            before, cpu = await manager.writes(), manager.cpu
            rate = await created(cluster, lambda: _together(manager.start, scale.queues))
            await manager.until_jobs(expected, "STARTING")  # and every launch has been written down
            costs.append((manager.cpu - cpu) / expected * 1e3)
            writes.append((await manager.writes() - before) / scale.queues)
            await cleared(cluster)
            return rate

        elsewhere = await _elsewhere(stack)

        async def bare() -> float:
            bodies = [body for _ in range(scale.queues) for body in _renamed(_moved(manifests, cluster, elsewhere))]
            rate = await created(elsewhere, lambda: elsewhere.create_jobs(bodies, in_flight=IN_FLIGHT))
            await cleared(elsewhere)
            return rate

        served = await _elsewhere(stack)
        start = await _service(stack, served, _moved(manifests, cluster, served))

        async def service() -> float:
            rate = await created(served, lambda: _together(lambda: start(b""), scale.queues))
            await cleared(served)
            return rate

        rounds = merged(await in_turn(scale.rounds, (ours, bare, service), lambda side: side()))
        note = f"{scale.queues} queues of {JOBS} started at once; {IN_FLIGHT} in flight, {len(manifests[0])} bytes each"
        what = "a gRPC service that checks and keeps nothing, only creates the Jobs and watches them"
        return [
            compared("Jobs created", "Jobs/s", [(our, its) for our, its, _ in rounds], target=at_least(0.9), note=note),
            compared("… beside a bare service", "Jobs/s", [(our, least) for our, _, least in rounds], note=what),
            compared("… by that service", "Jobs/s", [(least, its) for _, its, least in rounds]),
            Figure("store writes a queue", max(writes), "", target=no_more_than(2), note="accepted, launched"),
            Figure("server CPU", median(costs[1:]), "ms/Job"),
        ]


async def _together(start: Callable[[], Awaitable[object]], count: int) -> None:
    await asyncio.gather(*(start() for _ in range(count)))


async def _elsewhere(stack: AsyncExitStack) -> Cluster:
    """A namespace where the manager does not look."""
    cluster = await stack.enter_async_context(Cluster())
    await stack.enter_async_context(cluster.namespace())
    return cluster


def _moved(manifests: Sequence[bytes], here: Cluster, there: Cluster) -> list[bytes]:
    return [body.replace(here.name.encode(), there.name.encode()) for body in manifests]


async def _service(
    stack: AsyncExitStack, cluster: Cluster, manifests: Sequence[bytes]
) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """The bare service's call that starts a queue."""
    server = await stack.enter_async_context(ServerUnderTest("bench.kubernetes.service"))
    await server.ask("begin", namespace=cluster.name, manifests=[body.decode() for body in manifests])
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(server.address))
    return channel.unary_unary(f"/{SERVICE}/Start")


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
