"""One process's view of the world: the three ports, where calls are slow, fail, lose their answers, or kill the process.

A process dies at a call, before or after its effect: between any two steps of the core, that is, since a step is seen
from outside only by its calls. A dead process's calls never return and have no effect.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from queue_manager.server.application.diagnosis import Finding
from queue_manager.server.application.ports import (
    Cursor,
    Message,
    Publication,
    QueueFilter,
    Receiver,
    Record,
    WorkerCommand,
)
from queue_manager.server.domain.errors import Conflict, Declined, Unavailable
from queue_manager.server.domain.history import Entry, compact
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Job, Queue, Reason, StateReason
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus
from tests.simulation.world import Stored, World, describe

T = TypeVar("T")

SETTLE = 30.0
"""A launch whose answer was lost may take effect this much later; a worker may have come and gone by then."""
HISTORY_KEPT = 4
"""Few, so that watchers meet the end of history."""


@dataclass(slots=True)
class Trouble:
    """How likely what is, per call."""

    fail: float = 0.0
    """The call fails without an effect."""
    lose: float = 0.0
    """It has its effect, but the answer is lost."""
    hint_lost: float = 0.0
    command_lost: float = 0.0
    refuse: float = 0.0
    decline: float = 0.0
    slow: float = 0.05
    """Longest duration of a call, in seconds."""


class Process:
    """The life of one process of the manager, and its gate to the world."""

    def __init__(self, world: World, rng: Random, trouble: Trouble, fuse: int | None) -> None:
        """`fuse`: at this many calls from now it dies."""
        self.world = world
        self.rng = rng
        self.trouble = trouble
        self.fuse = fuse
        self.dead = asyncio.Event()

    async def call(self, effect: Callable[[], T], *, late: bool = False) -> T:
        """One call. `late`: an effect whose answer is lost may come later."""
        await self._on_the_way()
        rng, trouble = self.rng, self.trouble
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                if rng.random() < 0.5:
                    self._effect(effect, late)
                self.dead.set()
                await self._never()
        roll = rng.random()
        if roll < trouble.fail:
            raise Unavailable("the simulated part is out of reach")
        if roll < trouble.fail + trouble.lose:
            self._effect(effect, late)
            raise Unavailable("the simulated answer was lost")
        result = effect()
        await self._on_the_way()
        return result

    def _effect(self, effect: Callable[[], object], late: bool) -> None:
        if late:
            asyncio.get_running_loop().call_later(self.rng.uniform(0, SETTLE * 0.9), _ignore_conflict, effect)
        else:
            _ignore_conflict(effect)

    async def _on_the_way(self) -> None:
        if self.trouble.slow:
            await asyncio.sleep(self.rng.uniform(0, self.trouble.slow))
        if self.dead.is_set():
            await self._never()

    @staticmethod
    async def _never() -> None:
        await asyncio.get_running_loop().create_future()


def _ignore_conflict(effect: Callable[[], object]) -> None:
    with suppress(Conflict):
        effect()


class SimulatedStore:
    """The `StateStore` port."""

    name = "simulated"

    def __init__(self, process: Process, *, exclusive: bool) -> None:
        self._process = process
        self._world = process.world
        self.exclusive = exclusive

    async def create(self, queue: Queue, entry: Entry) -> Record:
        """See the port."""

        def effect() -> Record:
            world = self._world
            request_id = queue.spec.request_id
            if request_id and (known := world.by_request.get(request_id)):
                return self._record(known)
            if queue.queue_id in world.stored:
                raise Conflict("taken")
            world.on_write(None, queue)
            world.stored[queue.queue_id] = Stored(queue, 1, [entry])
            world.entries[queue.queue_id].add(entry.revision)
            if request_id:
                world.by_request[request_id] = queue.queue_id
            return self._record(queue.queue_id)

        return await self._process.call(effect)

    async def get(self, queue_id: str) -> Record | None:
        """See the port."""
        return await self._process.call(lambda: self._record(queue_id) if queue_id in self._world.stored else None)

    async def get_by_request_id(self, request_id: str) -> Record | None:
        """See the port."""
        queue_id = self._world.by_request.get(request_id)
        return None if queue_id is None else await self.get(queue_id)

    async def replace(self, queue: Queue, *, version: str, entry: Entry | None) -> Record:
        """See the port."""

        def effect() -> Record:
            stored = self._world.stored.get(queue.queue_id)
            if stored is None or str(stored.version) != version:
                raise Conflict("changed")
            self._world.on_write(stored.queue, queue)
            stored.queue, stored.version = queue, stored.version + 1
            if entry is not None:
                stored.history = compact([*stored.history, entry], HISTORY_KEPT, published=queue.published_revision)
                self._world.entries[queue.queue_id].add(entry.revision)
            return self._record(queue.queue_id)

        return await self._process.call(effect)

    async def list(self, query: QueueFilter, *, after: Cursor | None, limit: int) -> Sequence[Queue]:
        """See the port; the simulation does not page."""
        return await self._process.call(lambda: [stored.queue for stored in self._world.stored.values()][:limit])

    async def unsettled(self, *, after: str, limit: int) -> Sequence[Record]:
        """See the port."""

        def effect() -> list[Record]:
            ids = (queue_id for queue_id, stored in self._world.stored.items() if not stored.queue.settled)
            return [self._record(queue_id) for queue_id in sorted(ids) if queue_id > after][:limit]

        return await self._process.call(effect)

    async def history(self, queue_id: str) -> Sequence[Entry]:
        """See the port."""
        return await self._process.call(lambda: list(self._world.stored[queue_id].history))

    async def ended_before(self, time: float, *, limit: int) -> Sequence[str]:
        """See the port; the simulation keeps everything."""
        return []

    async def delete(self, queue_id: str) -> None:
        """See the port."""
        await self._process.call(lambda: self._world.stored.pop(queue_id, None))

    async def check(self) -> None:
        """See the port."""

    def _record(self, queue_id: str) -> Record:
        stored = self._world.stored[queue_id]
        return Record(stored.queue, str(stored.version))


class SimulatedRunner:
    """The `Runner` port."""

    name = "simulated"
    launch_settle = SETTLE

    def __init__(self, process: Process, bus: SimulatedBus) -> None:
        self._process = process
        self._world = process.world
        self._bus = bus

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See the port."""
        if self._process.rng.random() < self._process.trouble.refuse:
            return Refused(spec.key, StateReason(code=Reason.CONFIG_ERROR, message="refused"))
        decline = self._process.trouble.decline
        if decline and self._process.rng.random() < decline:
            raise Declined("too many requests")
        worker = await self._process.call(lambda: self._world.create_worker(spec), late=True)
        return self._describe(worker.spec.key)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """Nothing would be refused."""
        return ()

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See the port."""
        return await self._process.call(lambda: [self._describe(key) for key in workers])

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See the port."""
        await self._process.call(lambda: self._world.delete_worker(worker.name, grace))

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """See the port."""
        await self._process.call(lambda: self._world.clear_away(w.name for w in workers if w in stopped))

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See the port."""

    async def alive(self) -> Sequence[WorkerKey]:
        """See the port."""
        return [worker.spec.key for worker in self._world.workers.values() if worker.lives()]

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """See the port."""
        process = self._process

        def hear(queue_id: str) -> None:
            if not process.dead.is_set():
                wake(queue_id)

        def hint(queue_id: str) -> None:
            if not process.dead.is_set() and process.rng.random() >= process.trouble.hint_lost:
                asyncio.get_running_loop().call_later(process.rng.uniform(0, 0.1), hear, queue_id)

        self._world.listeners.append(hint)

    async def check(self) -> None:
        """See the port."""

    def _describe(self, key: WorkerKey) -> WorkerStatus:
        worker = self._world.status(key.name)
        if worker is None:
            return WorkerStatus(key=key, phase=Phase.ABSENT)
        status = describe(worker, complete=False)
        if not self._world.local or worker.phase is not Phase.ENDED:
            return status
        if worker.pending or self._bus.delivered.get(key.name, -1) < worker.said_last:
            return WorkerStatus(
                key=key, phase=Phase.RUNNING, ref=status.ref, spec_hash=status.spec_hash, start_time=status.start_time
            )
        return describe(worker, complete=True)


class SimulatedBus:
    """The `Bus` port, with a consumer of its own: at least once, from the last committed position on."""

    name = "simulated"
    is_heard = True
    dead_letters = None

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._receiver: Receiver | None = None
        self.delivered: dict[str, int] = {}
        """The last position that this process was given, by partition."""
        self._unanswered: set[asyncio.Future[object]] = set()

    def has_heard_all(self) -> bool:
        """Whether everything that was said was handed on, and answered."""
        said = {partition: len(log) for partition, log in self._world.partitions.items()}
        handed_on = all(self.delivered.get(p, -1) == n - 1 or self._world.committed[p] == n for p, n in said.items())
        return handed_on and not self._unanswered

    def subscribe(self, receiver: Receiver) -> None:
        """See the port."""
        self._receiver = receiver

    def heard_until(self) -> float:
        """See the port: it hands on at once what there is."""
        return math.inf

    async def prepare(self, queue: Queue) -> None:
        """See the port."""
        await self._process.call(lambda: None)

    async def send(self, *commands: WorkerCommand) -> None:
        """See the port."""
        process = self._process

        def tell() -> None:
            for command in commands:
                fields: Mapping[str, object] = {"command": command.command, **command.fields}
                self._world.tell(command.queue_id, fields, lambda: process.rng.random() < process.trouble.command_lost)

        await process.call(tell)

    async def publish(self, events: Sequence[Publication]) -> None:
        """See the port."""
        await self._process.call(lambda: self._world.published.extend(events))

    async def bury(self, message: Message, reason: str) -> None:
        """See the port."""
        await self._process.call(lambda: None)

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """See the port."""
        return await self._process.call(lambda: self._world.lag(job.spec.kafka_topic))

    async def forget(self, queue: Queue) -> None:
        """See the port."""

    async def check(self) -> None:
        """See the port."""

    async def warnings(self) -> Sequence[Finding]:
        """See the port."""
        return ()

    async def consume(self) -> None:
        """Hand on what comes in; commit what was stored. Local telemetry is handed on from its beginning."""
        assert self._receiver is not None
        positions: dict[str, int] = {} if self._world.local else dict(self._world.committed)
        while True:
            self._world.news.clear()
            for partition, log in list(self._world.partitions.items()):
                begin = positions.get(partition, 0)
                if begin >= len(log):
                    continue
                messages = [
                    Message(raw, time, source=partition, position=begin + index)
                    for index, (time, raw) in enumerate(log[begin:])
                ]
                await self._process._on_the_way()
                stored = asyncio.ensure_future(self._receiver.telemetry(messages))
                self._unanswered.add(stored)
                stored.add_done_callback(self._unanswered.discard)
                positions[partition] = begin + len(messages)
                self.delivered[partition] = positions[partition] - 1
                if not self._world.local:
                    await stored
                    await self._process._on_the_way()
                    if self._process.rng.random() > self._process.trouble.fail * 3:
                        self._world.committed[partition] = positions[partition]
            if not any(positions.get(p, 0) < len(log) for p, log in self._world.partitions.items()):
                await self._world.news.wait()
