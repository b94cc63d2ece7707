"""The one thread that writes: it takes all writes that wait and commits them together, for the price of one fsync.

A commit costs about as much with one write in it as with hundreds, nearly all of it waiting for the disk. While one
batch is being committed the next gathers, so throughput grows with the load and latency stays at one or two commits. Where
many write, a batch is given a moment to become about as large as the last one: a quick disk would have it cut into many,
and each commit takes the event loop's time, too.
Each write has its own outcome: one that has lost its compare-and-set does not concern the others, and one that nothing
can be done with is found by trying the writes of its batch one by one.

Everything but `_work` and what it calls belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import Final, TypeVar

import structlog

from queue_manager.server.adapters.sqlite.faults import RETRY_AFTER, concerns_all, translate
from queue_manager.server.adapters.sqlite.writes import Probe, Write, commit
from queue_manager.server.domain.errors import Unavailable

T = TypeVar("T")
Observe = Callable[[str, float, bool], None]
"""Told of an operation, how long it took in seconds, and whether it was answered (a `Conflict` is an answer)."""

BATCH_LIMIT: Final = 512
"""Writes in a transaction at most, so that one transaction takes tens of milliseconds at most."""

MANY: Final = 5
"""Writes in a batch that show that many write."""
GATHERING: Final = 0.012
"""Seconds after such a batch in which the next one may become about as large."""

log = structlog.get_logger(__name__)


def ignore(_operation: str, _seconds: float, _ok: bool) -> None:
    """Observes nothing."""


@dataclass(slots=True, eq=False)
class _Job:
    write: Write[object]
    future: asyncio.Future[object]
    deadline: float
    """By the loop's clock."""
    decided: bool = False
    abandoned: bool = False


class Writer:
    """Commits writes in groups, in the order in which they were submitted."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        *,
        timeout: float,
        max_pending: int,
        max_bytes: int,
        observe: Observe,
    ) -> None:
        """Takes over the connection. `max_pending`, `max_bytes`: how many writes may wait, and how much they hold.

        `timeout`: seconds after which a write is given up with `TimeoutError`.
        """
        self._connection = connection
        self._path = path
        self._identity = _identity(path)
        self._timeout = timeout
        self._max_pending = max_pending
        self._max_bytes = max_bytes
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._staged: list[_Job] = []
        self._busy = False
        """The thread has a batch to commit."""
        self._last = 0
        """How many writes that had."""
        self._rested_at = 0.0
        self._gathering: asyncio.Handle | None = None
        """Until then what is staged may grow."""
        self._inbox: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._pending = 0
        self._pending_bytes = 0
        self._abandoned = 0
        self._undecided: deque[_Job] = deque()
        """In the order of their deadlines; decided ones are taken out when they come to the front."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] | None = None
        self.failing = False
        """The last commit failed. Written by the thread, read by anybody."""
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(self, write: Write[T]) -> T:
        """Make the change, durably, before returning. Raises what `apply` does, `Unavailable`, `TimeoutError`.

        A caller that is cancelled, or whose time is over, gives up the write if its transaction has not begun, else it
        may take effect.
        """
        if self._closed is not None:
            raise Unavailable("the store is closed")
        if self._pending >= self._max_pending or (self._pending and self._pending_bytes + write.size > self._max_bytes):
            raise Unavailable(
                f"the store has {self._pending} writes waiting ({self._pending_bytes} bytes), which is its limit; "
                "the disk is too slow for the load, try again",
                retry_after=RETRY_AFTER,
            )
        job = _Job(write, self._loop.create_future(), self._loop.time() + self._timeout)
        self._pending += 1
        self._pending_bytes += write.size
        self._staged.append(job)
        self._schedule()
        self._undecided.append(job)
        if self._timer is None:  # one for all: a timer for each costs more than all else that is done here
            self._timer = self._loop.call_at(job.deadline, self._expire)
        try:
            return await job.future  # type: ignore[return-value]  # the future's type is that of its write
        except asyncio.CancelledError:
            self._abandon(job)
            raise

    async def barrier(self) -> None:
        """Return when every write that somebody has given up on is decided: made, or never to be made.

        So what is read afterwards is not overtaken by a write that began before.
        """
        if self._abandoned:
            await self.submit(Probe(really=False))

    async def close(self) -> None:
        """Commit what waits, bring the log into the file, close the connection. Submits nothing any more."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._flush()
            self._inbox.put(None)
        await asyncio.shield(self._closed)
        self._thread.join()

    def _expire(self) -> None:
        """Give up what has waited too long."""
        while self._undecided and (self._undecided[0].decided or self._undecided[0].deadline <= self._loop.time()):
            job = self._undecided.popleft()
            if not job.future.done():
                self._abandon(job)
                job.future.set_exception(TimeoutError())
        more = bool(self._undecided)
        self._timer = self._loop.call_at(self._undecided[0].deadline, self._expire) if more else None

    def _abandon(self, job: _Job) -> None:
        if not (job.decided or job.abandoned):
            job.abandoned = True
            self._abandoned += 1

    def _schedule(self) -> None:
        """See to it that what is staged goes to the thread, once that has nothing else to do."""
        if self._busy or not self._staged:
            return
        time = self._rested_at + GATHERING
        # Of those that wrote last time most are back: one who came by would else be waited for.
        enough = self._last < MANY or 4 * len(self._staged) >= 3 * self._last
        if enough or self._loop.time() >= time:
            self._busy = True
            self._loop.call_soon(self._flush)  # what other tasks submit in this turn of the loop comes along
        elif self._gathering is None:
            self._gathering = self._loop.call_at(time, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        if not self._busy:
            self._flush()

    def _flush(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        if self._staged:
            self._busy, self._last = True, len(self._staged)
            self._inbox.put(self._staged)
            self._staged = []

    def _rest(self) -> None:
        """The thread has nothing more to do."""
        self._busy, self._rested_at = False, self._loop.time()
        self._schedule()

    def _resolve(self, jobs: Sequence[_Job], outcomes: Sequence[object], seconds: float | None, ok: bool) -> None:
        if seconds is not None:
            self._observe("commit", seconds, ok)
        for job, outcome in zip(jobs, outcomes, strict=True):
            self._pending -= 1
            self._pending_bytes -= job.write.size
            self._abandoned -= job.abandoned
            job.decided = True
            if job.future.done():
                continue
            if isinstance(outcome, BaseException):
                job.future.set_exception(outcome)
            else:
                job.future.set_result(outcome)

        while self._undecided and self._undecided[0].decided:
            self._undecided.popleft()

    def _shut(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (jobs := self._inbox.get()) is not None:
            for start in range(0, len(jobs), BATCH_LIMIT):
                self._process(jobs[start : start + BATCH_LIMIT])
            self._tell(self._rest)
        try:
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:  # nothing is lost: the log stays and is read at the next start
            log.warning(
                "the log could not be brought into the state file; the next start does it",
                path=str(self._path),
                error=str(error),
            )
        self._connection.close()
        self._tell(self._shut)

    def _process(self, jobs: Sequence[_Job]) -> None:
        live: list[_Job] = []
        given_up: list[_Job] = []
        for job in jobs:
            (given_up if job.future.done() else live).append(job)
        if given_up:
            self._tell(self._resolve, given_up, [None] * len(given_up), None, True)
        if live:
            self._process_live(live)

    def _process_live(self, jobs: Sequence[_Job]) -> None:
        began = perf_counter()
        try:
            outcomes = self._commit(jobs)
        except Exception as error:
            self._roll_back()
            if len(jobs) > 1 and not concerns_all(error):
                for job in jobs:
                    self._process_live([job])
                return
            self._note(error if concerns_all(error) else None)
            seconds = perf_counter() - began
            self._tell(self._resolve, jobs, [_chained(error, self._path) for _ in jobs], seconds, False)
        else:
            self._note(None)
            self._tell(self._resolve, jobs, outcomes, perf_counter() - began, True)

    def _commit(self, jobs: Sequence[_Job]) -> list[object]:
        if _identity(self._path) != self._identity:
            raise Unavailable(
                f"the state file {self._path} was moved, removed or replaced while in use; restart the server"
            )
        return commit(self._connection, [job.write for job in jobs])

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):  # SQLite itself has rolled back after some errors
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def _note(self, error: Exception | None) -> None:
        if error is not None and not self.failing:
            log.error("the state file cannot be written", path=str(self._path), error=str(error))
        elif error is None and self.failing:
            log.info("the state file can be written again", path=str(self._path))
        self.failing = error is not None

    def _tell(self, callback: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback, *arguments)


def _chained(error: Exception, path: Path) -> Exception:
    """A new exception for each caller: one that several tasks raise would gather all their tracebacks."""
    translated = translate(error, path)
    if translated is error and isinstance(error, Unavailable):
        translated = Unavailable(error.message, retry_after=error.retry_after)
    if translated is not error:
        translated.__cause__ = error
    return translated


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  # this is on the way of every commit
    except OSError:
        return None
    return status.st_dev, status.st_ino
