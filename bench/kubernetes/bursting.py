"""Many queues started at once, until the last of their Jobs is there, beside bare creates of the same Jobs.

Where the control plane, the caller and the server share too few processors, all of them are busy to the last, and what is
compared is CPU seconds; so it is said whose. With the control plane on a processor of its own, as on machines of its own,
it is compared how fast it is kept busy.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from time import monotonic

import psutil

from bench.figures import Figure, at_least, compared, no_more_than
from bench.kubernetes.callers import calling
from bench.kubernetes.cluster import Cluster
from bench.kubernetes.plane import can_part, control_plane, parted
from bench.kubernetes.scale import Scale
from bench.kubernetes.service import IN_FLIGHT, STARTER
from bench.kubernetes.starting import JOBS, opened, prepared, renamed
from bench.load import SERVICE
from bench.processes import ServerUnderTest, cpu_seconds
from bench.rounds import in_turn, merged


@dataclass(frozen=True, slots=True)
class Burst:
    """What creating the Jobs took: Jobs a second, and milliseconds of CPU a Job."""

    rate: float
    own: float
    """Of who created them."""
    plane: float
    """Of the control plane."""


class Side:
    """One who creates the Jobs of many queues at once."""

    def __init__(
        self,
        where: Cluster,
        process: psutil.Process,
        start: Callable[[], Awaitable[object]],
        *,
        before: Callable[[], Awaitable[None]] | None = None,
        after: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`start` has them created in the namespace `where`. What is awaited `before` and `after` it is not measured."""
        self._where = where
        self._process = process
        self._start = start
        self._before = before
        self._after = after

    async def measure(self, expected: int) -> Burst:
        """From when they are asked for until the last one is told of."""
        plane = control_plane(self._where.server)
        if self._before is not None:
            await self._before()
        await self._where.collect_garbage()
        async with self._where.watch() as watch:
            began, own, planes = monotonic(), cpu_seconds(self._process), sum(map(cpu_seconds, plane))
            await self._start()
            await watch.until(lambda seen: len(seen.created) == expected)
            used = [cpu_seconds(self._process) - own, sum(map(cpu_seconds, plane)) - planes]
        if self._after is not None:
            await self._after()
        await self._where.delete_jobs()
        return Burst(expected / (watch.created[-1] - began), *(seconds / expected * 1e3 for seconds in used))


async def burst(scale: Scale, folder: Path) -> list[Figure]:
    """The Queue Manager, the bare loop, and between them the least that a service can be."""
    async with AsyncExitStack() as stack:
        cluster, manager = await opened(stack, folder)
        manifests = await prepared(cluster, manager)
        expected, writes, costs = scale.queues * JOBS, [], []
        elsewhere, served = await _elsewhere(stack), await _elsewhere(stack)
        service = await _service(stack, served, _moved(manifests, cluster, served))
        callers = await stack.enter_async_context(calling(manager.address))
        its_callers = await stack.enter_async_context(calling(service.address))

        async def count() -> None:
            await callers.prepare(f"{SERVICE}/StartQueue", manager.request, scale.queues)
            writes.append(-await manager.writes())
            costs.append(-manager.cpu)

        async def count_again() -> None:
            await callers.answered()
            await manager.until_jobs(expected, "STARTING")
            costs[-1] += manager.cpu
            writes[-1] += await manager.writes()

        bodies: list[bytes] = []

        async def prepare() -> None:
            bodies[:] = [body for _ in range(scale.queues) for body in renamed(_moved(manifests, cluster, elsewhere))]

        async def create() -> None:
            await elsewhere.create_jobs(bodies, in_flight=IN_FLIGHT)

        async def ask() -> None:
            await its_callers.prepare(f"/{STARTER}/Start", manager.request, scale.queues)

        ours = Side(cluster, manager.process, callers.send, before=count, after=count_again)
        bare = Side(elsewhere, psutil.Process(), create, before=prepare)
        least = Side(served, service.process, its_callers.send, before=ask, after=its_callers.answered)

        async def measure(side: Side) -> Burst:
            found = await side.measure(expected)
            await manager.until_none()
            await asyncio.sleep(scale.rest)
            return found

        together = await in_turn(scale.rounds, (ours, bare, least), measure)
        size = len(manifests[0])
        note = f"{scale.queues} queues of {JOBS} at once; {IN_FLIGHT} in flight, {size} bytes of JSON each"
        figures = _sharing(together, note)
        figures.append(
            Figure(
                "store writes a queue",
                max(writes) / scale.queues,
                "",
                target=no_more_than(2),
                note="accepted, launched",
            )
        )
        figures.append(Figure("server CPU, until all is on record", median(costs[1:]) / expected * 1e3, "ms/Job"))
        if can_part(plane := control_plane(cluster.server)):
            with parted(plane, (psutil.Process(), manager.process)):
                figures.append(_apart(await in_turn(scale.rounds // 6 * 2, (ours, bare), measure)))
        return figures


def _sharing(rounds: Sequence[tuple[Burst, ...]], note: str) -> list[Figure]:
    our, its, least = _rates(rounds)
    what = "a gRPC service that checks nothing, only stores what it is sent, twice, creates the Jobs and watches them"
    return [
        compared("Jobs created", "Jobs/s", [(our, its)], target=at_least(0.9), note=note),
        compared("… beside a bare service", "Jobs/s", [(our, least)], note=what),
        compared("… by that service", "Jobs/s", [(least, its)]),
        _cpu(
            "… own CPU", [(our.own, its.own) for our, its, _ in rounds], note="the bare loop's with the bench's watch"
        ),
        _cpu("… own CPU of that service", [(least.own, its.own) for _, its, least in rounds]),
        _cpu("… control plane's CPU", [(our.plane, its.plane) for our, its, _ in rounds]),
        _cpu("… by that service", [(least.plane, its.plane) for _, its, least in rounds]),
    ]


def _rates(rounds: Sequence[tuple[Burst, ...]]) -> tuple[float, ...]:
    return merged([tuple(side.rate for side in sides) for sides in rounds])


def _cpu(name: str, rounds: Sequence[tuple[float, float]], note: str = "") -> Figure:
    """The mean of all rounds."""
    ours, bare = zip(*rounds, strict=True)
    return compared(name, "ms/Job", [(fmean(ours), fmean(bare))], note=note)


def _apart(rounds: Sequence[tuple[Burst, ...]]) -> Figure:
    our, its = _rates(rounds)
    return compared(
        "Jobs created, processors apart",
        "Jobs/s",
        [(our, its)],
        target=at_least(0.9),
        note="one processor for the control plane, one for all else, on either side",
    )


async def _elsewhere(stack: AsyncExitStack) -> Cluster:
    """A namespace where the manager does not look."""
    cluster = await stack.enter_async_context(Cluster())
    await stack.enter_async_context(cluster.namespace())
    return cluster


def _moved(manifests: Sequence[bytes], here: Cluster, there: Cluster) -> list[bytes]:
    return [body.replace(here.name.encode(), there.name.encode()) for body in manifests]


async def _service(stack: AsyncExitStack, cluster: Cluster, manifests: Sequence[bytes]) -> ServerUnderTest:
    """The bare service, which creates these for each call."""
    server = await stack.enter_async_context(ServerUnderTest("bench.kubernetes.service"))
    await server.ask("begin", namespace=cluster.name, manifests=[body.decode() for body in manifests])
    return server
