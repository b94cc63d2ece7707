"""The core, put together: the same whether its parts are real or simulated.

Everything that touches the world comes in from outside: the three ports, the clock, randomness, and how a queue and an
event are encoded for callers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from string import ascii_lowercase, digits
from typing import Final

import structlog

from queue_manager.server.application.commands import Commands
from queue_manager.server.application.controller import Controller
from queue_manager.server.application.dead_letters import DeadLetterService
from queue_manager.server.application.diagnosis import BUS, RECORDS, Diagnosis, findings, problems, warnings
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.intake import Intake
from queue_manager.server.application.outbox import Outbox
from queue_manager.server.application.ports import Bus, Clock, Message, Runner, StateStore
from queue_manager.server.application.queues import QueueService
from queue_manager.server.application.records import Records
from queue_manager.server.application.retention import Retention
from queue_manager.server.application.strays import Strays
from queue_manager.server.application.watch import WatchHub
from queue_manager.server.application.workqueue import Backoff
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.history import Event
from queue_manager.server.domain.launch import LaunchSpecs, Platform
from queue_manager.server.domain.model import Queue
from queue_manager.server.domain.timings import Timings

log = structlog.get_logger(__name__)

SUFFIX_LENGTH: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreSettings:
    """What can be set about the core; durations in seconds."""

    timings: Timings = field(default_factory=Timings)
    heartbeat: float = 15.0
    max_watchers: int = 10_000
    sweep: float = 60.0
    telemetry_window: float = 0.2
    retention: float = 30 * 86400.0
    end_orphans: bool = False


class _Receiver:
    """What a bus delivers, to whom it is for."""

    def __init__(self, intake: Intake, commands: Commands, ready: asyncio.Event) -> None:
        self.telemetry = intake.telemetry
        self._commands = commands
        self._ready = ready

    async def commands(self, messages: Sequence[Message]) -> None:
        """See `ports.Receiver`. They wait until every record is known."""
        await self._ready.wait()
        await self._commands.take_in(messages)


class Core:
    """The Queue Manager less its outside: `service` is what callers use, `run` is its working life."""

    def __init__(
        self,
        *,
        store: StateStore,
        runner: Runner,
        bus: Bus,
        clock: Clock,
        rng: Random,
        catalogue: Catalogue,
        platform: Platform,
        settings: CoreSettings,
        encode_queue: Callable[[Queue], bytes],
        encode_event: Callable[[Event], bytes],
        instruments: Instruments,
        version: str = "",
    ) -> None:
        """Put the parts together; nothing runs yet. `version`: of the server, for those who ask."""
        self._version = version
        self._parts = {"store": store.name, "runner": runner.name, "bus": bus.name}
        timings = replace(settings.timings, launch_settle=runner.launch_settle)
        self.ready = asyncio.Event()
        self._loading = Backoff(rng)
        self.records = Records(store, clock=clock, encode=encode_queue, instruments=instruments)
        self.hub = WatchHub(
            self.records,
            store,
            encode_event=encode_event,
            instruments=instruments,
            heartbeat=settings.heartbeat,
            max_watchers=settings.max_watchers,
        )

        launch_specs = LaunchSpecs(catalogue, platform)
        self.controller = Controller(
            self.records,
            runner,
            bus,
            clock=clock,
            rng=rng,
            timings=timings,
            launch_specs=launch_specs,
            instruments=instruments,
            sweep=settings.sweep,
        )
        work = self.controller.work
        self.outbox = Outbox(self.records, store, bus, done=work.add, rng=rng, instruments=instruments)
        self.intake = Intake(
            self.records,
            wake=work.add_after,
            bury=bus.bury,
            instruments=instruments,
            window=settings.telemetry_window,
        )
        self.controller.connect(intake=self.intake, outbox=self.outbox)
        self.service = QueueService(
            self.records,
            store,
            self.hub,
            catalogue=catalogue,
            clock=clock,
            timings=timings,
            new_suffix=lambda: "".join(rng.choices(ascii_lowercase + digits, k=SUFFIX_LENGTH)),
            launch_specs=launch_specs,
            wake=work.add,
            rehearse=runner.rehearse,
        )
        self.dead_letters = DeadLetterService(bus)
        self._retention = Retention(self.records, store, runner, bus, clock=clock, keep=settings.retention)
        self.strays = Strays(
            self.records,
            runner,
            instruments=instruments,
            grace=timings.delete_grace,
            end_orphans=settings.end_orphans,
        )
        self._checks = {"store": store.check, "runner": runner.check, BUS: bus.check}
        self._warnings = bus.warnings
        runner.subscribe(work.add_after)
        self.commands = Commands(self.service, self.records, bus, clock=clock, rng=rng, instruments=instruments)
        bus.subscribe(_Receiver(self.intake, self.commands, self.ready))

    async def run(self) -> None:
        """Load what is unfinished, then reconcile until cancelled. `ready` is set once every record is known."""
        while True:
            try:
                count = await self.records.load_unsettled()
                break
            except Unavailable as error:
                delay = self._loading.failed("records", at_least=error.retry_after or 0.0)
                log.warning("the store cannot be read yet", error=error.message, retry_in=round(delay, 3))
                await asyncio.sleep(delay)
        log.info("records loaded", unfinished=count)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.controller.work.run(), name="reconcile")
            tasks.create_task(self.outbox.work.run(), name="publish")
            tasks.create_task(self.controller.sweep(), name="sweep")
            tasks.create_task(self._retention.run(), name="retention")
            tasks.create_task(self.strays.run(), name="strays")
            self.intake.open()
            self.ready.set()

    async def diagnose(self) -> Diagnosis:
        """What is wrong, as far as is known here."""
        found = await self.problems()
        said = {} if BUS in found else {BUS: await warnings(self._warnings)}  # one that is down has been waited for
        return Diagnosis(findings(found, said, self.strays.orphans), self._version, self._parts)

    async def problems(self) -> dict[str, str]:
        """Which parts cannot be reached now, and why."""
        loading = {} if self.ready.is_set() else {RECORDS: "not loaded yet"}
        return loading | await problems(self._checks)
