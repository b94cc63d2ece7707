"""What tests of local workers share: launch specifications of shell scripts, waiting with a deadline, and tidying up.

Whatever a test starts lives in processes of its own, which outlive the runner on purpose; `end_all` ends them by the ids
that stand in their directories.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

from queue_manager.server.adapters.local import LocalRunner, LocalSettings
from queue_manager.server.adapters.local.directory import WorkerDirectory
from queue_manager.server.adapters.local.identity import Process
from queue_manager.server.adapters.local.shim import process
from queue_manager.server.application.ports import Message, Runner
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from queue_manager.server.domain.observation import Phase, Refused, WorkerStatus

QUEUE = "wf-btcusdt-api-trades-20240601-a1b2c3"
PATIENCE = 20.0
"""Seconds until a test gives up waiting; a green run never waits so long."""

FAST = LocalSettings(poll_interval=0.01, grace=5.0)


class WallClock:
    """The real one."""

    def now(self) -> float:
        """UTC seconds."""
        return time.time()


class Heard:
    """A sink that remembers, and can be waited for."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._changed = asyncio.Event()

    def __call__(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self._changed.set()

    @property
    def values(self) -> list[bytes]:
        """What was said, in order."""
        return [message.value for message in self.messages]

    async def until(self, enough: Callable[[list[bytes]], bool]) -> None:
        """Wait until what was said is enough."""
        async with asyncio.timeout(PATIENCE):
            while not enough(self.values):
                self._changed.clear()
                await self._changed.wait()


def key(name: str = "w", *, queue_id: str = QUEUE, attempt: int = 1) -> WorkerKey:
    """A worker's name and whose it is."""
    return WorkerKey(queue_id, "loader-producer", attempt, name)


def spec(
    name: str = "w",
    script: str = "exec sleep 300",
    *,
    queue_id: str = QUEUE,
    command: Sequence[str] | None = None,
    environment: Mapping[str, str] | None = None,
    secrets: Mapping[str, str] | None = None,
    spec_hash: str = "hash-1",
    timeout: float | None = None,
) -> LaunchSpec:
    """A worker that is a shell script."""
    return LaunchSpec(
        key=key(name, queue_id=queue_id),
        target="loader-producer",
        image="localhost/busybox:1",
        command=("/bin/sh", "-c", script) if command is None else command,
        environment=environment or {},
        secret_environment=secrets or {},
        spec_hash=spec_hash,
        timeout=timeout,
    )


async def until(condition: Callable[[], Awaitable[bool]] | Callable[[], bool], *, within: float = PATIENCE) -> None:
    """Wait until something is so that nobody tells of."""
    async with asyncio.timeout(within):
        while True:
            answer = condition()
            if await answer if isinstance(answer, Awaitable) else answer:
                return
            await asyncio.sleep(0.005)


async def launched(runner: Runner, launch: LaunchSpec) -> WorkerStatus:
    """Launch a worker that must start, and wait until it has."""
    answer = await runner.launch(launch)
    assert not isinstance(answer, Refused), answer
    if answer.phase is Phase.WAITING:
        return await until_phase(runner, launch.key, Phase.RUNNING, Phase.ENDED)
    assert answer.phase in (Phase.RUNNING, Phase.ENDED)
    return answer


async def until_phase(runner: Runner, worker: WorkerKey, *phases: Phase, within: float = PATIENCE) -> WorkerStatus:
    """Wait until a worker stands so."""

    async def there() -> bool:
        (seen,) = await runner.observe([worker])
        return seen.phase in phases

    await until(there, within=within)
    (seen,) = await runner.observe([worker])
    return seen


async def status(runner: Runner, name: str = "w") -> WorkerStatus:
    """How a worker stands."""
    (seen,) = await runner.observe([key(name)])
    return seen


async def ended(runner: Runner, name: str = "w") -> WorkerStatus:
    """Wait for a worker's end."""
    return await until_phase(runner, key(name), Phase.ENDED)


def directory(data_dir: Path, name: str = "w") -> WorkerDirectory:
    """A local worker's directory."""
    return WorkerDirectory(data_dir / "workers" / name)


def worker_process(data_dir: Path, name: str = "w") -> Process:
    """The process of a local worker that was started."""
    identity = directory(data_dir, name).identity()
    assert identity is not None
    return identity.worker


def shim_process(data_dir: Path, name: str = "w") -> Process:
    """Its supervisor's."""
    identity = directory(data_dir, name).identity()
    assert identity is not None
    return identity.shim


@contextlib.asynccontextmanager
async def local_runner(
    data_dir: Path,
    *,
    heard: Callable[[Sequence[Message]], None] | None = None,
    secrets: Mapping[str, str] | None = None,
    settings: LocalSettings = FAST,
) -> AsyncIterator[LocalRunner]:
    """A server's runner; leaving it is what a server's end is to its workers."""
    sink = heard if heard is not None else Heard()
    runner = LocalRunner(data_dir, sink=sink, clock=WallClock(), secrets=secrets or {}, settings=settings)
    async with runner:
        yield runner


def end_all(data_dir: Path) -> None:
    """End every local worker and shim of a data directory, and wait until they are gone."""
    for path in (data_dir / "workers").glob("[!.]*"):
        identity = WorkerDirectory(path).identity()
        if identity is None:
            continue
        identity.worker.signal_group(signal.SIGKILL)
        until_time = time.monotonic() + PATIENCE
        while identity.shim.alive() and time.monotonic() < until_time:  # it sees its worker's end, and follows
            _reap(identity.shim_pid)
            time.sleep(0.002)
        _reap(identity.shim_pid)


def shim_lives(data_dir: Path, name: str) -> bool:
    """Whether a shim holds a worker's directory."""
    path = data_dir / "workers" / name
    if not path.is_dir():
        return False
    lock = process.take_lock(str(path), exclusive=False)
    if lock is None:
        return True
    os.close(lock)
    return False


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
