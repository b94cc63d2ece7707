"""GET of a queue, 64 in flight, beside a bare handler; both call the same server."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, at_least, compared, percentile
from bench.gateway.http_client import closed_loop
from bench.gateway.http_client import get as fetch
from bench.load import start_queue
from bench.processes import ServerUnderTest
from bench.rounds import in_turn
from bench.scale import Scale

IN_FLIGHT = 64
MANY = 500
"""Queues: many more than answers are remembered."""


@dataclass(frozen=True, slots=True)
class _Got:
    rate: float
    p50: float
    cpu: float
    """Of the process that speaks HTTP, in seconds a request."""


async def get(scale: Scale, folder: Path) -> list[Figure]:
    """The same queue again and again, as pollers do; then so many that no answer is remembered."""
    async with ServerUnderTest("bench.manager", "memory", str(folder)) as server:
        paths = [f"/v1/queues/{(await start_queue(server.address)).queue_id}" for _ in range(MANY)]
        await server.ask("idle")
        async with (
            ServerUnderTest("bench.gateway.served", server.address) as ours,
            ServerUnderTest("bench.gateway.bare", server.address) as bare,
        ):
            body = await fetch(ours.facts["port"], paths[0])
            await bare.ask("answer", text=base64.b64encode(body).decode())
            assert await fetch(bare.facts["port"], paths[0]) == body
            one = await in_turn(scale.rounds, (ours, bare), lambda side: _got(side, paths[:1], scale))
            many = await in_turn(scale.rounds, (ours, bare), lambda side: _got(side, paths, scale))
    note = f"{IN_FLIGHT} in flight, six jobs, {len(body):,} bytes of JSON; bare: one gRPC call, fixed bytes"
    return [*_figures("GET a queue", one, note), *_figures(f"GET one of {MANY}", many, "no answer is remembered")]


async def _got(side: ServerUnderTest, paths: Sequence[str], scale: Scale) -> _Got:
    before = side.cpu
    calls = await closed_loop(side.facts["port"], paths, in_flight=IN_FLIGHT, seconds=scale.seconds)
    return _Got(calls.rate, percentile(calls.latencies, 50), (side.cpu - before) / len(calls.latencies))


def _figures(name: str, rounds: Sequence[tuple[_Got, ...]], note: str) -> list[Figure]:
    return [
        compared(name, "requests/s", [(o.rate, b.rate) for o, b in rounds], target=at_least(0.6), note=note),
        compared(f"{name}: p50", "ms", [(o.p50 * 1e3, b.p50 * 1e3) for o, b in rounds]),
        compared(f"{name}: CPU", "µs/request", [(o.cpu * 1e6, b.cpu * 1e6) for o, b in rounds], note="of the gateway"),
    ]
