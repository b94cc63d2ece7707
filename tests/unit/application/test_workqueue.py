"""A work queue of keys: each key one at a time, repeated wishes once, failures with backoff."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from random import Random

import pytest

from queue_manager.server.application.workqueue import BACKOFF_FIRST, BACKOFF_LONGEST, Backoff, WorkQueue
from queue_manager.server.domain.errors import Unavailable

pytestmark = pytest.mark.virtual_time


class Steps:
    """A handler that remembers when it was called, and how many calls ran side by side."""

    def __init__(self, *, takes: float = 0.0) -> None:
        self.takes = takes
        self.began: list[tuple[str, float]] = []
        self.active: list[str] = []
        self.most = 0
        self.answer: Callable[[str], float | None] = lambda key: None

    async def __call__(self, key: str) -> float | None:
        """Handle a key."""
        assert key not in self.active, "one key twice at a time"
        self.active.append(key)
        self.most = max(self.most, len(self.active))
        self.began.append((key, asyncio.get_running_loop().time()))
        try:
            await asyncio.sleep(self.takes)
            return self.answer(key)
        finally:
            self.active.remove(key)

    def times(self, key: str = "a") -> list[float]:
        """When this key was handled."""
        return [round(time, 6) for name, time in self.began if name == key]


@asynccontextmanager
async def working(steps: Steps, *, concurrency: int = 64) -> AsyncIterator[WorkQueue]:
    """A queue that runs."""
    work = WorkQueue("test", steps, rng=Random(1), concurrency=concurrency)
    task = asyncio.create_task(work.run())
    await asyncio.sleep(0)
    try:
        yield work
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_flood_of_hints_costs_one_step() -> None:
    """Repeated wishes count once."""
    steps = Steps()
    async with working(steps) as work:
        for _ in range(100):
            work.add("a")
        await work.idle()
    assert len(steps.began) == 1


async def test_a_key_that_is_added_while_it_is_handled_is_handled_once_more() -> None:
    """Once, however often it was added, and never side by side with itself."""
    steps = Steps(takes=1.0)
    async with working(steps) as work:
        work.add("a")
        await asyncio.sleep(0.5)
        for _ in range(10):
            work.add("a")
        await work.idle()
    assert steps.times() == [0.0, 1.0]


async def test_many_keys_are_handled_side_by_side_up_to_the_bound() -> None:
    """In the order in which they were added."""
    steps = Steps(takes=1.0)
    async with working(steps, concurrency=4) as work:
        for number in range(10):
            work.add(str(number))
        await asyncio.sleep(0.5)
        assert (work.depth, work.oldest_age()) == (6, 0.5)
        await work.idle()
        assert (work.depth, work.oldest_age()) == (0, 0.0)
    assert steps.most == 4
    assert [key for key, _ in steps.began] == [str(number) for number in range(10)]


async def test_a_key_is_handled_again_when_its_handler_says_so() -> None:
    """After so many seconds at the latest."""
    steps = Steps()
    steps.answer = lambda key: 5.0 if len(steps.began) < 3 else None
    async with working(steps) as work:
        work.add("a")
        await asyncio.sleep(100)
    assert steps.times() == [0.0, 5.0, 10.0]


async def test_of_several_times_the_earliest_counts() -> None:
    """A later one does not put it off."""
    steps = Steps()
    async with working(steps) as work:
        work.add_after("a", 10.0)
        work.add_after("a", 3.0)
        work.add_after("a", 7.0)
        await asyncio.sleep(100)
    assert steps.times() == [3.0]


async def test_a_key_that_is_added_is_not_handled_again_for_its_timer() -> None:
    """The step that it got has seen everything."""
    steps = Steps()
    async with working(steps) as work:
        work.add_after("a", 10.0)
        await asyncio.sleep(1)
        work.add("a")
        await asyncio.sleep(100)
    assert steps.times() == [1.0]


async def test_a_handler_that_fails_is_repeated_with_backoff() -> None:
    """Jittered, exponential, bounded; per key; a success begins anew."""
    steps = Steps()
    until = 300.0

    def answer(key: str) -> float | None:
        if key == "a" and asyncio.get_running_loop().time() < until:
            raise Unavailable("out of reach")
        return None

    steps.answer = answer
    async with working(steps) as work:
        work.add("a")
        work.add("b")
        await asyncio.sleep(400)
        times = steps.times()
        pauses = [later - sooner for sooner, later in pairwise(times)]
        for number, pause in enumerate(pauses):
            longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2**number)
            assert longest / 2 - 1e-5 <= pause <= longest + 1e-5
        assert max(pauses) > BACKOFF_LONGEST / 2
        assert len(set(pauses[-5:])) > 1
        until = asyncio.get_running_loop().time() + 0.01
        work.add("a")
        await asyncio.sleep(50)
        assert steps.times()[-1] - steps.times()[-2] <= BACKOFF_FIRST + 1e-5
    assert steps.times("b") == [0.0]


async def test_any_fault_of_a_step_is_tried_again() -> None:
    """Also a bug: the record still says what is to be done."""
    steps = Steps()

    def answer(key: str) -> float | None:
        if len(steps.began) == 1:
            raise ValueError("a bug")
        return None

    steps.answer = answer
    async with working(steps) as work:
        work.add("a")
        await asyncio.sleep(10)
    assert len(steps.began) == 2


async def test_a_failure_that_says_when_to_come_back_is_heeded() -> None:
    """`Retry-After` of the part that is out of reach."""
    steps = Steps()

    def answer(key: str) -> float | None:
        if len(steps.began) == 1:
            raise Unavailable("busy", retry_after=42.0)
        return None

    steps.answer = answer
    async with working(steps) as work:
        work.add("a")
        await asyncio.sleep(100)
    assert steps.times() == [0.0, 42.0]


async def test_keys_that_come_before_it_runs_are_handled_when_it_does() -> None:
    """Nothing is lost; `idle` waits for them."""
    steps = Steps(takes=1.0)
    work = WorkQueue("test", steps, rng=Random(1))
    work.add("a")
    work.add_after("b", 0.5)
    await asyncio.sleep(2)
    assert steps.began == []
    task = asyncio.create_task(work.run())
    await asyncio.wait_for(work.idle(), 10.0)
    assert {key for key, _ in steps.began} == {"a", "b"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_cancelling_it_cancels_the_steps_under_way_and_waits_for_them() -> None:
    """No timer and no task is left, and nothing is handled any more."""
    steps = Steps(takes=1000.0)
    async with working(steps) as work:
        work.add("a")
        work.add_after("b", 5.0)
        await asyncio.sleep(1)
    assert steps.active == []
    await asyncio.sleep(100)
    assert [key for key, _ in steps.began] == ["a"]


async def test_backoff_counts_down_and_can_be_cleared() -> None:
    """Per key, on the loop's clock."""
    backoff = Backoff(Random(1))
    assert backoff.wait("a") == 0.0
    delay = backoff.failed("a", at_least=3.0)
    assert delay == 3.0
    await asyncio.sleep(1)
    assert backoff.wait("a") == pytest.approx(2.0)
    assert backoff.wait("b") == 0.0
    backoff.clear("a")
    assert backoff.wait("a") == 0.0
    assert backoff.failed("a") <= BACKOFF_FIRST
