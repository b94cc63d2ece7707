"""Following the local workers that run: what they write is handed on, and their end is noticed.

One task looks at all of them again and again, in one thread, and sleeps while there are none. What a worker wrote
is read to its last byte before its end is told. Nothing here is needed to be right again after a crash: a worker is
followed from the oldest output that is kept, and its messages carry positions by which the core knows what it has.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from queue_manager.server.adapters.local import command
from queue_manager.server.adapters.local.directory import Seen, WorkerDirectory
from queue_manager.server.adapters.local.identity import Identity
from queue_manager.server.adapters.local.output import READ_SIZE, Chunk, Tail
from queue_manager.server.application.ports import Clock, Message
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey
from queue_manager.server.domain.model import Reason, RunnerRef, StateReason
from queue_manager.server.domain.observation import Phase, WorkerStatus

log = structlog.get_logger(__name__)

T = TypeVar("T")

Sink = Callable[[Sequence[Message]], None]

KEPT_ENDED: Final = 1000
"""Ended workers kept in memory if nobody releases them; what is dropped is read from disk again when asked for."""

PASS_BYTES: Final = 8 * 1024 * 1024
"""Output that is read at once, of all workers together."""

PROBE_EVERY: Final = 10
"""A shim's own death is looked for in every so manieth pass: it is rarer than anything else."""


@dataclass(slots=True, eq=False)
class Worker:
    """What is in memory of one worker."""

    key: WorkerKey
    directory: WorkerDirectory
    tail: Tail
    status: WorkerStatus
    identity: Identity | None = None
    orphaned: bool = False

    @property
    def labels(self) -> dict[str, str]:
        """What a log line says of it."""
        return {"queue_id": self.key.queue_id, "worker": self.key.name}


@dataclass(slots=True)
class Pass:
    """What one look at the workers found."""

    output: list[tuple[Worker, Chunk]] = field(default_factory=list)
    changed: list[tuple[Worker, Seen]] = field(default_factory=list)
    more: bool = False


class Watcher:
    """Follows workers and remembers how they stand."""

    def __init__(self, *, sink: Sink | None, clock: Clock, interval: float) -> None:
        """`interval`: seconds between two looks at the workers. Without a `sink` their output is only kept."""
        self._sink = sink
        self._clock = clock
        self._interval = interval
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="local-watcher")
        self._subscribers: list[Callable[[str], None]] = []
        self._workers: dict[str, Worker] = {}
        self._running: dict[str, Worker] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._children: set[int] = set()
        self._busy = asyncio.Event()
        self._reading = asyncio.Lock()
        self._passes = 0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch."""
        self._task = asyncio.create_task(self._watch(), name="watch local workers")

    async def stop(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        await asyncio.to_thread(self._pool.shutdown)

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """Have `wake` called with the queue of every worker that changes."""
        self._subscribers.append(wake)

    def wake(self, queue_id: str) -> None:
        """A worker of this queue may have changed."""
        for wake in self._subscribers:
            wake(queue_id)

    def status(self, key: WorkerKey) -> WorkerStatus | None:
        """How a worker stands that is in memory."""
        worker = self._workers.get(key.name)
        return None if worker is None else replace(worker.status, key=key)

    def running(self, queue_id: str) -> list[WorkerDirectory]:
        """The directories of a queue's workers that run."""
        return [worker.directory for worker in self._running.values() if worker.key.queue_id == queue_id]

    def adopt_child(self, pid: int) -> None:
        """A shim that this process started, and must reap when it has ended."""
        self._children.add(pid)
        self._busy.set()

    def drop(self, name: str) -> None:
        """Forget what is in memory of a worker that does not run."""
        if name not in self._running:
            self._workers.pop(name, None)
            self._ended.pop(name, None)

    async def follow(self, key: WorkerKey, directory: WorkerDirectory, seen: Seen) -> None:
        """Remember a worker that runs or has ended; what it has said is handed on before it counts as ended.

        Raises `Unavailable` where that cannot be handed on now.
        """
        async with self._reading:
            worker = self._workers.get(key.name)
            if worker is None:
                worker = Worker(key, directory, Tail(directory.path), self._status(key, seen))
            elif worker.status.phase is Phase.ENDED:
                return
            await self._update(worker, seen)

    async def _update(self, worker: Worker, seen: Seen) -> None:
        name = worker.key.name
        worker.identity, worker.orphaned = seen.identity, seen.orphaned
        if seen.phase is Phase.ABSENT:
            log.error("the directory of a running worker is gone", **worker.labels)
            self._workers.pop(name, None)
            self._running.pop(name, None)
            return
        if seen.phase is Phase.ENDED:
            while (chunk := await self._in_thread(lambda: worker.tail.read(ended=True))) is not None:
                self._hand_on(worker, chunk)
        worker.status = self._status(worker.key, seen)
        self._workers[name] = worker
        if seen.phase is Phase.RUNNING:
            self._running[name] = worker
            self._busy.set()
            return
        self._running.pop(name, None)
        self._ended[name] = None
        while len(self._ended) > KEPT_ENDED:
            self.drop(next(iter(self._ended)))

    def _status(self, key: WorkerKey, seen: Seen) -> WorkerStatus:
        return _status(key, seen, complete=self._sink is not None)

    def _hand_on(self, worker: Worker, chunk: Chunk) -> None:
        if chunk.lost:
            log.warning("output was not read in time and is lost", **worker.labels, bytes=chunk.lost)
        time = min(self._clock.now(), chunk.time)
        source = f"local/{worker.key.name}"
        messages = [Message(line, time, source, offset) for offset, line in chunk.lines if line.startswith(b"{")]
        if messages and self._sink is not None:
            try:
                self._sink(messages)
            except Exception as e:
                raise Unavailable(f"what {worker.key.name} said cannot be handed on: {e}") from e
        worker.tail.accept(chunk)

    async def _watch(self) -> None:
        while True:
            await self._busy.wait()
            more = False
            async with self._reading:
                try:
                    more = await self._look()
                except Exception:  # nothing may end this task; the next pass tries again
                    log.exception("looking at the local workers failed")
                if not self._running and not self._children:
                    self._busy.clear()
            await asyncio.sleep(0 if more else self._interval)

    async def _look(self) -> bool:
        """One pass. Answers whether there is more to read at once."""
        self._passes += 1
        workers = list(self._running.values())
        turn = self._passes % len(workers) if workers else 0  # so that a flood of one starves no other
        found = await self._in_thread(lambda: self._pass(workers[turn:] + workers[:turn]))
        for worker, chunk in found.output:
            try:
                self._hand_on(worker, chunk)
            except Unavailable as error:
                log.warning("telemetry will be handed on again", **worker.labels, error=error.message)
        for worker, seen in found.changed:
            try:
                await self._update(worker, seen)
            except Unavailable as error:
                log.warning("a worker's end will be told later", **worker.labels, error=error.message)
            else:
                self.wake(worker.key.queue_id)
        return found.more

    def _pass(self, workers: Sequence[Worker]) -> Pass:
        """In a thread: read the new output, and see who has ended."""
        self._reap()
        found, room = Pass(), PASS_BYTES
        for worker in workers:
            try:
                seen = self._probe(worker)
                if seen is not None and (seen.phase is not Phase.RUNNING or seen.orphaned != worker.orphaned):
                    found.changed.append((worker, seen))
                elif room <= 0:
                    found.more = True
                elif (chunk := worker.tail.read()) is not None:
                    size = chunk.end - worker.tail.offset
                    room -= size
                    found.more |= size > READ_SIZE // 2
                    found.output.append((worker, chunk))
            except (OSError, Unavailable) as error:
                log.warning("a worker cannot be looked at", **worker.labels, error=str(error))
        return found

    def _probe(self, worker: Worker) -> Seen | None:
        """How a worker stands, if there is a sign that it changed, or it is time to look closer."""
        if worker.orphaned and worker.identity is not None:
            worker.directory.end_orphan_if_due(worker.identity)
        elif self._passes % PROBE_EVERY and not worker.directory.has_exit():
            return None
        return worker.directory.inspect()

    def _reap(self) -> None:
        for pid in tuple(self._children):
            try:
                gone = os.waitpid(pid, os.WNOHANG)[0] == pid
            except ChildProcessError:  # something else in this process has reaped it
                gone = True
            if gone:
                self._children.discard(pid)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


def _status(key: WorkerKey, seen: Seen, *, complete: bool) -> WorkerStatus:
    """What is seen, as the core reads it. Of an ENDED worker: once its output has been handed on.

    `complete`: it has said nothing anywhere else.
    """
    identity, ended = seen.identity, seen.exit
    uid = identity.uid if identity else seen.tombstone.uid if seen.tombstone else ""
    end_time = ended.time if ended else seen.tombstone.time if seen.tombstone else None
    return WorkerStatus(
        key=key,
        phase=seen.phase,
        ref=RunnerRef(runner="local", name=key.name, uid=uid, pid=identity.pid if identity else 0) if uid else None,
        spec_hash=seen.spec.spec_hash if seen.spec else "",
        exit_code=ended.exit_code if ended else None,
        reason=_reason(seen),
        start_time=identity.time if identity else None,
        end_time=end_time,
        telemetry_complete=complete and seen.phase is Phase.ENDED,
    )


def _reason(seen: Seen) -> StateReason | None:
    ended = seen.exit
    if ended is None:
        return None
    if ended.errno is not None:
        return command.cannot_run(seen.spec.command[0] if seen.spec else "", ended.errno)
    if ended.overdue:
        return StateReason(code=Reason.DEADLINE_EXCEEDED, message="it ran longer than its timeout allows")
    return None
