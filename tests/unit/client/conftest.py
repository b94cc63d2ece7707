"""A fake server, and clients that don't wait between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from queue_manager.client import AsyncClient, Backoff
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse

from .fake_server import FakeServer, Journal


@dataclass
class Pauses:
    """A sleep that takes no time and remembers how long it should have been."""

    taken: list[float] = field(default_factory=list)

    async def sleep(self, seconds: float) -> None:
        self.taken.append(seconds)
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Give the loop turns until it is so; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - the other side is a real server that has no event to offer
        await asyncio.sleep(0.005)


def assert_accounted(frames: list[WatchQueueResponse], journal: Journal, *, start: int = 0) -> None:
    """Every revision after `start` stands in exactly one frame, in order, and END comes last and once."""
    last = start
    for frame in frames[:-1]:
        assert frame.kind != FrameKind.FRAME_KIND_END
        assert frame.revisions_merged >= 1
        assert last + frame.revisions_merged == frame.revision
        assert frame.queue == journal.frames[frame.revision - 1].queue
        last = frame.revision
    assert frames[-1].kind == FrameKind.FRAME_KIND_END
    assert frames[-1].revision == last == len(journal.frames)


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
def backoff(pauses: Pauses) -> Backoff:
    """The longest pauses that the jitter allows, in no time."""
    longest: Callable[[float, float], float] = lambda _, high: high  # noqa: E731
    return Backoff(sleep=pauses.sleep, uniform=longest)


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    async with FakeServer() as server:
        yield server


@pytest.fixture
async def client(server: FakeServer, backoff: Backoff) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server.address, backoff=backoff) as client:
        yield client
