"""Queues and payloads that several tests of queuectl show."""

from __future__ import annotations

from pathlib import Path

from queue_manager.v1.queue_pb2 import (
    EventType,
    Job,
    JobState,
    Queue,
    QueueState,
    Reason,
)

from .fake_server import Journal, scripted_journal

EXAMPLE = str(Path(__file__).parents[3] / "examples" / "historical-pipeline.json")
EXAMPLE_TEXT = Path(EXAMPLE).read_text()
QUEUE_ID = scripted_journal().queue.queue_id
NOBODY = "127.0.0.1:1"


def failed_journal() -> Journal:
    """A queue whose second job has failed, with a message that tries to drive the terminal."""
    queue = Queue(queue_id=QUEUE_ID, symbol="BTCUSDT", state=QueueState.QUEUE_STATE_RUNNING)
    queue.jobs.append(Job(name="loader-producer", target="loader-producer", type="api_trades"))
    queue.jobs.append(Job(name="graph-builder", target="graph-builder", type="gnn_graph"))
    for job in queue.jobs:
        job.state = JobState.JOB_STATE_RUNNING
    queue.jobs[0].message = "[bold]no markup[/bold] \x1b[31m\x07of ours"
    journal = Journal(queue)
    journal.record(EventType.EVENT_TYPE_QUEUE_CREATED)
    reason = (Reason.REASON_EXIT_CODE, "exited with code 3:\nValueError: cannot read candle 17 of 8640 in 2024-06-05")
    changes = [journal.move("graph-builder", JobState.JOB_STATE_FAILED, reason)]
    journal.record(EventType.EVENT_TYPE_JOB_STATE_CHANGED, changes=changes)
    queue.state = QueueState.QUEUE_STATE_FAILED
    changes = [journal.move("loader-producer", JobState.JOB_STATE_FINISHED)]
    journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED, before=QueueState.QUEUE_STATE_RUNNING, changes=changes)
    return journal


def running_journal() -> Journal:
    """A queue that runs and does not end."""
    queue = Queue(queue_id=QUEUE_ID, state=QueueState.QUEUE_STATE_RUNNING)
    queue.jobs.append(Job(name="loader-producer", type="ws_trades", state=JobState.JOB_STATE_RUNNING, progress=0.42))
    journal = Journal(queue)
    journal.record(EventType.EVENT_TYPE_QUEUE_CREATED)
    return journal
