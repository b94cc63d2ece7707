"""A thousand readers of server-sent events: how late they hear, what they cost, and how many streams the server has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.figures import Figure, no_more_than, percentile
from bench.gateway.http_client import get, watchers
from bench.load import start_queue
from bench.processes import ServerUnderTest
from bench.scale import Scale

MANY = 100
"""Queues that are warm."""
HOT_RATE = 5.0
"""Changes a second of one queue; each is a frame for every watcher."""
WARM_RATE = 200.0
"""Changes a second of all the warm queues together."""
_STREAMS = re.compile(rb"^queue_manager_gateway_upstream_watches (\S+)$", re.MULTILINE)


async def hot(scale: Scale, folder: Path) -> list[Figure]:
    """All watch one queue."""
    return await _heard("SSE hot", scale, folder, 1, HOT_RATE)


async def warm(scale: Scale, folder: Path) -> list[Figure]:
    """A hundred queues, ten watchers each."""
    return await _heard("SSE warm", scale, folder, MANY, WARM_RATE)


async def _heard(name: str, scale: Scale, folder: Path, queues: int, rate: float) -> list[Figure]:
    async with ServerUnderTest("bench.manager", "memory", str(folder)) as server:
        names = [(await start_queue(server.address)).queue_id for _ in range(queues)]
        await server.ask("idle")
        async with ServerUnderTest("bench.gateway.served", server.address) as gateway:
            port = gateway.facts["port"]
            reading = await watchers(port, names, scale.watchers)
            streams = await _upstream(port)
            await server.ask("prepare", queue_ids=names, count=round(rate * scale.seconds * 2))
            before = gateway.cpu
            fed = await server.ask("feed", rate=rate, seconds=scale.seconds * 2)
            times = {(queue, revision): at for queue, revision, at in fed["times"]}
            last = {queue: max(r for q, r, _ in fed["times"] if q == queue) for queue in names}
            async with asyncio.timeout(60):
                while any(not each.arrived or each.arrived[-1][0] < last[each.name] for each in reading):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            cpu = gateway.cpu - before
            delays = [
                at - times[each.name, revision]
                for each in reading
                for revision, at in each.arrived
                if (each.name, revision) in times
            ]
            for each in reading:
                each.close()
    what = f"{scale.watchers:,} readers, {queues} queue{'s' * (queues > 1)}, {rate:g} changes/s in all"
    return [
        Figure(f"{name}: upstream streams", streams, "streams", target=no_more_than(queues), note="one a queue"),
        Figure(f"{name}: frames", len(delays), "frames", note=what),
        Figure(f"{name}: delay p50", percentile(delays, 50) * 1e3, "ms", note="from the change at the server"),
        Figure(f"{name}: delay p99", percentile(delays, 99) * 1e3, "ms"),
        Figure(f"{name}: gateway CPU", cpu / len(delays) * 1e6, "µs/frame"),
    ]


async def silent(scale: Scale, folder: Path) -> list[Figure]:
    """What readers of a queue on which nothing happens cost in the gateway's memory."""
    sizes: list[float] = []
    for number in range(3):
        inside = folder / str(number)
        inside.mkdir()
        async with ServerUnderTest("bench.manager", "memory", str(inside)) as server:
            queue_id = (await start_queue(server.address)).queue_id
            await server.ask("idle")
            async with ServerUnderTest("bench.gateway.served", server.address) as gateway:
                sizes.append(await _weight(gateway, [queue_id], scale.watchers))
    note = f"{scale.watchers:,} idle readers, memory of the gateway"
    return [Figure("SSE idle", median(sizes) / 1024, "KiB/reader", note=note)]


async def _weight(gateway: ServerUnderTest, names: Sequence[str], count: int) -> float:
    port = gateway.facts["port"]
    warm_up = await watchers(port, names, 20)
    before = gateway.resident
    reading = await watchers(port, names, count)
    found = (gateway.resident - before) / count
    for each in [*warm_up, *reading]:
        each.close()
    return found


async def _upstream(port: int) -> float:
    """How many watches the gateway has open at the server."""
    found = _STREAMS.search(await get(port, "/metrics"))
    assert found is not None
    return float(found[1])
