"""Deliberate faults, each of a kind that a change could bring in unnoticed. The oracle must find every one of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Publication
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Queue
from queue_manager.server.domain.observation import Phase, WorkerStatus
from tests.simulation.ports import SimulatedRunner
from tests.simulation.run import Sabotage


def launch_before_intent(core: Core) -> None:
    """A start launches its workers before it has stored that it will."""
    service, runner = core.service, core.controller._runner
    create = core.records.create

    async def eager(queue: Queue, *, actor: str) -> object:
        for job in queue.jobs:
            if job.status.spec_hash:
                await runner.launch(dataclasses.replace(service._launch_specs(queue, job)))
        return await create(queue, actor=actor)

    core.records.create = eager  # type: ignore[method-assign, assignment]


def stop_without_waiting(core: Core) -> None:
    """A launch call that is still under way is not reckoned with when a queue is stopped."""
    controller = core.controller
    controller._timings = dataclasses.replace(controller._timings, launch_settle=0.0)


def forget_unanswered_telemetry(core: Core) -> None:
    """Telemetry that could not be stored is not put back."""
    core.intake.restore = lambda queue_id, batch: core.intake.stored(batch)  # type: ignore[method-assign]


def publish_once_at_most(core: Core) -> None:
    """An event whose publication failed is not published again."""
    bus = core.outbox._bus
    publish = bus.publish

    async def careless(events: Sequence[Publication]) -> None:
        try:
            await publish(events)
        except Exception:
            return

    core.outbox._bus = _Careless(bus, careless)  # type: ignore[assignment]


class _Careless:
    """A bus with one method replaced."""

    def __init__(self, bus: object, publish: object) -> None:
        self._bus, self.publish = bus, publish

    def __getattr__(self, name: str) -> object:
        return getattr(self._bus, name)


def cached_absence(runner: SimulatedRunner) -> None:
    """A worker is called absent from a cache that has not seen it yet."""
    observe = runner.observe
    born: dict[str, float] = {}

    async def stale(workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        now = runner._world.now()
        statuses = await observe(workers)
        for status in statuses:
            born.setdefault(status.key.name, now)
        return [s if now > born[s.key.name] + 1 else WorkerStatus(key=s.key, phase=Phase.ABSENT) for s in statuses]

    runner.observe = stale  # type: ignore[method-assign]


def new_name_for_each_call(runner: SimulatedRunner) -> None:
    """A launch that is repeated does not use the name of the one before."""
    launch, calls = runner.launch, iter(range(10**9))

    async def careless(spec: LaunchSpec) -> object:
        key = dataclasses.replace(spec.key, name=f"{spec.key.name}-{next(calls)}")
        return await launch(dataclasses.replace(spec, key=key))

    runner.launch = careless  # type: ignore[method-assign, assignment]


FAULTS: dict[str, Sabotage] = {
    "launch before the intent is stored": Sabotage(core=launch_before_intent),
    "stop without waiting for launches under way": Sabotage(core=stop_without_waiting),
    "telemetry that could not be stored is dropped": Sabotage(core=forget_unanswered_telemetry),
    "events are published at most once": Sabotage(core=publish_once_at_most),
    "absence is taken from a cache": Sabotage(runner=cached_absence),
    "a repeated launch has a new name": Sabotage(runner=new_name_for_each_call),
}
