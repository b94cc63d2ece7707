"""One line of plain text for each frame of a watch: what a pipe gets.

    2026-11-24T07:00:01Z rev 5 queue RUNNING; loader-producer STARTING→RUNNING

Time, revision, then what changed, with semicolons between. A frame that stands for several revisions says how many, and
what changed is told by comparing it with the frame before: its event is only the newest of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from queue_manager.client.cli import formats
from queue_manager.v1.queue_pb2 import EventType, JobChange, JobState, Queue, QueueEvent
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse


class EventLines:
    """The lines of one watch; it remembers the states of the frame before."""

    def __init__(self) -> None:
        """Nothing has been seen."""
        self._queue: Queue | None = None

    def line(self, frame: WatchQueueResponse) -> str:
        """The frame as a line, without its end."""
        queue, before = frame.queue, self._queue
        self._queue = queue
        match frame.kind:
            case FrameKind.FRAME_KIND_UPDATE:
                time = formats.utc(frame.event.time) or formats.utc(queue.update_time)
                if before is not None and frame.revisions_merged > 1:
                    parts = list(_differences(before, queue))
                else:
                    parts = list(_changes(frame.event, queue))
                parts = parts or [_counts(queue)]
            case FrameKind.FRAME_KIND_END:
                time = formats.utc(queue.end_time) or formats.utc(queue.update_time)
                took = formats.clock(formats.elapsed_seconds(queue, 0.0))
                parts = [f"queue ended {formats.queue_state(queue.state)} after {took}", _counts(queue)]
            case _:
                time = formats.utc(queue.update_time)
                parts = [f"queue {formats.queue_state(queue.state)}"]
                parts += [f"{job.name} {formats.job_state(job.state)}" for job in queue.jobs]
        merged = f" [{frame.revisions_merged} revisions]" if _says_merged(frame) else ""
        return f"{time} rev {frame.revision} {'; '.join(parts)}{merged}"


def _says_merged(frame: WatchQueueResponse) -> bool:
    """A snapshot stands for all revisions by its nature; an update that does is worth a word."""
    return frame.kind != FrameKind.FRAME_KIND_SNAPSHOT and frame.revisions_merged > 1


def _changes(event: QueueEvent, queue: Queue) -> Iterator[str]:
    if event.before != event.after:
        yield f"queue {formats.queue_state(event.after)}"
    if event.type == EventType.EVENT_TYPE_STOP_REQUESTED:
        because = f": {formats.one_line(queue.stop_reason)}" if queue.stop_reason else ""
        yield f"stop requested by {formats.one_line(event.actor) or 'somebody'}{because}"
    for change in event.job_changes:
        yield _job_change(change)
    if event.type == EventType.EVENT_TYPE_PROGRESS:
        yield _counts(queue)


def _differences(before: Queue, after: Queue) -> Iterator[str]:
    if before.state != after.state:
        yield f"queue {formats.queue_state(after.state)}"
    states = {job.name: job.state for job in before.jobs}
    for job in after.jobs:
        was = states.get(job.name, JobState.JOB_STATE_UNSPECIFIED)
        if was != job.state:
            yield _job_change(JobChange(job=job.name, before=was, after=job.state, reason=job.state_reason))


def _job_change(change: JobChange) -> str:
    after = formats.job_state(change.after)
    new = change.before in {JobState.JOB_STATE_UNSPECIFIED, change.after}
    text = f"{change.job} {after}" if new else f"{change.job} {formats.job_state(change.before)}→{after}"
    code = formats.reason_code(change.reason.code)
    message = formats.one_line(change.reason.message)
    why = ": ".join(part for part in (code, message) if part)
    return f"{text} ({why})" if why else text


def _counts(queue: Queue) -> str:
    progress = f", {formats.percent(queue.progress)}" if queue.HasField("progress") else ""
    return f"{formats.records(queue.records_written)}{progress}"
