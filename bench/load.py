"""The load: calls and streams of raw bytes, the same client whatever server is measured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, perf_counter
from typing import Final

import grpc
from google.protobuf import json_format

from queue_manager.v1 import queue_pb2, service_pb2

SERVICE: Final = "/queue_manager.v1.QueueManager"
PAYLOAD: Final = Path(__file__).resolve().parent.parent / "examples" / "historical-pipeline.json"
OWN_CONNECTION: Final = (("grpc.use_local_subchannel_pool", 1),)
"""A channel has a connection of its own, also where another one goes to the same address."""


def payload() -> service_pb2.StartQueueRequest:
    """The historical pipeline of the examples: six jobs."""
    return json_format.ParseDict(json.loads(PAYLOAD.read_text()), service_pb2.StartQueueRequest())


async def start_queue(address: str) -> queue_pb2.Queue:
    """Start a queue of six jobs."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/StartQueue")
        return service_pb2.StartQueueResponse.FromString(await call(payload().SerializeToString())).queue


async def get_queue(address: str, queue_id: str) -> bytes:
    """What GetQueue answers."""
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/GetQueue")
        return await call(service_pb2.GetQueueRequest(queue_id=queue_id).SerializeToString())


@dataclass(slots=True)
class Calls:
    """What a closed loop of calls came to."""

    seconds: float
    latencies: list[float]

    @property
    def rate(self) -> float:
        """Calls a second."""
        return len(self.latencies) / self.seconds


async def closed_loop(
    address: str, method: str, request: Callable[[], bytes], *, in_flight: int, channels: int, seconds: float
) -> Calls:
    """Keep so many calls in flight for so long. Every call must succeed."""
    opened = [grpc.aio.insecure_channel(address, options=OWN_CONNECTION) for _ in range(channels)]
    calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [channel.unary_unary(method) for channel in opened]
    latencies: list[float] = []
    for call in calls:  # connected before anything is measured
        await call(request())
    end = perf_counter() + seconds

    async def caller(number: int) -> None:
        call = calls[number % channels]
        while (began := perf_counter()) < end:
            await call(request())
            latencies.append(perf_counter() - began)

    began = perf_counter()
    await asyncio.gather(*(caller(number) for number in range(in_flight)))
    took = perf_counter() - began
    for channel in opened:
        await channel.close()
    return Calls(took, latencies)


@dataclass(slots=True)
class Watcher:
    """A stream and what came over it."""

    name: str
    revision: int = 0
    gaps: int = 0
    """Frames that do not stand for all revisions since the one before."""
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    """Revision, and when it came."""


class Watchers:
    """Many streams over several channels."""

    def __init__(self, address: str, method: str, names: Sequence[str], *, channels: int) -> None:
        """A stream for each name, which may stand several times."""
        self._address = address
        self._method = method
        self._channels = channels
        self.all = [Watcher(name) for name in names]
        self._opened: list[grpc.aio.Channel] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._first = asyncio.Event()
        self._missing = len(names)

    async def open(self) -> None:
        """Open all streams, and wait until each has had its first frame."""
        self._opened = [grpc.aio.insecure_channel(self._address, options=OWN_CONNECTION) for _ in range(self._channels)]
        calls: list[grpc.aio.UnaryStreamMultiCallable[bytes, bytes]]
        calls = [channel.unary_stream(self._method) for channel in self._opened]
        self._tasks = [
            asyncio.create_task(self._watch(calls[number % self._channels], watcher))
            for number, watcher in enumerate(self.all)
        ]
        async with asyncio.timeout(60):
            await self._first.wait()

    def forget(self) -> None:
        """What has come so far is not counted."""
        for watcher in self.all:
            watcher.gaps = 0
            watcher.arrivals.clear()

    async def caught_up(self, revisions: Mapping[str, int]) -> None:
        """Wait until every stream has seen its topic's newest revision."""
        async with asyncio.timeout(60):
            while any(watcher.revision < revisions[watcher.name] for watcher in self.all):  # noqa: ASYNC110 - an event would cost with every frame
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        """End all streams."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for channel in self._opened:
            await channel.close()

    async def _watch(self, call: grpc.aio.UnaryStreamMultiCallable[bytes, bytes], watcher: Watcher) -> None:
        request = service_pb2.WatchQueueRequest(queue_id=watcher.name).SerializeToString()
        parse = service_pb2.WatchQueueResponse.FromString
        first = True
        async for data in call(request):
            frame = parse(data)
            watcher.arrivals.append((frame.revision, monotonic()))
            if frame.revisions_merged and watcher.revision + frame.revisions_merged != frame.revision:
                watcher.gaps += 1
            watcher.revision = frame.revision
            if first:
                first = False
                self._missing -= 1
                if not self._missing:
                    self._first.set()
