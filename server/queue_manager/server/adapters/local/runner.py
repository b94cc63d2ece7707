"""The `Runner` port over local processes.

Every worker has a supervisor of its own, the shim, which outlives the server, and a directory, in which stands all that
there is to know of it. So the server may be killed at any instruction: what it had in memory is read again, when the
core first asks about a worker. docs/local-workers.md tells why none is then started twice, forgotten, or mistaken.

This module answers the core; `watcher` follows the living workers' output and notices their ends; `directory` reads and
writes the files; `spawn` and `shim` start processes. Everything that blocks runs in threads.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import structlog

from queue_manager.server.adapters.local import command
from queue_manager.server.adapters.local.directory import FORGOTTEN, LOCK_WAIT, Seen, Spec, WorkerDirectory
from queue_manager.server.adapters.local.spawn import Order, spawn
from queue_manager.server.adapters.local.watcher import Sink, Watcher
from queue_manager.server.application.ports import Clock
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus

log = structlog.get_logger(__name__)

T = TypeVar("T")

THREADS: Final = 8
"""Launches, deletions and looks at the disk that go on at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """What can be set about local workers; seconds and bytes."""

    poll_interval: float = 0.1
    """How often living workers are looked at: how late telemetry and an end can be."""
    grace: float = 10.0
    """Between SIGTERM and SIGKILL where nobody has said how long: at a job's timeout, at the machine's shutdown."""
    launch_timeout: float = 10.0
    """A launch takes 20 ms; a machine that needs longer than this is out of order."""
    stdout_limit: int = 8 * 1024 * 1024
    """Size of a file of standard output; two are kept, so that a server that was away has time to come back."""
    stderr_limit: int = 1024 * 1024
    """The same of standard error, which only people read."""
    python: str = sys.executable
    """Runs the shims."""


class LocalRunner:
    """Runs workers as processes of this machine. `async with` opens and closes it; closing leaves them running."""

    name = "local"
    launch_settle = 0.0  # ABSENT takes the ticket of every earlier launch away, see `WorkerDirectory.inspect`

    def __init__(
        self,
        data_dir: Path,
        *,
        sink: Sink | None,
        clock: Clock,
        secrets: Mapping[str, str],
        settings: LocalSettings | None = None,
    ) -> None:
        """`sink` is handed the workers' messages, on the event loop, at least once, each worker's in order.

        None: what they write on standard output is no telemetry, which comes another way.
        `secrets`: name → value, of those that launches may name.
        """
        self._workers = data_dir.absolute() / "workers"
        self._topics = data_dir.absolute() / "topics"
        self._secrets = secrets
        self._settings = settings or LocalSettings()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="local-runner")
        self._watcher = Watcher(sink=sink, clock=clock, interval=self._settings.poll_interval)
        self._launches: dict[str, asyncio.Task[WorkerStatus | Refused]] = {}

    async def open(self) -> None:
        """Make the directories and begin to watch."""
        await self._in_thread(self._prepare)
        self._watcher.start()

    async def close(self) -> None:
        """Stop watching, when launches under way have come to a result. The workers run on."""
        if self._launches:
            await asyncio.wait(self._launches.values())
        await self._watcher.stop()
        await asyncio.to_thread(self._pool.shutdown)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # --- the port ---

    async def launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        """See `ports.Runner`. Calls of the same name join; a call that is cancelled goes on by itself."""
        name = spec.key.name
        task = self._launches.get(name)
        if task is None:
            task = asyncio.create_task(self._launch(spec), name=f"launch {name}")
            self._launches[name] = task
            task.add_done_callback(lambda done: self._launched(spec, done))
        return await asyncio.shield(task)

    async def rehearse(self, specs: Sequence[LaunchSpec]) -> Sequence[Refused]:
        """See `ports.Runner`."""
        prepared = await self._in_thread(lambda: [self._prepared(spec) for spec in specs])
        return [refused for refused in prepared if isinstance(refused, Refused)]

    async def observe(self, workers: Sequence[WorkerKey]) -> Sequence[WorkerStatus]:
        """See `ports.Runner`. A worker that is not in memory is looked for on disk, and followed from then on."""
        under_way = [task for key in workers if (task := self._launches.get(key.name)) is not None]
        if under_way:
            await asyncio.wait(under_way)
        unknown = [key for key in workers if self._watcher.status(key) is None]
        if unknown:
            found = await self._in_thread(lambda: [self._directory(key.name).inspect() for key in unknown])
            for key, seen in zip(unknown, found, strict=True):
                await self._take_in(key, seen)
        return [self._watcher.status(key) or WorkerStatus(key=key, phase=Phase.ABSENT) for key in workers]

    async def delete(self, worker: WorkerKey, *, grace: float) -> None:
        """See `ports.Runner`."""
        directory, launching = self._directory(worker.name), worker.name in self._launches
        await self._in_thread(lambda: directory.end(grace, launching=launching))
        if not launching and self._watcher.status(worker) is None:
            await self.observe([worker])  # so that its end is noticed, and an orphan's grace kept

    async def release(
        self,
        workers: Sequence[WorkerKey],
        *,
        stopped: Container[WorkerKey] = (),  # noqa: ARG002 - the disk is nobody else's
    ) -> None:
        """See `ports.Runner`. What is on disk stays until they are forgotten."""
        for worker in workers:
            self._watcher.drop(worker.name)

    async def forget(self, workers: Sequence[WorkerKey]) -> None:
        """See `ports.Runner`. A worker that still runs is left as it is."""
        names = [worker.name for worker in workers if WorkerDirectory.is_name(worker.name)]
        removed = await self._in_thread(lambda: [self._directory(name).remove() for name in names])
        for name, gone in zip(names, removed, strict=True):
            if gone:
                self._watcher.drop(name)
            else:
                log.warning("a worker that is to be forgotten still runs", worker=name)

    async def alive(self) -> Sequence[WorkerKey]:
        """See `ports.Runner`."""
        return await self._in_thread(self._find_alive)

    def subscribe(self, wake: Callable[[str], None]) -> None:
        """See `ports.Runner`."""
        self._watcher.subscribe(wake)

    async def check(self) -> None:
        """See `ports.Runner`."""
        if not await self._in_thread(lambda: os.access(self._workers, os.W_OK | os.X_OK)):
            raise Unavailable(f"{self._workers} is not there or cannot be written to")

    # --- for the in-process bus ---

    def write(self, queue_id: str, line: bytes) -> int:
        """Hand a line to the standard input of a queue's workers that are known to run. Answers how many took it.

        Never waits: a worker that does not read (64 KiB of commands) misses it, as does one that only just starts.
        """
        return sum(directory.hand(line) for directory in self._watcher.running(queue_id))

    # --- inside ---

    def _find_alive(self) -> list[WorkerKey]:
        found = []
        for path in self._workers.iterdir():
            if not WorkerDirectory.is_name(path.name):
                continue
            directory = self._directory(path.name)
            try:
                if directory.identity() is None:  # to inspect it would undo a launch that is under way
                    continue
                seen = directory.inspect()
            except Unavailable as error:  # that of one hides no other
                log.warning("nobody can tell whether a worker runs", worker=path.name, error=error.message)
                continue
            if seen.phase is Phase.RUNNING and (spec := seen.spec) is not None:
                found.append(WorkerKey(spec.queue_id, spec.job, spec.attempt, path.name))
        return found

    def _prepare(self) -> None:
        self._workers.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._topics.mkdir(mode=0o700, parents=True, exist_ok=True)
        for grave in self._workers.glob(f"{FORGOTTEN}*"):
            WorkerDirectory.bury(grave)

    async def _launch(self, spec: LaunchSpec) -> WorkerStatus | Refused:
        shims: list[int] = []
        try:
            seen = await self._in_thread(lambda: self._start(spec, shims.append))
        finally:
            for shim in shims:
                self._watcher.adopt_child(shim)
        if isinstance(seen, Refused):
            return seen
        if seen.phase is Phase.ABSENT:
            raise Unavailable(f"the supervisor of {spec.key.name} did not start it: {self._complaint(spec.key.name)}")
        if seen.exit is not None and seen.exit.errno is not None:
            return Refused(spec.key, command.cannot_run(spec.command[0], seen.exit.errno))
        await self._take_in(spec.key, seen)
        status = self._watcher.status(spec.key)
        assert status is not None
        return status

    def _prepared(self, spec: LaunchSpec) -> Mapping[str, str] | Refused:
        """The environment that it is started with, if it can be."""
        environment = command.environment(spec, topics=self._topics, secrets=self._secrets)
        if isinstance(environment, Refused):
            return environment
        return command.command(spec, environment["PATH"]) or environment

    def _start(self, spec: LaunchSpec, spawned: Callable[[int], None]) -> Seen | Refused:
        """In a thread: start the worker unless it was started before. `spawned` is told the shim's process id."""
        if not WorkerDirectory.is_name(spec.key.name):
            return command.bad_name(spec)
        directory, settings, key = self._directory(spec.key.name), self._settings, spec.key
        seen = directory.inspect()
        if seen.phase is not Phase.ABSENT:
            return seen
        environment = self._prepared(spec)
        if isinstance(environment, Refused):
            return environment
        ticket = directory.grant(
            Spec(
                queue_id=key.queue_id,
                job=key.job,
                attempt=key.attempt,
                name=key.name,
                target=spec.target,
                command=tuple(spec.command),
                spec_hash=spec.spec_hash,
                grace=settings.grace,
            )
        )
        if ticket is None:
            return directory.inspect()
        order = Order(
            ticket=ticket,
            grace=settings.grace,
            timeout=spec.timeout,
            stdout_limit=settings.stdout_limit,
            stderr_limit=settings.stderr_limit,
            command=spec.command,
            environment=environment,
        )
        shim, report = spawn(settings.python, directory.path, order, timeout=settings.launch_timeout)
        spawned(shim)
        if report not in {"started", "refused"}:
            log.warning(
                "a worker's supervisor gave no good report", queue_id=key.queue_id, worker=key.name, report=report
            )
        if report == "superseded":  # another server's launch, which is not to be undone before it comes to its result
            directory.wait_until_decided(LOCK_WAIT)
        return directory.inspect()

    def _launched(self, spec: LaunchSpec, task: asyncio.Task[WorkerStatus | Refused]) -> None:
        self._launches.pop(spec.key.name, None)
        if not task.cancelled() and task.exception() is None:  # an error has gone to whoever still waited for it
            self._watcher.wake(spec.key.queue_id)

    async def _take_in(self, key: WorkerKey, seen: Seen) -> None:
        if seen.phase is not Phase.ABSENT:
            await self._watcher.follow(key, self._directory(key.name), seen)

    def _complaint(self, name: str) -> str:
        try:
            lines = (self._workers / name / "shim.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else "it said nothing"

    def _directory(self, name: str) -> WorkerDirectory:
        if not WorkerDirectory.is_name(name):
            raise ValueError(f"{name!r} cannot be the name of a local worker")
        return WorkerDirectory(self._workers / name)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call)
        except OSError as e:
            raise Unavailable(f"local workers: {e}") from e
