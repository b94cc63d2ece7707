"""A fake server, and clients that don't wait between attempts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from queue_manager.client import AsyncClient, Backoff

from .fake_server import FakeServer


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
