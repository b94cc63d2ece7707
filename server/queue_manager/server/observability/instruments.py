"""What the core tells of its working, made into metrics."""

from __future__ import annotations

from time import perf_counter

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.domain.history import Event, EventType
from queue_manager.server.domain.model import TERMINAL_JOB_STATES, JobState, Queue, QueueState
from queue_manager.server.observability.metrics import Metrics


class MeteredInstruments(Instruments):
    """The core's instruments on Prometheus metrics."""

    def __init__(self, metrics: Metrics) -> None:
        """Where to count."""
        self._metrics = metrics
        # What was counted for each queue that is not settled. Kept here, because a record may be forgotten and loaded
        # again without that anything has changed.
        self._counted: dict[str, tuple[QueueState, list[JobState]]] = {}
        self._queues = dict.fromkeys(QueueState, 0)
        self._jobs = dict.fromkeys(JobState, 0)
        self._events = {kind: metrics.events_total.labels(kind.value) for kind in EventType}
        metrics.before_sample.append(self.flush)

    def changed(self, before: Queue | None, after: Queue, event: Event | None) -> None:  # see `_counted`
        """Count the event; move the queue and its jobs from one state to another."""
        if event is not None:
            self._events[event.type].inc()
            self._count_ends(before, after, event)
        if before is not None and not _has_reported(before) and _has_reported(after):
            self._metrics.start_latency_seconds.observe(after.status.update_time - after.spec.create_time)
        if event is not None and event.type is EventType.PROGRESS and after.queue_id in self._counted:
            return  # no state is another one
        self._uncount(after.queue_id)
        if after.settled:
            return
        state, jobs = after.status.state, [job.status.state for job in after.jobs]
        self._counted[after.queue_id] = state, jobs
        self._queues[state] += 1
        for job_state in jobs:
            self._jobs[job_state] += 1

    def removed(self, queue: Queue) -> None:
        """Count it no longer."""
        self._uncount(queue.queue_id)

    def clock(self) -> float:
        """The performance counter."""
        return perf_counter()

    def step(self, outcome: str, seconds: float) -> None:
        """Count and time it."""
        self._metrics.reconcile_steps_total.labels(outcome).inc()
        self._metrics.reconcile_duration_seconds.observe(seconds)

    def launched(self, outcome: str) -> None:
        """Count it."""
        self._metrics.worker_launches_total.labels(outcome).inc()

    def telemetry(self, outcome: str, count: int = 1) -> None:
        """Count them."""
        self._metrics.telemetry_messages_total.labels(outcome).inc(count)

    def command(self, outcome: str) -> None:
        """Count it."""
        self._metrics.commands_total.labels(outcome).inc()

    def published(self, count: int) -> None:
        """Count them."""
        self._metrics.published_events_total.inc(count)

    def orphans(self, count: int) -> None:
        """Set it."""
        self._metrics.orphaned_workers.set(count)

    def watchers(self, change: int) -> None:
        """Add the change."""
        self._metrics.watch_subscribers.inc(change)

    def frame(self, kind: str, merged: int) -> None:
        """Count it, and what was merged into it."""
        if kind == "UPDATE":
            self.updates, self.revisions = self.updates + 1, self.revisions + merged
            return
        self._metrics.watch_frames_total.labels(kind).inc()
        if kind == "RESYNC":
            self._metrics.watch_resyncs_total.inc()

    def flush(self) -> None:
        """Tell what was added up since the last time."""
        for state, queues in self._queues.items():
            self._metrics.queues.labels(state.value).set(queues)
        for job_state, jobs in self._jobs.items():
            self._metrics.jobs.labels(job_state.value).set(jobs)
        self._metrics.watch_frames_total.labels("UPDATE").inc(self.updates)
        self._metrics.watch_frames_coalesced_total.inc(self.revisions - self.updates)
        self.updates = self.revisions = 0

    def _count_ends(self, before: Queue | None, after: Queue, event: Event) -> None:
        if after.ended and not (before is not None and before.ended):
            self._metrics.queues_ended_total.labels(after.status.state.value).inc()
        for change in event.job_changes:
            if change.after in TERMINAL_JOB_STATES and change.before != change.after:
                reason = change.reason.code.value if change.reason else ""
                self._metrics.jobs_ended_total.labels(change.after.value, reason).inc()

    def _uncount(self, queue_id: str) -> None:
        if (counted := self._counted.pop(queue_id, None)) is None:
            return
        state, jobs = counted
        self._queues[state] -= 1
        for job_state in jobs:
            self._jobs[job_state] -= 1


def _has_reported(queue: Queue) -> bool:
    for job in queue.jobs:  # noqa: SIM110 - no generator, because it comes with every change
        if job.status.last_telemetry_time is not None:
            return True
    return False
