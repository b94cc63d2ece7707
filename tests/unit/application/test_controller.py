"""The whole core, where one of its parts does not answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Message, WorkerCommand
from queue_manager.server.domain.model import Queue, StopMode
from queue_manager.server.domain.request import JobRequest, StartRequest
from tests.unit.application import EPOCH, Bus, Runner, Store, core

pytestmark = pytest.mark.virtual_time


@asynccontextmanager
async def running(bus: Bus, runner: Runner) -> AsyncIterator[tuple[Core, Queue]]:
    """A core at work, with a queue that runs."""
    found = core(Store(), runner, bus)
    task = asyncio.create_task(found.run())
    await found.ready.wait()
    jobs = [JobRequest(target="loader-producer", type="api_trades")]
    request = StartRequest(symbol="BTCUSDT", time_range="2024-06-01:2024-06-01", requests=jobs)
    queue = (await found.service.start(request, requested_by="ada")).queue
    await asyncio.sleep(5)
    yield found, queue
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_what_is_said_of_a_queue_that_has_ended_is_answered() -> None:
    """Its events are not out yet, so it is known still. A bus commits nothing that comes after what has no answer."""
    bus = Bus()
    async with running(bus, Runner()) as (found, queue):
        bus.down = True
        await found.service.stop(queue.queue_id, mode=StopMode.FORCE, grace_period=None, reason="", by="ada")
        await asyncio.sleep(30)
        assert found.records.live[queue.queue_id].queue.ended
        said = {"queue_id": queue.queue_id, "status": "loading", "telemetry_id": queue.jobs[0].spec.telemetry_id}
        message = Message(json.dumps(said).encode(), EPOCH, "events/0@1", 7)
        assert bus.receiver is not None
        async with asyncio.timeout(5):
            await bus.receiver.telemetry([message])


async def test_workers_are_deleted_at_the_deadline_though_the_bus_hangs() -> None:
    """Telling them to stop is not waited for."""
    bus, runner = Bus(), Runner()

    async def send(_: WorkerCommand) -> None:
        await asyncio.sleep(3600)

    async with running(bus, runner) as (found, queue):
        assert len(runner.workers) == 1
        bus.send = send  # type: ignore[method-assign, assignment]
        await found.service.stop(queue.queue_id, mode=StopMode.GRACEFUL, grace_period=10, reason="", by="ada")
        await asyncio.sleep(9)
        assert len(runner.workers) == 1
        await asyncio.sleep(5)
        assert runner.workers == {}
