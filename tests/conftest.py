"""What every test has: Hypothesis' profile, virtual time for those that ask for it, and a watch on tasks left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping

import pytest
import structlog
from hypothesis import settings

# Tests start processes while gRPC's threads run. Its fork handlers, which no test needs, can leave its event engine with
# a closed descriptor ("epoll_wait error: Bad file descriptor"), and every later call in that process hanging.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

from tests.simulation.virtual import VirtualLoop

settings.register_profile("queue-manager", deadline=None, print_blob=True)
settings.load_profile("queue-manager")

PATIENCE = 200
"""Turns that a task is given to end after its test; libraries end theirs in the background."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers that this file gives a meaning; let SIGINT work.

    Whoever is started in the background by a shell without job control ignores SIGINT, and so do its children: then the
    commands that tests interrupt would never hear of it.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers", "virtual_time: the test's event loop jumps from timer to timer; no I/O, no threads"
    )


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of a test: a real one, or one whose time is virtual."""
    if item.get_closest_marker("virtual_time"):
        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


@pytest.fixture(autouse=True)
def _ends_its_tasks(request: pytest.FixtureRequest) -> None:
    """Has every asynchronous test watched. Set up first, so that it looks after every other fixture has been closed."""
    if inspect.iscoroutinefunction(getattr(request.node, "obj", None)):
        request.getfixturevalue("tasks_left_behind")


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    """`capture_logs`, and whoever sets up logging, leave it configured; a server inside a program looks whether it is."""
    before = structlog.is_configured()
    yield
    if not before:
        structlog.reset_defaults()


@pytest.fixture
async def tasks_left_behind() -> AsyncIterator[None]:
    """Fails a test that leaves a task behind."""
    before = asyncio.all_tasks()
    yield
    left = await left_behind(before)
    assert not left, f"tasks left behind: {left}"


async def left_behind(before: set[asyncio.Task[object]]) -> list[str]:
    """The tasks that were not there before and do not end by themselves within a second of loop time."""
    for turn in range(PATIENCE):
        left = asyncio.all_tasks() - before - {asyncio.current_task()}
        if not left:
            return []
        await asyncio.sleep(0 if turn < 10 else 0.005)
    return sorted(f"{task.get_name()}: {task.get_coro()!r}" for task in left)
