"""Unary calls: GetQueue and StartQueue beside a bare echo of the same bytes."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, Target, at_least, compared, percentile
from bench.load import SERVICE, closed_loop, get_queue, payload, start_queue
from bench.processes import ServerUnderTest
from bench.rounds import in_turn
from bench.scale import Scale
from queue_manager.v1 import service_pb2

IN_FLIGHT = 64
CHANNELS = 4


async def get(scale: Scale, folder: Path) -> list[Figure]:
    """GetQueue of a queue with six jobs."""
    async with ServerUnderTest("bench.bare") as bare, ServerUnderTest("bench.manager", "memory", str(folder)) as ours:
        queue_id = (await start_queue(ours.address)).queue_id
        await ours.ask("idle")
        request = service_pb2.GetQueueRequest(queue_id=queue_id).SerializeToString()
        answer = await get_queue(ours.address, queue_id)
        return await _beside_echo(
            "GetQueue", scale, bare, ours, lambda: request, answer, target=at_least(0.80), what="six jobs"
        )


async def start(scale: Scale, folder: Path) -> list[Figure]:
    """StartQueue of six jobs, each answered when it is on the disk. The runner holds launches until all is measured."""
    async with ServerUnderTest("bench.bare") as bare, ServerUnderTest("bench.manager", "sqlite", str(folder)) as ours:
        await ours.ask("hold", launches=True)
        queue = await start_queue(ours.address)
        answer = service_pb2.StartQueueResponse(queue=queue, created=True).SerializeToString()
        wish = payload()

        def request() -> bytes:
            wish.request_id = uuid.uuid4().hex
            return wish.SerializeToString()

        return await _beside_echo(
            "StartQueue", scale, bare, ours, request, answer, target=at_least(0.25), what="six jobs, synced to disk"
        )


async def _beside_echo(
    method: str,
    scale: Scale,
    bare: ServerUnderTest,
    ours: ServerUnderTest,
    request: Callable[[], bytes],
    answer: bytes,
    *,
    target: Target,
    what: str,
) -> list[Figure]:
    await bare.ask("answer", body=base64.b64encode(answer).decode())

    async def called(side: tuple[ServerUnderTest, str]) -> tuple[float, float, float]:
        server, path = side
        before = server.cpu
        calls = await closed_loop(
            server.address, path, request, in_flight=IN_FLIGHT, channels=CHANNELS, seconds=scale.seconds
        )
        tail = percentile(calls.latencies, 99)
        return calls.rate, tail * 1e3, (server.cpu - before) / len(calls.latencies) * 1e6

    sides = ((ours, f"{SERVICE}/{method}"), (bare, "/bench.Bare/Echo"))
    rounds = await in_turn(scale.rounds, sides, called)
    rates, tails, costs = ([(our[part], its[part]) for our, its in rounds] for part in range(3))
    note = f"{what}; {IN_FLIGHT} in flight, {len(request())} bytes in, {len(answer)} out"
    return [
        compared(f"{method} rate", "calls/s", rates, target=target, note=note),
        compared(f"{method} p99", "ms", tails),
        compared(f"{method} server CPU", "µs/call", costs),
    ]
