"""The `Runner` port without processes: workers are entries that run until somebody says what becomes of them.

What a launch leads to is looked up in `scripts`; everything later comes by `begin`, `end` and `lose`, from `Director`.
A worker obeys what asks it to end (the `stop` command, a deletion) at once, unless it is stubborn. Nothing that it does
outlives the runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Final

from queue_manager.server.application.ports import Clock
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.model import Reason, RunnerRef, StateReason
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus

SIGKILLED: Final = 137
"""Exit code of a worker that was killed."""
SIGTERMED: Final = 143
"""Exit code of a worker that obeyed SIGTERM."""


@dataclass(frozen=True, slots=True)
class Run:
    """The worker runs at once."""

    then: Callable[[Worker], None] | None = None
    """Told of it in the same turn of the event loop; for whoever wants the worker to do something by itself."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The worker is accepted and waits, as a pod does that finds no node."""

    reason: StateReason


@dataclass(frozen=True, slots=True)
class Refuse:
    """The runner will never accept this worker."""

    reason: StateReason


Script = Run | Hold | Refuse
"""What becomes of a launch."""


class Worker:
    """A worker, as far as there is one."""

    def __init__(self, spec: LaunchSpec, uid: str) -> None:
        """Accepted; it does not run yet."""
        self.spec = spec
        self.uid = uid
        self.waits: StateReason | None = None
        """Why it does not run yet, where it is held."""
        self.stubborn = False
        """It ignores the stop command and SIGTERM."""
        self.said = 0
        """How many messages it has sent."""
        self.start_time: float | None = None
        self.end_time: float | None = None
        self.exit_code: int | None = None
        self.end_reason: StateReason | None = None
        self.timers: list[asyncio.TimerHandle] = []
        """What will end it by itself."""

    @property
    def key(self) -> WorkerKey:
        """Its name, and whose it is."""
        return self.spec.key

    @property
    def phase(self) -> Phase:
        """How far it is."""
        if self.end_time is not None:
            return Phase.ENDED
        return Phase.WAITING if self.start_time is None else Phase.RUNNING

    def status(self, runner: str) -> WorkerStatus:
        """How it stands. What it said was stored before it ended: `Director` waits for that."""
        ended = self.phase is Phase.ENDED
        return WorkerStatus(
            key=self.key,
            phase=self.phase,
            ref=RunnerRef(runner=runner, name=self.key.name, uid=self.uid),
            spec_hash=self.spec.spec_hash,
            exit_code=self.exit_code,
            reason=self.end_reason if ended else self.waits,
            start_time=self.start_time,
            end_time=self.end_time,
            telemetry_complete=ended,
        )


class ScriptedRunner:
    """See the module. `close` takes back what would happen by itself later."""

    name = "scripted"
    launch_settle = 0.0

    def __init__(self, *, clock: Clock, new_uid: Callable[[], str]) -> None:
        """`new_uid` makes the identity of a worker, never the same twice."""
        self._clock = clock
        self._new_uid = new_uid
        self._workers: dict[str, Worker] = {}
        self._wake: Callable[[str], object] = str  # nobody has subscribed yet
        self.scripts: dict[str | None, Script] = {}
        """By the job's name; None: of every job that has none of its own. Without any, workers run."""

    def close(self) -> None:
        """No worker ends by itself any more."""
        for worker in self._workers.values():
            _cancel_timers(worker)

    # --- the port ---

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`."""
        worker = self._workers.get(spec.key.name)
        if worker is None:
            script = self.scripts.get(spec.key.job) or self.scripts.get(None) or Run()
            if isinstance(script, Refuse):
                return Refused(spec.key, script.reason)
            worker = self._workers[spec.key.name] = Worker(spec, self._new_uid())
            if isinstance(script, Hold):
                worker.waits = script.reason
            else:
                self.begin(worker)
                if script.then is not None:
                    script.then(worker)
        return worker.status(self.name)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """See `ports.Runner`."""
        scripts = ((spec.key, self.scripts.get(spec.key.job) or self.scripts.get(None)) for spec in specs)
        return [Refused(key, script.reason) for key, script in scripts if isinstance(script, Refuse)]

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See `ports.Runner`."""
        known = ((key, self._workers.get(key.name)) for key in workers)
        return [
            WorkerStatus(key=key, phase=Phase.ABSENT) if worker is None else worker.status(self.name)
            for key, worker in known
        ]

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        found = self._workers.get(worker.name)
        if found is None:
            return
        if grace <= 0:
            self.end(found, SIGKILLED)
        elif not found.stubborn:
            self.end(found, SIGTERMED)
        elif found.phase is not Phase.ENDED:
            self._later(found, grace, lambda: self.end(found, SIGKILLED))  # the earliest of these counts

    async def release(self, workers: Sequence[WorkerKey], *, stopped: Container[WorkerKey] = ()) -> None:
        """See `ports.Runner`."""

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`."""
        for key in workers:
            worker = self._workers.get(key.name)
            if worker is not None and worker.phase is Phase.ENDED:
                del self._workers[key.name]

    async def alive(self) -> Sequence[WorkerKey]:
        """See `ports.Runner`."""
        return [worker.key for worker in self._workers.values() if worker.phase is not Phase.ENDED]

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """See `ports.Runner`."""
        self._wake = wake

    async def check(self) -> None:
        """See `ports.Runner`."""

    # --- what becomes of workers ---

    def worker(self, key: WorkerKey) -> Worker | None:
        """The worker of that name."""
        return self._workers.get(key.name)

    def running(self, queue_id: str) -> list[Worker]:
        """The queue's workers that run."""
        return [
            worker
            for worker in self._workers.values()
            if worker.key.queue_id == queue_id and worker.phase is Phase.RUNNING
        ]

    def held(self, job: str | None) -> list[Worker]:
        """The workers of jobs of that name (None: of all) that wait."""
        return [
            worker
            for worker in self._workers.values()
            if worker.phase is Phase.WAITING and job in (None, worker.key.job)
        ]

    def begin(self, worker: Worker) -> None:
        """It runs now, unless it has ended."""
        if worker.phase is not Phase.WAITING:
            return
        worker.start_time, worker.waits = self._clock.now(), None
        if worker.spec.timeout is not None:
            text = f"it ran longer than its timeout of {worker.spec.timeout:g} s"
            reason = StateReason(code=Reason.DEADLINE_EXCEEDED, message=text)
            self._later(worker, worker.spec.timeout, lambda: self.end(worker, SIGTERMED, reason))
        self._wake(worker.key.queue_id)

    def end(self, worker: Worker, exit_code: int, reason: StateReason | None = None) -> None:
        """It has ended, unless it had before."""
        if worker.phase is Phase.ENDED:
            return
        _cancel_timers(worker)
        worker.end_time, worker.exit_code, worker.end_reason = self._clock.now(), exit_code, reason
        self._wake(worker.key.queue_id)

    def lose(self, worker: Worker) -> None:
        """It is gone without a trace."""
        _cancel_timers(worker)
        self._workers.pop(worker.key.name, None)
        self._wake(worker.key.queue_id)

    def tell_to_stop(self, queue_id: str) -> None:
        """The queue's workers hear the stop command."""
        for worker in self._workers.values():
            if worker.key.queue_id == queue_id and not worker.stubborn:
                self.end(worker, 0)

    def _later(self, worker: Worker, delay: float, act: Callable[[], None]) -> None:
        worker.timers.append(asyncio.get_running_loop().call_later(delay, act))


def _cancel_timers(worker: Worker) -> None:
    for timer in worker.timers:
        timer.cancel()
    worker.timers.clear()
