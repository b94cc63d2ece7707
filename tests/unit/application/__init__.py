"""What the tests of the core share: a clock on the loop's time, ports that can be made to fail, and counters."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Container, Sequence
from random import Random

from msgspec.structs import replace

from queue_manager.server.adapters.inprocess.store import MemoryStore
from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.diagnosis import Finding
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import DeadLetters, Message, Publication, Receiver, Record, WorkerCommand
from queue_manager.server.application.records import Records
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.errors import Declined, Unavailable
from queue_manager.server.domain.history import Entry, Event
from queue_manager.server.domain.launch import LaunchSpec, Platform, WorkerKey
from queue_manager.server.domain.model import Job, JobState, Queue, QueueState, RunnerRef
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus
from tests.support.stored_queues import new_queue

EPOCH = 1_722_500_000.0
Q = "wf-btcusdt-api-trades-20240601-a1b2c3"


class Wall:
    """The wall clock: the loop's, so that both are virtual."""

    def now(self) -> float:
        """UTC seconds."""
        return EPOCH + asyncio.get_running_loop().time()


class Counters(Instruments):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.frames: list[tuple[str, int]] = []

    def telemetry(self, outcome: str, count: int = 1) -> None:
        """See `Instruments`."""
        self.counts[outcome] += count

    def orphans(self, count: int) -> None:
        """See `Instruments`."""
        self.counts["orphans"] = count

    def watchers(self, change: int) -> None:
        """See `Instruments`."""
        self.counts["watchers"] += change

    def published(self, count: int) -> None:
        """See `Instruments`."""
        self.counts["published"] += count

    def frame(self, kind: str, merged: int) -> None:
        """See `Instruments`."""
        self.frames.append((kind, merged))


class Store(MemoryStore):
    """Calls take no time unless told so, and fail as they are told: `fail` without, `lose` with their effect."""

    def __init__(self, *, exclusive: bool = True, keep: int = 512) -> None:
        super().__init__(keep=keep)
        self.exclusive = exclusive
        self.fail: Counter[str] = Counter()
        self.lose: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self.slow = 0.0
        self.before: Callable[[str], None] | None = None

    async def _call(self, name: str) -> None:
        self.calls[name] += 1
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.before is not None:
            self.before(name)
        if self.fail[name]:
            self.fail[name] -= 1
            raise Unavailable("out of reach")

    def _answer(self, name: str, record: Record) -> Record:
        if self.lose[name]:
            self.lose[name] -= 1
            raise Unavailable("the answer was lost")
        return record

    async def create(self, queue: Queue, entry: Entry) -> Record:
        """See `StateStore`."""
        await self._call("create")
        return self._answer("create", await super().create(queue, entry))

    async def get(self, queue_id: str) -> Record | None:
        """See `StateStore`."""
        await self._call("get")
        return await super().get(queue_id)

    async def replace(self, queue: Queue, *, version: str, entry: Entry | None) -> Record:
        """See `StateStore`."""
        await self._call("replace")
        return self._answer("replace", await super().replace(queue, version=version, entry=entry))

    async def history(self, queue_id: str) -> Sequence[Entry]:
        """See `StateStore`."""
        await self._call("history")
        return await super().history(queue_id)


class Bus:
    """Remembers what was sent and published; `down` fails all."""

    name = "test"

    def __init__(self) -> None:
        self.down = False
        self.is_heard = True
        self.heard = math.inf
        self.sent: list[WorkerCommand] = []
        self.published: list[Publication] = []
        self.forgotten: list[str] = []
        self.buried: list[tuple[Message, str]] = []
        self.dead_letters: DeadLetters | None = None
        self.receiver: Receiver | None = None
        self.to_look_at: list[Finding] = []

    def heard_until(self) -> float:
        """See `ports.Bus`."""
        return self.heard

    def subscribe(self, receiver: Receiver) -> None:
        """See `ports.Bus`."""
        self.receiver = receiver

    async def prepare(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        await self.check()

    async def send(self, *commands: WorkerCommand) -> None:
        """See `ports.Bus`."""
        await self.check()
        self.sent += commands

    async def publish(self, events: Sequence[Publication]) -> None:
        """See `ports.Bus`."""
        await self.check()
        self.published += events

    async def bury(self, message: Message, reason: str) -> None:
        """See `ports.Bus`."""
        await self.check()
        self.buried.append((message, reason))

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """See `ports.Bus`."""
        return 0

    async def forget(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        await self.check()
        self.forgotten.append(queue.queue_id)

    async def check(self) -> None:
        """See `ports.Bus`."""
        if self.down:
            raise Unavailable("the bus is out of reach")

    async def warnings(self) -> Sequence[Finding]:
        """See `ports.Bus`."""
        await self.check()
        return self.to_look_at


class Runner:
    """Workers run from when they are launched until they are deleted."""

    name = "test"
    launch_settle = 0.0

    def __init__(self) -> None:
        self.down = False
        self.workers: dict[str, WorkerStatus] = {}
        self.forgotten: list[str] = []
        self.released: dict[str, bool] = {}
        """By worker: whether it was said to have been stopped."""
        self.would_refuse: dict[str, Callable[[WorkerKey], Refused]] = {}
        self.wake: Callable[[str], None] = lambda queue_id: None

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        if self.down:
            raise Declined("out of reach")  # there was nobody to take it
        status = WorkerStatus(
            key=spec.key,
            phase=Phase.RUNNING,
            ref=RunnerRef(runner="test", name=spec.key.name, uid=spec.key.name),
            spec_hash=spec.spec_hash,
        )
        return self.workers.setdefault(spec.key.name, status)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """See `ports.Runner`."""
        await self.check()
        return [self.would_refuse[spec.target](spec.key) for spec in specs if spec.target in self.would_refuse]

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See `ports.Runner`."""
        await self.check()
        return [self.workers.get(key.name, WorkerStatus(key=key, phase=Phase.ABSENT)) for key in workers]

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        await self.check()
        self.workers.pop(worker.name, None)
        self.wake(worker.queue_id)

    def exits(self, name: str, code: int = 0) -> None:
        """A worker ends by itself now; whatever it said has been heard."""
        ran, now = self.workers[name], EPOCH + asyncio.get_running_loop().time()
        self.workers[name] = dataclasses.replace(
            ran, phase=Phase.ENDED, exit_code=code, end_time=now, telemetry_complete=True
        )
        self.wake(ran.key.queue_id)

    async def alive(self) -> Sequence[WorkerKey]:
        """See `ports.Runner`."""
        await self.check()
        return [status.key for status in self.workers.values()]

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """See `ports.Runner`."""
        self.released |= {key.name: key in stopped for key in workers}

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`."""
        await self.check()
        self.forgotten += [key.name for key in workers]

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """See `ports.Runner`."""
        self.wake = wake

    async def check(self) -> None:
        """See `ports.Runner`."""
        if self.down:
            raise Unavailable("the runner is out of reach")


class Parts:
    """Records over a store, with counters."""

    def __init__(self, *, exclusive: bool = True, keep: int = 512) -> None:
        self.store = Store(exclusive=exclusive, keep=keep)
        self.counters = Counters()
        self.queues_encoded = 0
        self.events_encoded = 0
        self.records = self.another()

    def another(self) -> Records:
        """Records of another process on the same store."""
        return Records(self.store, clock=Wall(), encode=self.encode_queue, instruments=self.counters)

    def encode_queue(self, queue: Queue) -> bytes:
        """Stands for the message."""
        self.queues_encoded += 1
        return f"{queue.revision} {queue.status.state} {queue.jobs[0].status.records_written}".encode()

    def encode_event(self, event: Event) -> bytes:
        """Stands for the message."""
        self.events_encoded += 1
        return f"event {event.revision} {event.type}".encode()

    async def begin(self, queue_id: str = Q) -> Queue:
        """A new queue at revision 1."""
        queue, _ = new_queue(queue_id)
        record, created = await self.records.create(replace(queue, revision=0, history_revision=0), actor="tests")
        assert created
        return record.queue

    async def progress(self, queue_id: str = Q) -> Queue:
        """One more record written: a revision that history does not keep."""
        return await self.alter(queue_id, records=1)

    async def alter(
        self,
        queue_id: str = Q,
        *,
        state: QueueState | None = None,
        job: JobState | None = None,
        records: int = 0,
        published: bool = False,
    ) -> Queue:
        """A new revision; `published`: the events before it are out."""

        def transition(queue: Queue) -> Queue:
            status = queue.jobs[0].status
            status = replace(status, state=job or status.state, records_written=status.records_written + records)
            jobs = (replace(queue.jobs[0], status=status), *queue.jobs[1:])
            queue = replace(queue, jobs=jobs, status=replace(queue.status, state=state or queue.status.state))
            return replace(queue, published_revision=queue.revision) if published else queue

        return (await self.records.change(queue_id, transition)).queue


def core(store: Store, runner: Runner, bus: Bus) -> Core:
    """The whole core on these parts."""
    return Core(
        store=store,
        runner=runner,
        bus=bus,
        clock=Wall(),
        rng=Random(1),
        catalogue=builtin_catalogue(),
        platform=Platform(),
        settings=CoreSettings(),
        encode_queue=lambda queue: str(queue.revision).encode(),
        encode_event=lambda event: str(event.revision).encode(),
        instruments=Instruments(),
    )
