"""The judge. It looks only at the world and at what callers saw, never at the manager's insides."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.server.domain.model import Job, JobState, Lifetime, Queue, QueueState, Reason
from queue_manager.server.domain.naming import worker_name
from queue_manager.server.domain.observation import Phase
from tests.simulation.world import Worker, World

TERMINAL_JOB = {JobState.FINISHED, JobState.FAILED, JobState.STOPPED, JobState.LOST, JobState.SKIPPED}
TERMINAL_QUEUE = {QueueState.FINISHED, QueueState.FAILED, QueueState.STOPPED}
ORDER = [JobState.PENDING, JobState.LAUNCHING, JobState.STARTING, JobState.RUNNING]


class Violated(AssertionError):
    """A promise was broken."""


def require(condition: object, text: str) -> None:
    """Say which promise was broken."""
    if not condition:
        raise Violated(text)


@dataclass(slots=True)
class Ledger:
    """What one watcher saw, over all its streams."""

    queue_id: str
    seen: int | None = None
    ended: bool = False
    final: bytes = b""
    resyncs: int = 0
    frames: int = 0

    def add(self, frame: Frame) -> None:
        """Account for a frame: gapless, in order, none twice."""
        before = self.seen or 0
        where = f"{self.queue_id}: {frame.kind} {frame.revision} (+{frame.merged}) after {before}"
        require(not self.ended, f"{where}: a frame after END")
        require(before + frame.merged == frame.revision, f"{where}: revisions are missing or came twice")
        if frame.kind is FrameKind.SNAPSHOT:
            require(self.seen is None, f"{where}: a snapshot where none was asked for")
        if frame.kind in {FrameKind.UPDATE, FrameKind.RESYNC}:
            require(frame.merged >= 1, f"{where}: an update that stands for nothing")
        self.resyncs += frame.kind is FrameKind.RESYNC
        self.frames += 1
        self.seen = frame.revision
        if frame.kind is FrameKind.END:
            self.ended, self.final = True, frame.queue


@dataclass(slots=True)
class Oracle:
    """Collects what must be judged at once; `judge` does the rest when everything is over."""

    world: World | None = None
    problems: list[str] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    """request_id → queue_id, as answered."""
    stops: set[str] = field(default_factory=set)
    """Queues whose stop was asked for."""
    removed: set[str] = field(default_factory=set)
    """Workers that somebody deleted."""
    ledgers: list[Ledger] = field(default_factory=list)

    def on_write(self, before: Queue | None, after: Queue) -> None:
        """A write reaches the store: is it one that may be?"""
        try:
            self._check_write(before, after)
        except Violated as error:
            self.problems.append(str(error))

    def _check_write(self, before: Queue | None, after: Queue) -> None:
        assert self.world is not None
        queue_id = after.queue_id
        if before is not None:
            require(
                after.revision - before.revision in {0, 1}, f"{queue_id}: revision {before.revision} → {after.revision}"
            )
            if before.status.state in TERMINAL_QUEUE:
                require(after.status == before.status, f"{queue_id}: a terminal queue changed")
            for old, new in zip(before.jobs, after.jobs, strict=True):
                self._check_job(queue_id, old, new)
        if after.status.state in TERMINAL_QUEUE and (before is None or before.status.state not in TERMINAL_QUEUE):
            live = [worker.spec.key.name for worker in self.world.live_workers(queue_id)]
            require(not live, f"{queue_id}: called {after.status.state} while {live} live")

    def _check_job(self, queue_id: str, old: Job, new: Job) -> None:
        assert self.world is not None
        was, now = old.status.state, new.status.state
        where = f"{queue_id}/{new.name}: {was} → {now}"
        if was in TERMINAL_JOB:
            require(new.status == old.status, f"{where}: a terminal job changed")
        elif now in ORDER:
            require(ORDER.index(now) >= ORDER.index(was), f"{where}: backwards")
        require(new.status.records_written >= old.status.records_written, f"{where}: records_written fell")
        if (
            now is JobState.FINISHED
            and was is not now
            and new.status.reason
            and new.status.reason.code is Reason.DRAINED
        ):
            topic = new.spec.kafka_topic
            loaders = [
                w.spec.key.name
                for w in self.world.live_workers(queue_id)
                if w.spec.environment.get("KAFKA_TOPIC") == topic and w.spec.key.job.startswith("loader")
            ]
            require(self.world.lag(topic) == 0 and not loaders, f"{where}: called drained with something left to read")

    def judge(self) -> None:
        """Raise `Violated` with every broken promise."""
        world = self.world
        assert world is not None
        for check in (
            self._nothing_twice,
            self._nothing_lost,
            self._all_ended,
            self._verdicts,
            self._watchers,
            self._events,
        ):
            try:
                check(world)
            except Violated as error:
                self.problems.append(str(error))
        if self.problems:
            raise Violated("; ".join(self.problems[:10]))

    def _nothing_twice(self, world: World) -> None:
        twice = [name for name, count in world.creations.items() if count > 1]
        require(not twice, f"launched twice: {twice}")
        require(
            not world.launches_before_intent, f"launched before the intent was stored: {world.launches_before_intent}"
        )

    def _nothing_lost(self, world: World) -> None:
        for request_id, queue_id in self.acknowledged.items():
            require(queue_id in world.stored, f"{queue_id}: acknowledged but not stored")
            require(world.by_request.get(request_id) == queue_id, f"{queue_id}: its request_id names another queue")
        by_request = [stored.queue.spec.request_id for stored in world.stored.values()]
        require(len(by_request) == len(set(by_request)), "two queues of one request_id")

    def _all_ended(self, world: World) -> None:
        for queue_id, stored in world.stored.items():
            queue = stored.queue
            require(
                queue.settled and queue.status.state in TERMINAL_QUEUE, f"{queue_id}: forgotten in {queue.status.state}"
            )
            require(all(job.status.state in TERMINAL_JOB for job in queue.jobs), f"{queue_id}: a job is not over")
            live = [worker.spec.key.name for worker in world.live_workers(queue_id)]
            require(not live, f"{queue_id}: it is {queue.status.state}, but {live} live")
            if queue_id in self.stops and queue.status.stop is not None:
                require(queue.status.state is QueueState.STOPPED, f"{queue_id}: stopped, but {queue.status.state}")

    def _verdicts(self, world: World) -> None:
        for queue_id, stored in world.stored.items():
            for job in stored.queue.jobs:
                worker = world.workers.get(worker_name(queue_id, job.name, job.status.attempt))
                self._verdict(queue_id, job, worker, world)
            bad = any(j.status.state in {JobState.FAILED, JobState.LOST, JobState.SKIPPED} for j in stored.queue.jobs)
            if stored.queue.status.state is QueueState.FINISHED:
                require(not bad, f"{queue_id}: FINISHED with a job that is not")

    def _verdict(self, queue_id: str, job: Job, worker: Worker | None, world: World) -> None:
        state, reason = job.status.state, job.status.reason
        where = f"{queue_id}/{job.name}: {state} {reason.code if reason else ''}"
        if worker is None:
            never = {JobState.SKIPPED, JobState.STOPPED, JobState.FAILED}
            require(state in never, f"{where}, but it never had a worker")
            return
        require(state is not JobState.SKIPPED, f"{where}, but it had a worker")
        if worker.gone:
            require(
                state in {JobState.LOST, JobState.STOPPED, JobState.FAILED, JobState.FINISHED}, f"{where}, but gone"
            )
            return
        require(worker.phase is Phase.ENDED, f"{where}, but its worker is {worker.phase}")
        require(state is not JobState.LOST, f"{where}, but its exit code was there to be read")
        ending = job.status.ending
        if worker.terminated or (ending is not None and worker.end is not None and worker.end >= ending.time):
            return
        if worker.exit_code != 0:
            require(state is JobState.FAILED, f"{where}, but it exited with {worker.exit_code}")
        elif world.local:
            bad = (
                worker.script.outcome in {"error_final", "error_note", "interrupted"}
                or job.spec.lifetime is Lifetime.ENDLESS
            )
            expected = JobState.FAILED if bad else JobState.FINISHED
            require(state is expected, f"{where}, but its outcome was {worker.script.outcome}: {expected}")

    def _watchers(self, world: World) -> None:
        for ledger in self.ledgers:
            require(ledger.ended, f"{ledger.queue_id}: a watcher saw no END")
            queue = world.stored[ledger.queue_id].queue
            require(
                ledger.seen == queue.revision,
                f"{ledger.queue_id}: END at {ledger.seen}, the queue is at {queue.revision}",
            )

    def _events(self, world: World) -> None:
        """Each event at least once, and without the repetitions in order and without a gap."""
        first_seen: defaultdict[str, list[int]] = defaultdict(list)
        for event in world.published:
            revision = int(event.event_id.rsplit(":", 2)[1])
            seen = first_seen[event.queue_id]
            if revision not in seen:
                require(not seen or revision > seen[-1], f"{event.queue_id}: event {revision} after {seen[-1:]}")
                seen.append(revision)
        for queue_id, revisions in world.entries.items():
            missing = revisions - set(first_seen[queue_id])
            require(not missing, f"{queue_id}: events {sorted(missing)} were never published")
