"""A worker's directory: what stands in its files, and what follows from them about the worker.

    spec.json       labels of the launch; no environment, no secret
    lock            held exclusively by the shim while it lives
    ticket          the newest launch call's; a shim that brings another one starts nothing
    identity.json   the worker may run or have run: it is never started again
    exit.json       it has ended
    tombstone.json  it was deleted before it started
    stop            `<grace> <UTC time at which it is over>`: how it is to be ended
    stdin           FIFO for commands
    stdout.*        its output, see `output`; stderr.* likewise
    shim.log        what the shim itself complained of

Functions here block and run in threads. Processes are started in `spawn`.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, TypeVar

import msgspec
import structlog

from queue_manager.server.adapters.local.identity import Exit, Identity, Tombstone
from queue_manager.server.adapters.local.shim import process
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.observation import Phase

log = structlog.get_logger(__name__)

LOCK_WAIT: Final = 2.0
"""How long a shim that holds the lock is given to record the worker's identity, in seconds. It takes milliseconds."""

FORGOTTEN: Final = ".forgotten-"
"""Prefix of a directory that is being removed."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

S = TypeVar("S", bound=msgspec.Struct)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """`spec.json`."""

    queue_id: str
    job: str
    attempt: int
    name: str
    target: str
    command: tuple[str, ...]
    spec_hash: str
    grace: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a directory says of its worker."""

    phase: Phase
    spec: Spec | None = None
    identity: Identity | None = None
    exit: Exit | None = None
    tombstone: Tombstone | None = None
    orphaned: bool = False
    """It runs, but its shim is gone: nobody keeps its output or will record its end."""


class WorkerDirectory:
    """The directory of one worker. It holds no state of its own, so there may be any number for the same path."""

    _wishes: ClassVar = threading.Lock()
    """Two threads that end a worker with different graces must not overwrite the shorter one."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self.path = path

    @staticmethod
    def is_name(name: str) -> bool:
        """Whether a directory can be called so."""
        return _NAME.fullmatch(name) is not None

    # --- what it says ---

    def inspect(self) -> Seen:
        """What is true of the worker now.

        Where that is ABSENT, no launch call made before can start the worker any more: its ticket is taken away.
        Raises `Unavailable` where a launch is under way and does not come to a result, and where nobody can tell whether
        the worker runs, because its identity is damaged and its end not on record.
        """
        try:
            identity = self.identity()
        except Unavailable:
            if (ended := self._end_on_record()) is None:
                raise
            return Seen(phase=Phase.ENDED, spec=self.spec(), exit=ended)
        if identity is None:
            if not self.path.is_dir():
                return Seen(phase=Phase.ABSENT)
            with self.locked() as locked:
                identity = self.identity()
                if identity is None:
                    if not locked:
                        raise Unavailable(f"the launch of {self.path.name} has not come to a result")
                    return self._never_started()
        return self._started(identity)

    def _never_started(self) -> Seen:
        ended, tombstone = self.exit(), self._readable(process.TOMBSTONE, Tombstone)
        over = any((self.path / name).exists() for name in (process.EXIT, process.TOMBSTONE))
        if over and ended is None and tombstone is None:
            ended = self._unknown_exit()
        if over:
            return Seen(phase=Phase.ENDED, spec=self.spec(), exit=ended, tombstone=tombstone)
        process.remove(self._file(process.TICKET))
        return Seen(phase=Phase.ABSENT, spec=self.spec())

    def _started(self, identity: Identity) -> Seen:
        spec = self.spec()
        if (ended := self.exit()) is not None:
            return Seen(phase=Phase.ENDED, spec=spec, identity=identity, exit=ended)
        lock = process.take_lock(str(self.path), exclusive=False)
        if lock is None:
            return Seen(phase=Phase.RUNNING, spec=spec, identity=identity)
        os.close(lock)
        # The shim is gone, perhaps only just: whatever it has recorded stands now.
        if (ended := self.exit()) is None:
            if identity.worker.alive():
                return Seen(phase=Phase.RUNNING, spec=spec, identity=identity, orphaned=True)
            ended = self._unknown_exit()
        return Seen(phase=Phase.ENDED, spec=spec, identity=identity, exit=ended)

    def _end_on_record(self) -> Exit | None:
        """How a worker ended of which no more is known than that. Its shim records it when nothing of it runs any more."""
        if (ended := self.exit()) is None and self.has_exit():
            with self.locked() as locked:
                if locked:
                    ended = self.exit() or self._unknown_exit()
        return ended

    def _unknown_exit(self) -> Exit:
        """Record that it has ended and that nobody knows how. Its shim is gone, and has left no record that can be read."""
        log.warning("nobody knows how a worker ended", worker=self.path.name, damaged=self.has_exit())
        ended = Exit(time=time.time())
        self._write(process.EXIT, ended)
        return ended

    def identity(self) -> Identity | None:
        """Who the worker is, once its shim has recorded it."""
        return self._read(process.IDENTITY, Identity)

    def exit(self) -> Exit | None:
        """How the worker ended, if that is recorded and can be read."""
        return self._readable(process.EXIT, Exit)

    def has_exit(self) -> bool:
        """Whether its end is recorded: the cheapest of questions."""
        return (self.path / process.EXIT).exists()

    def spec(self) -> Spec | None:
        """What it was launched with."""
        return self._read(process.SPEC, Spec)

    # --- what is done to it ---

    @contextmanager
    def locked(self, wait: float = LOCK_WAIT) -> Iterator[bool]:
        """Hold the lock, if it can be had in time: it cannot while a shim lives. Gives up once there is an identity."""
        until = time.monotonic() + wait
        while (lock := process.take_lock(str(self.path), exclusive=True)) is None:
            if self.identity() is not None or time.monotonic() >= until:
                yield False
                return
            time.sleep(0.005)
        try:
            yield True
        finally:
            os.close(lock)

    def grant(self, spec: Spec) -> str | None:
        """Make ready a worker that never started: answers the ticket for its shim. None: `inspect` says why not."""
        if not self.path.is_dir():
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            process.sync_directory(str(self.path.parent))
        with self.locked() as locked:
            if not locked or self.identity() is not None or self._never_started().phase is not Phase.ABSENT:
                return None
            self._write(process.SPEC, spec)
            ticket = os.urandom(16).hex()
            (self.path / process.TICKET).write_text(ticket)  # of no use after a crash of the machine, so not durable
            return ticket

    def wait_until_decided(self, timeout: float) -> None:
        """Wait until it is on record that the worker has started, or that it never will."""
        until = time.monotonic() + timeout
        once = [self.path / name for name in (process.IDENTITY, process.EXIT, process.TOMBSTONE)]
        while not any(path.exists() for path in once) and time.monotonic() < until:
            time.sleep(0.005)

    def end(self, grace: float, *, launching: bool) -> None:
        """Begin to end the worker, or see that it never starts. `launching`: its directory may not be made yet."""
        if not self.path.is_dir():
            if not launching:
                return
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            identity = self.identity()
        except Unavailable:
            if self._end_on_record() is None:
                raise
            return
        if identity is None:
            with self.locked() as locked:
                identity = self.identity()
                if identity is None:
                    if not locked:
                        raise Unavailable(f"{self.path.name} is being launched and cannot be ended yet")
                    if self._never_started().phase is Phase.ABSENT:
                        self._write(process.TOMBSTONE, Tombstone(uid=os.urandom(16).hex(), time=time.time()))
                    return
        seen = self._started(identity)
        if seen.phase is not Phase.RUNNING:
            return
        self._wish(grace)
        if not identity.shim.signal(signal.SIGTERM):
            identity.worker.signal_group(signal.SIGTERM if grace > 0 else signal.SIGKILL)

    def _wish(self, grace: float) -> None:
        """Record the grace, if it is shorter than what is recorded."""
        with self._wishes:
            before = process.read(self._file(process.STOP))
            if before is None or grace < float(before.split()[0]):
                process.write_durably(self._file(process.STOP), f"{grace:.3f} {time.time() + grace:.3f}\n")

    def end_orphan_if_due(self, identity: Identity) -> None:
        """What the shim would do about a worker that is being ended and whose grace is over."""
        wish = process.read(self._file(process.STOP))
        if wish is not None and time.time() >= float(wish.split()[1]):
            identity.worker.signal_group(signal.SIGKILL)

    def hand(self, line: bytes) -> bool:
        """Put a line on the worker's standard input, whole or not at all, without waiting.

        It is not taken where the FIFO is full (the worker does not read) or nobody has it open.
        """
        if len(line) > select.PIPE_BUF:  # could be cut off in the middle
            return False
        try:
            fd = os.open(self._file(process.STDIN), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: no reader; ENOENT: not started
            return False
        try:
            return os.write(fd, line) == len(line)
        except OSError:  # EAGAIN: full, the worker does not read
            return False
        finally:
            os.close(fd)

    def remove(self) -> bool:
        """Remove the directory of a worker that does not run. In one step, so that a crash leaves no half of it.

        Its job is over. So where a file is damaged and nobody can tell, it is enough that its shim is gone.
        """
        if not self.path.is_dir():
            return True
        try:
            if self.inspect().phase is Phase.RUNNING:
                return False
        except Unavailable:
            with self.locked() as locked:
                if not locked:
                    raise
        grave = self.path.with_name(f"{FORGOTTEN}{self.path.name}-{os.urandom(4).hex()}")
        self.path.rename(grave)
        self.bury(grave)
        return True

    @staticmethod
    def bury(grave: Path) -> None:
        """Remove what `remove` has put aside; what cannot be removed now is tried again at the next start."""
        shutil.rmtree(grave, ignore_errors=True)

    # --- files ---

    def _file(self, name: str) -> str:
        return str(self.path / name)

    def _read(self, name: str, type: type[S]) -> S | None:  # noqa: A002 - as msgspec calls it
        try:
            text = process.read(self._file(name))
            return None if text is None else msgspec.json.decode(text, type=type)
        except (UnicodeDecodeError, msgspec.MsgspecError) as e:
            raise Unavailable(f"{self._file(name)} is damaged: {e}") from e

    def _readable(self, name: str, type: type[S]) -> S | None:  # noqa: A002 - as msgspec calls it
        try:
            return self._read(name, type)
        except Unavailable:
            return None

    def _write(self, name: str, value: msgspec.Struct) -> None:
        process.write_durably(self._file(name), msgspec.json.encode(value).decode() + "\n")
