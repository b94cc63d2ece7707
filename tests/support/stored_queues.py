"""Queues as stores get them, small and of any shape, with the history entries that belong to their changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from queue_manager.server.application.ports import Record, StateStore
from queue_manager.server.domain.history import Entry, record
from queue_manager.server.domain.model import (
    Job,
    JobName,
    JobSpec,
    JobState,
    JobStatus,
    Lifetime,
    Queue,
    QueueId,
    QueueSpec,
    QueueState,
    QueueStatus,
)


def new_queue(
    queue_id: str,
    *,
    create_time: float = 1_700_000_000.0,
    symbol: str = "BTCUSDT",
    labels: Mapping[str, str] | None = None,
    targets: Sequence[str] = ("loader-producer",),
    request_id: str = "",
    state: QueueState = QueueState.PENDING,
    end_time: float | None = None,
    settled: bool = False,
) -> tuple[Queue, Entry]:
    """A queue at revision 1 and its first entry."""
    jobs = tuple(
        Job(
            spec=JobSpec(
                name=JobName(f"{target}-{number}"),
                target=target,
                type="api_candles_5m",
                telemetry_id=f"{target}-{number}__a1b2c3",
                kafka_topic=f"{queue_id}-api-candles-5m",
                image="registry.example.com/streamforge/worker:1.2.3",
                lifetime=Lifetime.FINITE,
            ),
            status=JobStatus(create_time=create_time),
        )
        for number, target in enumerate(targets, 1)
    )
    queue = Queue(
        spec=QueueSpec(
            queue_id=QueueId(queue_id),
            symbol=symbol,
            create_time=create_time,
            start_timeout=600.0,
            labels=dict(labels or {}),
            request_id=request_id,
        ),
        status=QueueStatus(state=state, update_time=create_time, end_time=end_time),
        jobs=jobs,
        settled=settled,
    )
    queue, _, entry = record(None, queue, now=create_time)
    assert entry is not None
    return queue, entry


def changed(
    queue: Queue,
    *,
    state: QueueState | None = None,
    job: int | None = None,
    job_state: JobState = JobState.RUNNING,
    records_written: int | None = None,
    end_time: float | None = None,
    settled: bool | None = None,
    published: bool = True,
) -> tuple[Queue, Entry | None]:
    """The queue's next revision with these changes, and its entry unless only progress was made.

    `published`: the events so far have gone out.
    """
    status = queue.status
    if state is not None:
        status = replace(status, state=state)
    if end_time is not None:
        status = replace(status, end_time=end_time)
    jobs = list(queue.jobs)
    if job is not None:
        jobs[job] = replace(jobs[job], status=replace(jobs[job].status, state=job_state))
    if records_written is not None:
        jobs[0] = replace(jobs[0], status=replace(jobs[0].status, records_written=records_written))
    after = replace(
        queue,
        status=status,
        jobs=tuple(jobs),
        settled=queue.settled if settled is None else settled,
        published_revision=queue.revision if published else queue.published_revision,
    )
    next_queue, _, entry = record(queue, after, now=queue.status.update_time + 1.0)
    return next_queue, entry


async def create(store: StateStore, queue_id: str, **fields: object) -> Record:
    """Store a new queue."""
    return await store.create(*new_queue(queue_id, **fields))  # type: ignore[arg-type]  # the caller's fields are new_queue's


async def change(store: StateStore, before: Record, **fields: object) -> Record:
    """Store a queue's next revision."""
    queue, entry = changed(before.queue, **fields)  # type: ignore[arg-type]  # the caller's fields are changed's
    return await store.replace(queue, version=before.version, entry=entry)
