"""A queue as those see it who watch it: what each of its jobs was said to be, why, and when that came.

What a watcher was told must also stand in the queue's history, and be what `GetQueue` answers in the end: leaving a
`followed` checks both, so that a test which waits for a reason has it in all three places.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from queue_manager.server.application.core import Core
from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.server.domain.model import Job, JobState, Queue, Reason
from queue_manager.v1 import queue_pb2

Said = tuple[JobState, Reason | None, str]
"""A job's state, and why."""


def said(job: Job) -> Said:
    """What the record says of a job."""
    reason = job.status.reason
    return job.status.state, reason.code if reason else None, reason.message if reason else ""


@dataclass(frozen=True)
class Word:
    """What watchers were told of a job."""

    state: JobState
    code: Reason | None
    message: str
    after: float
    """Seconds since the queue was followed."""

    @property
    def said(self) -> Said:
        """As `said` has it."""
        return self.state, self.code, self.message


class Followed:
    """What one who watches a queue has been told."""

    def __init__(self, core: Core, queue_id: str) -> None:
        """Made by `followed`."""
        self.queue_id = queue_id
        self.words: defaultdict[str, list[Word]] = defaultdict(list)
        """By job: each change of its state or of its reason, also of the reason's text."""
        self.over = False
        self._core = core
        self._began = monotonic()
        self._news = asyncio.Event()

    async def read(self) -> None:
        """Take in frames until the queue has ended."""
        watch = self._core.service.watch(self.queue_id, after_revision=0)
        try:
            async for frame in watch:
                self._take_in(frame)
        finally:
            await watch.aclose()

    async def until(self, condition: Callable[[], bool], *, within: float = 60.0) -> None:
        """Wait until what was told fulfils this."""
        async with asyncio.timeout(within):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def word(self, job: str, state: JobState, code: Reason | None, *, within: float = 60.0) -> Word:
        """The first one of this kind, as soon as it has come."""
        await self.until(lambda: self.has(job, state, code), within=within)
        return next(word for word in self.words[job] if (word.state, word.code) == (state, code))

    def has(self, job: str, state: JobState, code: Reason | None) -> bool:
        """Whether watchers have been told that."""
        return any((word.state, word.code) == (state, code) for word in self.words[job])

    async def ended(self, *, within: float = 90.0) -> Queue:
        """The record, once watchers have been told that the queue has ended."""
        await self.until(lambda: self.over, within=within)
        return await self._core.service.get(self.queue_id)

    async def check(self) -> None:
        """Fail where the history or the record says something else than the watchers were told."""
        told = {(job, word.state, word.code) for job, words in self.words.items() for word in words}
        kept = await self._history()
        assert told <= kept, f"told to watchers, and not in the history: {told - kept}"
        if self.over:
            queue = await self._core.service.get(self.queue_id)
            assert {job.name: said(job) for job in queue.jobs} == {job: w[-1].said for job, w in self.words.items()}

    async def _history(self) -> set[tuple[str, JobState, Reason | None]]:
        """What the kept events say: nobody else watches, so those who begin before them are given the stored ones."""
        kept: set[tuple[str, JobState, Reason | None]] = set()
        newest = (await self._core.service.get(self.queue_id)).history_revision
        watch = self._core.service.watch(self.queue_id, after_revision=0)
        try:
            async for frame in watch:
                event = queue_pb2.QueueEvent.FromString(frame.event)
                kept |= {(change.job, _state(change.after), _code(change.reason)) for change in event.job_changes}
                if frame.revision >= newest:
                    return kept
        finally:
            await watch.aclose()
        return kept

    def _take_in(self, frame: Frame) -> None:
        after = monotonic() - self._began
        for job in queue_pb2.Queue.FromString(frame.queue).jobs if frame.queue else ():
            word = Word(_state(job.state), _code(job.state_reason), job.state_reason.message, after)
            words = self.words[job.name]
            if not words or words[-1].said != word.said:
                words.append(word)
        self.over = frame.kind is FrameKind.END
        self._news.set()


@asynccontextmanager
async def followed(core: Core, queue_id: str) -> AsyncIterator[Followed]:
    """Watch a queue from its beginning; in the end its history must have all that watchers were told."""
    following = Followed(core, queue_id)
    reading = asyncio.create_task(following.read(), name="follow")
    try:
        yield following
    finally:
        reading.cancel()
        await asyncio.wait([reading])
    if not reading.cancelled():
        reading.result()
    await following.check()


def _state(state: queue_pb2.JobState.ValueType) -> JobState:
    return JobState(queue_pb2.JobState.Name(state).removeprefix("JOB_STATE_"))


def _code(reason: queue_pb2.StateReason) -> Reason | None:
    return Reason(queue_pb2.Reason.Name(reason.code).removeprefix("REASON_")) if reason.code else None
