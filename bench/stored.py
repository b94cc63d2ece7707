"""What a large store costs: listing among a hundred thousand queues, and starting with ten thousand unfinished ones."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, perf_counter, time

import grpc
from msgspec.structs import replace

from bench.figures import Figure, at_most, compared, percentile
from bench.load import SERVICE, payload
from bench.processes import ServerUnderTest
from bench.scale import Scale
from queue_manager.server.adapters.sqlite.store import SqliteStore
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.history import record
from queue_manager.server.domain.launch import LaunchSpecs, Platform
from queue_manager.server.domain.lifecycle import advance
from queue_manager.server.domain.model import Queue, QueueState
from queue_manager.server.domain.request import accept
from queue_manager.server.domain.timings import Timings
from queue_manager.server.rpc.requests import start_request
from queue_manager.v1 import service_pb2

PAGE = 50
"""What ListQueues answers where nobody says."""
DEEP = 1000
"""Which page is compared with the first."""
TOGETHER = 512
EPOCH = time() - 10 * 86400
"""Not so long ago that the server would remove what ended then."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


async def fill(folder: Path, count: int, *, settled: bool) -> None:
    """Store so many queues of six jobs; those that are not settled are about to be launched."""
    queue = accept(start_request(payload()), builtin_catalogue(), now=EPOCH, suffix="000000", requested_by="bench")
    hash_of = LaunchSpecs(builtin_catalogue(), Platform()).hash_of
    queue = advance(queue, now=EPOCH, timings=Timings(), spec_hash=hash_of)
    if settled:
        status = replace(queue.status, state=QueueState.FINISHED, end_time=EPOCH + 60)
        queue = replace(queue, status=status, settled=True)
    async with SqliteStore(folder, max_pending=TOGETHER * 2) as store:
        for start in range(0, count, TOGETHER):
            numbers = range(start, min(count, start + TOGETHER))
            await asyncio.gather(*(_store(store, queue, number) for number in numbers))


async def _store(store: SqliteStore, template: Queue, number: int) -> None:
    suffix = "".join(DIGITS[number // 36**place % 36] for place in range(5, -1, -1))
    queue_id = template.queue_id.replace("-000000", f"-{suffix}")
    spec = replace(template.spec, queue_id=queue_id, create_time=EPOCH + number)
    jobs = tuple(
        replace(job, spec=replace(job.spec, telemetry_id=job.spec.telemetry_id.replace("000000", suffix)))
        for job in template.jobs
    )
    queue, _, entry = record(None, replace(template, spec=spec, jobs=jobs), now=EPOCH)
    assert entry is not None
    await store.create(queue, entry)


async def listing(scale: Scale, folder: Path) -> list[Figure]:
    """The first page and a deep one, beside the first page of a store that is nearly empty."""
    many, few = folder / "many", folder / "few"
    for inside, count in ((many, scale.stored), (few, scale.few_stored)):
        inside.mkdir()
        await fill(inside, count, settled=True)
    async with AsyncExitStack() as stack:
        large = await stack.enter_async_context(ServerUnderTest("bench.manager", "sqlite", str(many)))
        small = await stack.enter_async_context(ServerUnderTest("bench.manager", "sqlite", str(few)))
        deep = min(DEEP, scale.stored // PAGE)
        last = await _token_after(large.address, (deep - 1) * PAGE)
        rounds = []
        for _ in range(scale.rounds):
            seconds = scale.seconds / 2
            found = [
                await _pages(address, token, seconds)
                for address, token in ((small.address, ""), (large.address, ""), (large.address, last))
            ]
            rounds.append([percentile(latencies, 99) * 1e3 for latencies in found])
    note = f"pages of {PAGE} among {scale.stored:,} stored queues; bare: the first page among {scale.few_stored:,}"
    return [
        compared("ListQueues page 1 p99", "ms", [(r[1], r[0]) for r in rounds], target=at_most(2.0), note=note),
        compared(f"ListQueues page {deep:,} p99", "ms", [(r[2], r[0]) for r in rounds], target=at_most(2.0)),
    ]


async def start_up(scale: Scale, folder: Path) -> list[Figure]:
    """How long a server takes until it has loaded its unfinished queues and serves."""
    counts = (0, scale.unfinished // 10, scale.unfinished)
    folders = [folder / str(count) for count in counts]
    for inside, count in zip(folders, counts, strict=True):
        inside.mkdir()
        await fill(inside, count, settled=False)
    bare, ours = [], []
    for _ in range(min(3, scale.rounds)):
        bare.append((await _start("bench.bare"))[0])
        ours.append([await _start("bench.manager", "sqlite", str(inside), "held") for inside in folders])

    def beside_bare(place: int) -> list[tuple[float, float]]:
        return [(round_[place][0], its) for round_, its in zip(ours, bare, strict=True)]

    def each(place: int) -> list[float]:
        return [round_[place][1]["loaded_in"] / counts[place] * 1e6 for round_ in ours]

    return [
        compared("start-up, empty store", "s", beside_bare(0), note="until the port is open"),
        compared(f"start-up, {counts[1]:,} unfinished", "s", beside_bare(1)),
        compared(f"start-up, {counts[2]:,} unfinished", "s", beside_bare(2)),
        compared(
            "start-up, loading a queue",
            "µs",
            list(zip(each(2), each(1), strict=True)),
            target=at_most(1.5),
            note=f"among {counts[2]:,}; bare: among {counts[1]:,}; a ratio of 1 is linear",
        ),
    ]


async def _start(module: str, *arguments: str) -> tuple[float, dict[str, float]]:
    """How long it takes from the start of the process until the port is open, and what the server says of it."""
    began = monotonic()
    async with ServerUnderTest(module, *arguments) as server:
        return monotonic() - began, server.facts


async def _token_after(address: str, count: int) -> str:
    """The token of the page that begins after so many queues."""
    token = ""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.unary_unary(
            f"{SERVICE}/ListQueues",
            request_serializer=service_pb2.ListQueuesRequest.SerializeToString,
            response_deserializer=service_pb2.ListQueuesResponse.FromString,
        )
        while count:
            size = min(500, count)
            page = await call(service_pb2.ListQueuesRequest(page_size=size, page_token=token))
            assert len(page.queues) == size
            token, count = page.next_page_token, count - size
    return token


async def _pages(address: str, token: str, seconds: float) -> Sequence[float]:
    """Ask for the same page again and again; how long each took."""
    request = service_pb2.ListQueuesRequest(page_token=token).SerializeToString()
    latencies = []
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/ListQueues")
        await call(request)
        end = perf_counter() + seconds
        while (began := perf_counter()) < end:
            await call(request)
            latencies.append(perf_counter() - began)
    return latencies
