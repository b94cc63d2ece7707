"""The simulated world: a store, a cluster and a bus, as they truly are, whatever any process of the manager believes.

Processes reach it through `ports`, where answers are lost and delayed; here things happen or do not. Workers play a
script that the oracle can read afterwards.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from queue_manager.server.application.ports import Publication
from queue_manager.server.domain.history import Entry
from queue_manager.server.domain.launch import LaunchSpec
from queue_manager.server.domain.model import Queue, Reason, RunnerRef, StateReason
from queue_manager.server.domain.observation import Phase, WorkerStatus

EPOCH = 1_722_500_000.0
"""2024-08-01T08:13:20Z: where the virtual wall clock begins."""


@dataclass(slots=True)
class Script:
    """What a worker will do, drawn when it is created."""

    wait: float
    duration: float
    exit_code: int
    outcome: str
    """finish, error_final, error_note, silent, interrupted, linger, hang."""
    obeys_stop: bool
    obeys_term: bool
    delay: float
    """Of its telemetry on its way."""


@dataclass(slots=True)
class Worker:
    """A worker as it truly is."""

    spec: LaunchSpec
    uid: str
    script: Script
    created: float
    phase: Phase = Phase.WAITING
    start: float | None = None
    end: float | None = None
    exit_code: int | None = None
    gone: bool = False
    """Removed from the cluster by someone else."""
    told_to_stop: bool = False
    terminated: bool = False
    """Somebody ended it from outside: a stop, a deletion."""
    said_last: int = -1
    """Position in its partition of the last thing that it said and that is in the log."""
    pending: int = 0
    """Things that it said and that are still on their way."""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def lives(self) -> bool:
        """Whether it runs or will."""
        return self.phase in {Phase.WAITING, Phase.RUNNING} and not self.gone


@dataclass(slots=True)
class Stored:
    """What the store has of a queue."""

    queue: Queue
    version: int
    history: list[Entry]


class World:
    """Everything outside the manager's processes."""

    def __init__(self, rng: Random, *, local: bool, on_write: Callable[[Queue | None, Queue], None]) -> None:
        self.rng = rng
        self.local = local
        """Telemetry comes with a worker's end, as from local processes; else another way, as over Kafka."""
        self.on_write = on_write
        self.stored: dict[str, Stored] = {}
        self.by_request: dict[str, str] = {}
        self.workers: dict[str, Worker] = {}
        self.creations: Counter[str] = Counter()
        self.partitions: defaultdict[str, list[tuple[float, bytes]]] = defaultdict(list)
        self.committed: Counter[str] = Counter()
        self.published: list[Publication] = []
        self.entries: defaultdict[str, set[int]] = defaultdict(set)
        """Every revision that went into history, also those that it no longer has."""
        self.written: Counter[str] = Counter()
        self.consumed: Counter[str] = Counter()
        self.launches_before_intent: list[str] = []
        self.listeners: list[Callable[[str], None]] = []
        self.news = asyncio.Event()
        self.quiet = False
        """No more trouble: scripts drawn from now on are harmless."""

    def now(self) -> float:
        """The wall clock."""
        return EPOCH + asyncio.get_running_loop().time()

    # --- cluster ---

    def create_worker(self, spec: LaunchSpec) -> Worker:
        """Create the worker of this name, or find it. Names of removed workers are free again, as on a real cluster."""
        existing = self.workers.get(spec.key.name)
        if existing is not None and not existing.gone:
            return existing
        self.creations[spec.key.name] += 1
        stored = self.stored.get(spec.key.queue_id)
        job = stored.queue.job(spec.key.job) if stored else None
        if job is None or not job.status.spec_hash:
            self.launches_before_intent.append(spec.key.name)
        worker = Worker(
            spec=spec, uid=f"uid-{self.rng.getrandbits(48):012x}", script=self._script(), created=self.now()
        )
        self.workers[spec.key.name] = worker
        worker.tasks.append(asyncio.create_task(self._live(worker)))
        self._changed(worker)
        return worker

    def status(self, name: str) -> Worker | None:
        """The worker of this name."""
        worker = self.workers.get(name)
        return None if worker is None or worker.gone else worker

    def delete_worker(self, name: str, grace: float) -> None:
        """Begin to end a worker."""
        worker = self.workers.get(name)
        if worker is None or worker.gone or worker.phase is Phase.ENDED:
            return
        worker.terminated = True
        worker.tasks.append(asyncio.create_task(self._terminate(worker, grace)))

    def clear_away(self, names: Iterable[str]) -> None:
        """Remove what is left of workers that have ended, as a cluster does: their names are free again."""
        for worker in map(self.workers.__getitem__, names):
            if not self.local and worker.phase is Phase.ENDED:
                worker.gone = True

    def remove_externally(self, name: str) -> None:
        """Somebody deletes the worker behind the manager's back, though not in the seconds after its launch.

        In those, a launch call without an answer would start it once more under its free name; nothing but the worker
        itself, by claiming its work, can prevent that on a real cluster.
        """
        worker = self.workers[name]
        if worker.lives():
            worker.gone = True
            self._changed(worker)

    def live_workers(self, queue_id: str) -> list[Worker]:
        """The workers of a queue that run or will."""
        return [w for w in self.workers.values() if w.spec.key.queue_id == queue_id and w.lives()]

    def _script(self) -> Script:
        rng = self.rng
        trouble = 0.0 if self.quiet else 1.0
        outcome = rng.choices(
            ["finish", "error_final", "error_note", "silent", "interrupted", "linger", "hang"],
            [6, 0.5 * trouble, 0.7 * trouble, 0.4 * trouble, 0.2 * trouble, 0.4 * trouble, 0.3 * trouble],
        )[0]
        return Script(
            wait=rng.uniform(0.1, 6),
            duration=rng.uniform(0.5, 40),
            exit_code=rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 137]) if trouble else 0,
            outcome=outcome,
            obeys_stop=rng.random() < 0.8,
            obeys_term=rng.random() < 0.8,
            delay=rng.choice([0.0, 0.01, 0.3]),
        )

    async def _live(self, worker: Worker) -> None:
        script, environment = worker.script, worker.spec.environment
        await asyncio.sleep(script.wait)
        if not worker.lives():
            return
        worker.phase, worker.start = Phase.RUNNING, self.now()
        self._changed(worker)
        kind, target = environment["TYPE"], environment["TELEMETRY_PRODUCER_ID"].split("__")[0]
        topic = environment.get("KAFKA_TOPIC", "")
        endless = kind.startswith(("ws_", "realtime_", "graph_metrics"))
        connector = target.startswith("arango-connector")
        if script.outcome != "silent":
            self._say(worker, "started")
        ends = self.now() + script.duration
        records = 0
        while (
            worker.lives()
            and not worker.told_to_stop
            and (endless or connector or self.now() < ends or script.outcome == "hang")
        ):
            await asyncio.sleep(1.0)
            if script.outcome == "hang" or not worker.lives():
                continue
            if connector:
                step = min(100, self.written[topic] - self.consumed[topic])
                self.consumed[topic] += step
            else:
                step = 50
                if target.startswith("loader"):
                    self.written[topic] += step
            records += step
            if script.outcome != "silent":
                self._say(worker, "loading", records_written=records, progress=min(1.0, records / 5000))
            if endless and script.outcome in {"error_final", "interrupted"} and self.now() >= ends:
                break
        if not worker.lives():
            return
        self._last_words(worker, records)
        if script.outcome == "linger" and not worker.told_to_stop:
            await asyncio.sleep(1e9)
        code = 0 if worker.told_to_stop or script.outcome in {"error_final", "error_note"} else script.exit_code
        await self._exit(worker, code)

    def _last_words(self, worker: Worker, records: int) -> None:
        outcome = worker.script.outcome
        if outcome == "silent":
            return
        if worker.told_to_stop:
            self._say(worker, "interrupted", finished=True, records_written=0)
            self._say(worker, "finished", finished=True, records_written=records)
        elif outcome == "error_final":
            self._say(worker, "error", error_message="it broke", finished=True)
            self._say(worker, "finished", finished=True)
        elif outcome == "error_note":
            self._say(worker, "error", error_message="one bad record", finished=False)
        elif outcome == "interrupted":
            self._say(worker, "interrupted", finished=True)
            self._say(worker, "finished", finished=True)
        elif worker.script.exit_code == 0 or outcome == "linger":
            self._say(worker, "finished", finished=True, records_written=records)

    async def _terminate(self, worker: Worker, grace: float) -> None:
        if grace > 0 and worker.script.obeys_term:
            await asyncio.sleep(min(grace, self.rng.uniform(0.01, 1.0)))
            if worker.lives() and worker.phase is Phase.RUNNING and worker.script.outcome != "silent":
                self._say(worker, "finished", finished=True)
            code = self.rng.choice([0, 143])
        else:
            await asyncio.sleep(grace)
            code = 137
        if worker.lives():
            await self._exit(worker, code)
        if not self.local:
            worker.gone = True  # a cluster's deleted Job leaves nothing, and its name is free again
            self._changed(worker)

    async def _exit(self, worker: Worker, code: int) -> None:
        if worker.lives():
            worker.phase, worker.exit_code, worker.end = Phase.ENDED, code, self.now()
            if worker.start is None:
                worker.start = self.now()
            self._changed(worker)

    def _changed(self, worker: Worker) -> None:
        for listener in tuple(self.listeners):
            listener(worker.spec.key.queue_id)

    # --- bus ---

    def tell(self, queue_id: str, command: Mapping[str, object], lost: Callable[[], bool]) -> None:
        """A command reaches those workers of the queue that listen, unless it is lost on the way to one."""
        if command["command"] != "stop":
            return
        for worker in self.live_workers(queue_id):
            if worker.phase is Phase.RUNNING and worker.script.obeys_stop and not lost():
                worker.told_to_stop = worker.terminated = True

    def lag(self, topic: str) -> int:
        """What the connectors of a topic have yet to read."""
        return self.written[topic] - self.consumed[topic]

    def _say(self, worker: Worker, status: str, **fields: object) -> None:
        environment = worker.spec.environment
        message = {
            "queue_id": environment["QUEUE_ID"],
            "producer": environment["TELEMETRY_PRODUCER_ID"],
            "type": environment["TYPE"],
            "status": status,
            "timestamp": self.now(),
            "finished": False,
            **fields,
        }
        raw = json.dumps(message).encode()
        partition = worker.spec.key.name if self.local else f"events-{sum(environment['QUEUE_ID'].encode()) % 3}"
        worker.pending += 1
        loop = asyncio.get_running_loop()
        if self.local:
            loop.call_soon(self._arrive, worker, partition, raw)  # one file, in order; timers of one time are not
        else:
            loop.call_later(worker.script.delay, self._arrive, worker, partition, raw)

    def _arrive(self, worker: Worker, partition: str, raw: bytes) -> None:
        log = self.partitions[partition]
        log.append((self.now(), raw))
        if not self.local and self.rng.random() < 0.05:
            log.append((self.now(), raw))  # a producer that did not see the answer sends it again
        worker.said_last, worker.pending = len(log) - 1, worker.pending - 1
        self.news.set()


def describe(worker: Worker, *, complete: bool) -> WorkerStatus:
    """What a runner would say of a worker."""
    vanished = worker.phase is Phase.ENDED and worker.exit_code is None
    return WorkerStatus(
        key=worker.spec.key,
        phase=worker.phase,
        ref=RunnerRef(runner="simulated", name=worker.spec.key.name, uid=worker.uid),
        spec_hash=worker.spec.spec_hash,
        exit_code=worker.exit_code,
        reason=StateReason(code=Reason.WORKER_VANISHED) if vanished else None,
        start_time=worker.start,
        end_time=worker.end,
        telemetry_complete=complete,
    )
