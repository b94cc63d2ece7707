"""WatchQueue beside a bare coalescing fan-out of the same bytes: one hot queue, a hundred warm ones, a thousand silent.

Changes are fed in at the store, which is in memory, so that what is measured is the way from there to a thousand streams.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from bench.figures import Figure, at_least, at_most, compared, percentile
from bench.load import SERVICE, Watchers, get_queue, start_queue
from bench.processes import ServerUnderTest
from bench.rounds import in_turn
from bench.scale import Scale
from queue_manager.v1 import queue_pb2, service_pb2

RATE = 1000
"""Changes a second, over all queues."""
MANY = 100
"""Queues that are warm."""
SLICE = 1.0
"""Seconds that one server is fed before it is the other's turn. Machines become slower and faster within seconds."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers, with what is watched there."""

    server: ServerUnderTest
    method: str
    names: Sequence[str]
    prepare: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a feed came to at the watchers."""

    frames: float
    """A second, all watchers together."""
    p50: float
    """Seconds from a change to the arrival of a frame that has it."""
    p99: float
    cpu: float
    """Of the server, in seconds per frame."""


async def hot(scale: Scale, folder: Path) -> list[Figure]:
    """All watch one queue that changes a thousand times a second."""
    rounds = await _streamed(scale, folder, 1)
    what = f"{scale.watchers:,} watchers over {scale.channels} channels, one queue, {RATE:,} changes/s"
    frames = [(our.frames, its.frames) for our, its in rounds]
    p99 = [(our.p99 * 1e3, its.p99 * 1e3) for our, its in rounds]
    return [
        compared("WatchQueue hot: frames", "frames/s", frames, target=at_least(0.9), note=what),
        compared("WatchQueue hot: delay p50", "ms", [(our.p50 * 1e3, its.p50 * 1e3) for our, its in rounds]),
        compared("WatchQueue hot: delay p99", "ms", p99, target=at_most(2.0)),
        compared("WatchQueue hot: server CPU", "µs/frame", [(our.cpu * 1e6, its.cpu * 1e6) for our, its in rounds]),
    ]


async def warm(scale: Scale, folder: Path) -> list[Figure]:
    """A hundred queues, ten changes a second and ten watchers each; every revision arrives or is stood for."""
    rounds = await _streamed(scale, folder, MANY)
    what = f"{MANY} queues, {scale.watchers // MANY} watchers each, {RATE:,} changes/s in all; no revision was lost"
    return [
        compared("WatchQueue warm: frames", "frames/s", [(our.frames, its.frames) for our, its in rounds], note=what),
        compared("WatchQueue warm: delay p50", "ms", [(our.p50 * 1e3, its.p50 * 1e3) for our, its in rounds]),
        compared("WatchQueue warm: delay p99", "ms", [(our.p99 * 1e3, its.p99 * 1e3) for our, its in rounds]),
    ]


async def silent(scale: Scale, folder: Path) -> list[Figure]:
    """What streams on which nothing happens cost in the server's memory. A fresh server each time: memory comes back."""
    sizes: list[tuple[float, float]] = []
    for number in range(scale.rounds):
        inside = folder / str(number)
        inside.mkdir()
        async with (
            ServerUnderTest("bench.bare") as bare,
            ServerUnderTest("bench.manager", "memory", str(inside)) as ours,
        ):
            ours_side, bare_side = await _sides(bare, ours, 1)
            sizes.append((await _weight(scale, ours_side), await _weight(scale, bare_side)))
    note = f"{scale.watchers:,} idle watchers, memory of the server"
    return [compared("WatchQueue idle", "KiB/watcher", sizes, target=at_most(1.5), note=note)]


async def _sides(bare: ServerUnderTest, ours: ServerUnderTest, count: int) -> tuple[Side, Side]:
    """Ours and the yardstick, with as many queues, and frames of the same bytes."""
    queue_ids = [(await start_queue(ours.address)).queue_id for _ in range(count)]
    await ours.ask("idle")
    queue = service_pb2.GetQueueResponse.FromString(await get_queue(ours.address, queue_ids[0])).queue
    event = queue_pb2.QueueEvent(actor="queue-manager", time=queue.update_time, revision=queue.revision)
    body = service_pb2.WatchQueueResponse(queue=queue, event=event).SerializeToString()
    topics = await bare.ask("topics", count=count, body=base64.b64encode(body).decode())
    return (
        Side(ours, f"{SERVICE}/WatchQueue", queue_ids, {"queue_ids": queue_ids}),
        Side(bare, "/bench.Bare/Watch", topics, {}),
    )


async def _streamed(scale: Scale, folder: Path, queues: int) -> list[tuple[Streamed, ...]]:
    """Feed both servers in turn, in short slices, while the watchers of both stay open."""
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(ServerUnderTest("bench.bare"))
        ours = await stack.enter_async_context(ServerUnderTest("bench.manager", "memory", str(folder)))
        sides = await _sides(bare, ours, queues)
        watched = [(side, await stack.enter_async_context(_watched(scale, side))) for side in sides]
        return await in_turn(round(scale.rounds * scale.seconds / SLICE), watched, _fed)


@asynccontextmanager
async def _watched(scale: Scale, side: Side) -> AsyncIterator[Watchers]:
    """A side's watchers, all of them open."""
    names = [side.names[number % len(side.names)] for number in range(scale.watchers)]
    watchers = Watchers(side.server.address, side.method, names, channels=scale.channels)
    await watchers.open()
    try:
        yield watchers
    finally:
        await watchers.close()


async def _fed(watched: tuple[Side, Watchers]) -> Streamed:
    """Feed one side for a slice, and wait until its watchers have caught up."""
    side, watchers = watched
    await side.server.ask("prepare", count=round(RATE * SLICE), **side.prepare)
    watchers.forget()
    cpu, began = side.server.cpu, monotonic()
    fed = await side.server.ask("feed", rate=RATE, seconds=SLICE)
    ended, cpu = monotonic(), side.server.cpu - cpu
    made = {(name, revision): time for name, revision, time in fed["times"]}
    await watchers.caught_up({name: revision for name, revision, _ in fed["times"]})
    if gaps := sum(watcher.gaps for watcher in watchers.all):
        raise AssertionError(f"{gaps} frames did not stand for the revisions before them")
    arrivals = [(watcher.name, *arrival) for watcher in watchers.all for arrival in watcher.arrivals]
    delays = [time - made[name, revision] for name, revision, time in arrivals if (name, revision) in made]
    in_time = sum(time <= ended for _, _, time in arrivals)
    return Streamed(
        frames=in_time / (ended - began), p50=percentile(delays, 50), p99=percentile(delays, 99), cpu=cpu / in_time
    )


async def _weight(scale: Scale, side: Side) -> float:
    before = side.server.resident
    async with _watched(scale, side):
        await asyncio.sleep(1.0)
        return (side.server.resident - before) / 1024 / scale.watchers
