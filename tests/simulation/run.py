"""Plays one seed: callers start, watch and stop queues while processes of the manager die and come back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.topic import Frame
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.errors import QueueManagerError
from queue_manager.server.domain.launch import Platform
from queue_manager.server.domain.model import DependencyCondition, FailurePolicy, Lifetime, Queue, StopMode
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest
from queue_manager.server.domain.timings import Timings
from queue_manager.server.rpc.convert import encode_event
from queue_manager.server.rpc.encoder import QueueEncoder
from tests.simulation.oracle import Ledger, Oracle, Violated
from tests.simulation.ports import SETTLE, Process, SimulatedBus, SimulatedRunner, SimulatedStore, Trouble
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

T = TypeVar("T")

TROUBLED = 90.0
"""For so many seconds things go wrong; after that they only have to come to their end."""
PATIENCE = 2000.0
"""Seconds by which everything must have."""

TEMPLATES: list[list[tuple[str, str]]] = [
    [("loader-producer", "api_candles_5m"), ("arango-connector", "api_candles_5m")],
    [
        ("loader-producer", "api_candles_5m"),
        ("loader-producer", "api_trades"),
        ("arango-connector", "api_candles_5m"),
        ("arango-connector", "api_trades"),
        ("gnn-trainer", "gnn_train"),
    ],
    [("loader-producer", "ws_trades"), ("arango-connector", "ws_trades"), ("visualizer", "graph_metrics_stream")],
    [("loader-producer", "api_trades")],
    [("gnn-trainer", "gnn_train"), ("loader-producer", "ws_depth")],
]
GRAPHS = {
    "gnn-trainer": JobRequest(graph_collection="graph", model_output="model"),
    "visualizer": JobRequest(source="graph"),
}


@dataclass(frozen=True, slots=True)
class Sabotage:
    """A deliberate fault, to show that the oracle finds it."""

    core: Callable[[Core], None] = lambda core: None
    runner: Callable[[SimulatedRunner], None] = lambda runner: None


@dataclass(slots=True)
class Life:
    """One process with its core, while it lives."""

    process: Process
    core: Core
    bus: SimulatedBus
    tasks: list[asyncio.Task[Any]]


class Wall:
    """The wall clock port."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        """UTC epoch seconds."""
        return self._world.now()


class Cut(Exception):
    """The process that was called is dead."""


@dataclass(slots=True)
class Simulation:
    """One seed's history."""

    seed: int
    sabotage: Sabotage = field(default_factory=Sabotage)
    rng: Random = field(init=False)
    oracle: Oracle = field(init=False)
    world: World = field(init=False)
    life: Life | None = None
    quiet: bool = False
    crashes: int = 0

    async def play(self) -> None:
        """Play it to its end, then judge it."""
        self.rng = Random(self.seed)
        rng = self.rng
        self.oracle = Oracle()
        self.world = World(Random(rng.getrandbits(64)), local=rng.random() < 0.5, on_write=self.oracle.on_write)
        self.oracle.world = self.world
        keeper = asyncio.create_task(self._keep_alive(), name="keeper")
        callers = [
            asyncio.create_task(self._caller(number), name=f"caller-{number}") for number in range(rng.randint(1, 4))
        ]
        vandal = asyncio.create_task(self._vandal(), name="vandal")
        try:
            await asyncio.sleep(TROUBLED)
            self.quiet = self.world.quiet = True
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*callers)
                while not self._is_over():
                    for task in (keeper, vandal):
                        if task.done() and task.exception() is not None:
                            await task
                    await asyncio.sleep(5)
        except TimeoutError:
            late = {q: str(s.queue.status.state) for q, s in self.world.stored.items() if not s.queue.settled}
            rest = "a caller still waits, or telemetry for its answer"
            self.oracle.problems.append(f"not over after {PATIENCE} s: {late or rest}")
        finally:
            for task in (keeper, vandal, *callers):
                task.cancel()
        self.oracle.judge()

    def _is_over(self) -> bool:
        """All queues are settled, and whatever workers have said is answered: a bus that waits commits nothing."""
        settled = all(stored.queue.settled for stored in self.world.stored.values())
        return settled and self.life is not None and self.life.bus.has_heard_all()

    # --- the manager ---

    async def _keep_alive(self) -> None:
        rng, declines = self.rng, Random(f"declines {self.seed}")
        exclusive = rng.random() < 0.5
        while True:
            if self.quiet:
                trouble, fuse = Trouble(), None
            else:
                trouble = Trouble(
                    fail=rng.choice([0, 0.02, 0.15]),
                    lose=rng.choice([0, 0.02, 0.1]),
                    hint_lost=rng.choice([0, 0.2, 1.0]),
                    command_lost=rng.choice([0, 0.5]),
                    refuse=rng.choice([0, 0, 0.05]),
                    decline=declines.choice([0, 0, 0.3]),
                    slow=rng.choice([0.0, 0.05, 0.5]),
                )
                fuse = rng.choice([None, rng.randint(1, 20), rng.randint(1, 200)])
            process = Process(self.world, Random(rng.getrandbits(64)), trouble, fuse)
            bus = SimulatedBus(process)
            runner = SimulatedRunner(process, bus)
            self.sabotage.runner(runner)
            core = Core(
                store=SimulatedStore(process, exclusive=exclusive),
                runner=runner,
                bus=bus,
                clock=Wall(self.world),
                rng=Random(rng.getrandbits(64)),
                catalogue=builtin_catalogue(),
                platform=Platform(),
                settings=CoreSettings(timings=Timings(linger_grace=20.0), sweep=10.0),
                encode_queue=QueueEncoder(),
                encode_event=encode_event,
                instruments=Instruments(),
            )
            self.sabotage.core(core)
            tasks = [asyncio.create_task(core.run(), name="core"), asyncio.create_task(bus.consume(), name="consume")]
            self.life = Life(process, core, bus, tasks)
            leave = asyncio.create_task(self._end_of_life(process, core))
            done, _ = await asyncio.wait({*tasks, leave}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task is not leave:
                    process.dead.set()
                    await task  # the core ended by itself: that is a fault
            self.life = None
            self.crashes += 1
            for task in (*tasks, leave):
                task.cancel()
            await asyncio.sleep(rng.uniform(0, 8))

    async def _end_of_life(self, process: Process, core: Core) -> None:
        """Dies by its fuse, or is shut down after a while; in quiet times the first process without trouble lives on."""
        rng = self.rng
        troubled = process.trouble != Trouble()
        limit = max(0.0, TROUBLED - asyncio.get_running_loop().time()) + 1 if troubled else 1e9
        if troubled and rng.random() < 0.3:
            limit = min(limit, rng.uniform(1, 60))
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await process.dead.wait()
                return
        core.hub.close()
        drain = asyncio.create_task(core.service.drain())
        died = asyncio.create_task(process.dead.wait())
        await asyncio.wait({drain, died}, return_when=asyncio.FIRST_COMPLETED)
        process.dead.set()

    # --- everybody else ---

    async def _caller(self, number: int) -> None:
        rng = Random(self.rng.getrandbits(64))
        await asyncio.sleep(rng.uniform(0, 40))
        request = self._request(rng, f"request-{self.seed}-{number}")
        queue_id = await self._insist(lambda core: core.service.start(request, requested_by=f"caller-{number}"), rng)
        assert queue_id is not None
        self.oracle.acknowledged[request.request_id] = queue_id.queue.queue_id
        await self._follow(queue_id.queue.queue_id, rng)

    async def _follow(self, queue_id: str, rng: Random) -> None:
        watchers = [
            asyncio.create_task(self._watch(queue_id, Random(rng.getrandbits(64)))) for _ in range(rng.randint(1, 2))
        ]
        endless = any(job.spec.lifetime is Lifetime.ENDLESS for job in self.world.stored[queue_id].queue.jobs)
        stuck = any(worker.script.outcome == "hang" for worker in self.world.workers.values())
        if endless or stuck or rng.random() < 0.3:
            await asyncio.sleep(rng.uniform(0, 60))
            await self._stop(queue_id, rng)
        elif not watchers[0].done():
            done, _ = await asyncio.wait({watchers[0]}, timeout=300)
            if not done:  # a worker hangs, or a gate never opens
                await self._stop(queue_id, rng)
        await asyncio.gather(*watchers)

    async def _stop(self, queue_id: str, rng: Random) -> None:
        self.oracle.stops.add(queue_id)
        for _ in range(rng.randint(1, 2)):
            mode = rng.choice([StopMode.GRACEFUL, StopMode.GRACEFUL, StopMode.FORCE])
            grace = rng.choice([None, 0.0, 5.0]) if mode is StopMode.GRACEFUL else None
            await self._insist(partial(_stop, queue_id, mode, grace, rng.choice([None, 3.0])), rng)
            await asyncio.sleep(rng.uniform(0, 10))

    async def _watch(self, queue_id: str, rng: Random) -> None:
        ledger = Ledger(queue_id)
        self.oracle.ledgers.append(ledger)
        slow = rng.choice([0.0, 0.0, 0.3, 3.0])
        while not ledger.ended:
            life = self.life
            if life is None:
                await asyncio.sleep(0.5)
                continue
            with suppress(Cut, QueueManagerError):
                async for frame in self._until_cut(life, life.core.service.watch(queue_id, after_revision=ledger.seen)):
                    ledger.add(frame)
                    if slow:
                        await asyncio.sleep(rng.uniform(0, slow))
                    if rng.random() < 0.02:
                        break  # its connection was cut
            await asyncio.sleep(rng.uniform(0, 2))

    async def _vandal(self) -> None:
        """Deletes a running worker now and then, behind the manager's back."""
        rng = Random(self.rng.getrandbits(64))
        while True:
            await asyncio.sleep(rng.expovariate(1 / 60))
            if self.quiet:
                return
            known = {
                job.status.runner.name
                for stored in self.world.stored.values()
                for job in stored.queue.jobs
                if job.status.runner is not None
            }
            old = self.world.now() - SETTLE
            victims = [
                n for n, worker in self.world.workers.items() if worker.lives() and n in known and worker.created < old
            ]
            if victims:
                victim = rng.choice(victims)
                self.oracle.removed.add(victim)
                self.world.remove_externally(victim)

    async def _insist(self, call: Callable[[Core], Coroutine[Any, Any, T]], rng: Random) -> T:
        while True:
            if (life := self.life) is not None:
                with suppress(Cut, QueueManagerError):
                    return await self._or_cut(life, call(life.core))
            await asyncio.sleep(rng.uniform(0.1, 3))

    async def _or_cut(self, life: Life, call: Coroutine[Any, Any, T] | Awaitable[T]) -> T:
        task = asyncio.ensure_future(call)
        dead = asyncio.create_task(life.process.dead.wait())
        try:
            await asyncio.wait({task, dead}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Cut
        finally:
            dead.cancel()
            if not task.done():
                task.cancel()

    async def _until_cut(self, life: Life, frames: AsyncIterator[Frame]) -> AsyncIterator[Frame]:
        while True:
            try:
                yield await self._or_cut(life, anext(frames))
            except StopAsyncIteration:
                return

    def _request(self, rng: Random, request_id: str) -> StartRequest:
        template = rng.choice(TEMPLATES)
        chain = rng.random() < 0.3
        names: dict[str, int] = {}
        jobs: list[JobRequest] = []
        previous = ""
        for target, kind in template:
            names[target] = names.get(target, 0) + 1
            name = target if names[target] == 1 else f"{target}-{names[target]}"
            gates = []
            if chain and previous and not previous.startswith("arango"):
                endless = kind.startswith(("ws_", "graph_"))
                condition = (
                    DependencyCondition.STARTED if endless or rng.random() < 0.5 else DependencyCondition.FINISHED
                )
                gates = [DependencyRequest(job=previous, condition=condition)]
            jobs.append(
                replace(
                    GRAPHS.get(target, JobRequest()),
                    target=target,
                    type=kind,
                    depends_on=gates,
                    timeout=rng.choice([None, None, None, 15.0]),
                )
            )
            previous = name
        return StartRequest(
            symbol="BTCUSDT",
            time_range="2024-06-01:2024-06-30",
            requests=jobs,
            request_id=request_id,
            failure_policy=rng.choice(list(FailurePolicy)),
            start_timeout=rng.choice([None, 20.0]),
        )


def _stop(
    queue_id: str, mode: StopMode, grace: float | None, wait: float | None, core: Core
) -> Coroutine[Any, Any, Queue]:
    return core.service.stop(queue_id, mode=mode, grace_period=grace, reason="enough", by="caller", wait=wait)


def simulate(seed: int, sabotage: Sabotage | None = None) -> Simulation:
    """Play a seed. Raises `Violated` where a promise was broken."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    simulation = Simulation(seed, sabotage or Sabotage())
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)
    try:
        loop.run_until_complete(simulation.play())
    except Violated as error:
        raise Violated(f"seed {seed}: {error}") from None
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with suppress(RuntimeError):
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(asyncio.sleep(0))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    return simulation
