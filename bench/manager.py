"""The Queue Manager to be measured: all of it that is on a caller's way, and a runner that starts no processes.

`python -m bench.manager memory|sqlite DIR [held] [kafka]` keeps its queues in memory, or in SQLite in that directory;
`held`: launches wait; `kafka`: it speaks over the broker that the environment names. Everything else is what
`queue-manager serve` has: the core, the gRPC layer, the metrics.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from bench.control import Action, feed, obey, run
from queue_manager.server.adapters.inprocess.bus import InProcessBus
from queue_manager.server.adapters.inprocess.clock import SystemClock
from queue_manager.server.adapters.inprocess.store import MemoryStore
from queue_manager.server.adapters.sqlite.store import SqliteStore
from queue_manager.server.app import calm_collector, make_bus
from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.ports import Clock, Record, StateStore
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.history import Event
from queue_manager.server.domain.history import record as next_revision
from queue_manager.server.domain.launch import LaunchSpec, Platform, WorkerKey
from queue_manager.server.domain.model import Queue, RunnerRef
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus
from queue_manager.server.observability.instruments import MeteredInstruments
from queue_manager.server.observability.logging import configure
from queue_manager.server.observability.metrics import Metrics
from queue_manager.server.rpc.convert import encode_event
from queue_manager.server.rpc.encoder import QueueEncoder
from queue_manager.server.rpc.health import Health
from queue_manager.server.rpc.requests import start_payload
from queue_manager.server.rpc.server import build, listen
from queue_manager.server.rpc.servicer import Servicer
from queue_manager.server.settings import load_settings

if TYPE_CHECKING:
    from queue_manager.server.adapters.kafka.bus import KafkaBus


STALLED: Final = 30.0
"""Seconds without anything stored after which no more is waited for."""


class Runner:
    """Workers that run from when they are launched until they are deleted, and are nothing but an entry here."""

    name = "bench"
    launch_settle = 0.0

    def __init__(self) -> None:
        """Nothing is launched yet, and nothing is held."""
        self._workers: dict[str, WorkerStatus] = {}
        self._deleted: set[str] = set()
        self.may_launch = asyncio.Event()
        self.may_launch.set()

    async def launch(self, spec: LaunchSpec) -> WorkerStatus:
        """It runs, once launches are not held."""
        await self.may_launch.wait()
        ref = RunnerRef(runner=self.name, name=spec.key.name, uid=spec.key.name)
        status = WorkerStatus(key=spec.key, phase=Phase.RUNNING, ref=ref, spec_hash=spec.spec_hash)
        return self._workers.setdefault(spec.key.name, status)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:  # noqa: ARG002 - see the port
        """Nothing would be refused."""
        return ()

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """What was launched, also in an earlier life, runs."""
        return [
            WorkerStatus(key=key, phase=Phase.ABSENT)
            if key.name in self._deleted
            else self._workers.get(key.name, WorkerStatus(key=key, phase=Phase.RUNNING))
            for key in workers
        ]

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:  # noqa: ARG002 - see the port
        """It is gone."""
        self._workers.pop(worker.name, None)
        self._deleted.add(worker.name)

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """Nothing is kept for them."""

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """Nothing is kept of them."""

    async def alive(self) -> Sequence[WorkerKey]:
        """What was launched."""
        return [status.key for status in self._workers.values()]

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """Nothing changes here unasked."""

    async def check(self) -> None:
        """Always there."""


class Instruments(MeteredInstruments):
    """Those of a real server; they notice besides when telemetry was stored."""

    def __init__(self, metrics: Metrics) -> None:
        """Nothing was stored yet."""
        super().__init__(metrics)
        self.stored = 0
        self.stored_at = 0.0
        """When some was the last time."""

    def telemetry(self, outcome: str, count: int = 1) -> None:
        """Count it."""
        super().telemetry(outcome, count)
        if outcome == "accepted":
            self.stored += count
            self.stored_at = monotonic()


class Manager:
    """What the driver can have the server do."""

    def __init__(
        self,
        core: Core,
        store: StateStore,
        runner: Runner,
        bus: InProcessBus | KafkaBus,
        metrics: Metrics,
        instruments: Instruments,
        open_bus: Callable[[], Awaitable[object]],
    ) -> None:
        """The core that is measured, and what is behind it."""
        self._bus = bus
        self._metrics = metrics
        self._instruments = instruments
        self._open_bus = open_bus
        self._reading_since = 0.0
        self._core = core
        self._store = store
        self._runner = runner
        self._newest: dict[str, Record] = {}
        self._changes: list[tuple[Queue, Event]] = []

    async def read(self) -> None:
        """Open the bus; returns once it is read. Raises `TimeoutError`: why it is not."""
        self._reading_since = monotonic()
        await self._open_bus()
        while True:
            try:
                return await self._bus.check()
            except Unavailable as error:
                if monotonic() > self._reading_since + STALLED:
                    raise TimeoutError(error.message) from error
            await asyncio.sleep(0.05)

    async def drained(self, count: int) -> dict[str, float]:
        """Wait until so many messages are stored: in how many seconds since the bus was opened; writes in all.

        Raises `TimeoutError` where nothing is stored any more.
        """
        assert not isinstance(self._bus, InProcessBus), "nothing waits there"
        while (stored := self._instruments.stored) < count:
            await asyncio.sleep(0.02)
            if monotonic() > max(self._instruments.stored_at, self._reading_since) + STALLED:
                raise TimeoutError(f"{stored} of {count} messages are stored; waiting: {self._bus.backlogs()}")
        writes = self._metrics.registry.get_sample_value(
            "queue_manager_store_operations_total", {"operation": "replace", "outcome": "ok"}
        )
        return {"seconds": self._instruments.stored_at - self._reading_since, "writes": writes or 0.0}

    async def idle(self) -> None:
        """Wait until every queue has been reconciled and published."""
        while self._core.controller.work.depth or self._core.outbox.depth:  # noqa: ASYNC110 - nothing tells when both are
            await asyncio.sleep(0.01)
        await self._core.controller.work.idle()
        await self._core.outbox.work.idle()

    async def hold(self, launches: bool) -> None:
        """Have the runner keep launches waiting, or let them go on."""
        if launches:
            self._runner.may_launch.clear()
        else:
            self._runner.may_launch.set()
            await self.idle()

    async def prepare(self, queue_ids: Sequence[str], count: int) -> None:
        """Think out the next so many changes of these queues, in turn: what telemetry makes of them.

        Making a change is not what is measured, but the way from the store to the streams.
        """
        self._newest = {queue_id: self._core.records.live[queue_id] for queue_id in queue_ids}
        self._changes = _changes([record.queue for record in self._newest.values()], count)

    async def feed(self, rate: float, seconds: float) -> dict[str, Any]:
        """Feed in at the store what was prepared."""
        store, records, newest, changes = self._store, self._core.records, self._newest, self._changes
        times: list[tuple[str, int, float]] = []

        async def change(number: int) -> None:
            queue, event = changes[number]
            before = newest[queue.queue_id]
            record = newest[queue.queue_id] = await store.replace(queue, version=before.version, entry=None)
            records.stored(before.queue, record, event, None)
            times.append((queue.queue_id, queue.revision, monotonic()))

        return {**await feed(change, rate=rate, seconds=seconds), "times": times}


def _changes(queues: Sequence[Queue], count: int) -> list[tuple[Queue, Event]]:
    """The next so many revisions of these queues, in turn: in each, one job has written more records."""
    newest, changes = list(queues), []
    for number in range(count):
        place, job_number, now = number % len(newest), number % 6, time()
        before = newest[place]
        job = before.jobs[job_number]
        status = replace(job.status, records_written=job.status.records_written + 1, last_telemetry_time=now)
        jobs = (*before.jobs[:job_number], replace(job, status=status), *before.jobs[job_number + 1 :])
        newest[place], event, _ = next_revision(before, replace(before, jobs=jobs), now=now)
        changes.append((newest[place], event))
    return changes


def _bus(folder: Path, clock: Clock, metrics: Metrics) -> InProcessBus | KafkaBus:
    if "kafka" in sys.argv[3:]:
        return make_bus(load_settings(Path(os.devnull)), clock=clock, metrics=metrics)
    return InProcessBus(folder, clock=clock)


async def serve() -> None:
    """Serve until standard input ends."""
    kind, folder = sys.argv[1], Path(sys.argv[2]).absolute()  # noqa: ASYNC240 - nothing runs yet
    configure("json", "warning", ())
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        metrics = Metrics(version="bench")
        store: StateStore
        if kind == "memory":
            store = MemoryStore()
        else:
            store = await stack.enter_async_context(SqliteStore(folder, observe=metrics.store_operation))
        bus = _bus(folder, clock, metrics)
        runner = Runner()
        if "held" in sys.argv[3:]:
            runner.may_launch.clear()
        instruments = Instruments(metrics)
        core = Core(
            store=store,
            runner=runner,
            bus=bus,
            clock=clock,
            rng=Random(),  # noqa: S311 - no secrets
            catalogue=builtin_catalogue(),
            platform=Platform(),
            settings=CoreSettings(),
            encode_queue=QueueEncoder(),
            encode_event=encode_event,
            instruments=instruments,
        )
        core.commands.parse = start_payload
        server = build(
            Servicer(core.service, core.dead_letters, core.diagnose),
            Health(core.problems),
            observer=metrics,
            new_id=lambda: uuid.uuid4().hex,
            max_message_bytes=2**20,
        )
        port = listen(server, "127.0.0.1:0", "none")
        began = monotonic()
        working = asyncio.create_task(core.run())
        await core.ready.wait()
        loaded_in = monotonic() - began
        await server.start()
        calm_collector()
        manager = Manager(core, store, runner, bus, metrics, instruments, lambda: stack.enter_async_context(bus))
        actions: dict[str, Action] = {
            "hold": manager.hold,
            "idle": manager.idle,
            "prepare": manager.prepare,
            "feed": manager.feed,
            "read": manager.read,
            "drained": manager.drained,
        }
        await obey(port, actions, loaded_in=loaded_in)
        core.hub.close()
        await server.stop(0)
        working.cancel()


if __name__ == "__main__":
    run(serve)
