"""One line of plain text for each frame of a watch: what a pipe gets.

    2026-11-24T07:00:01Z rev 5 queue RUNNING; loader-producer STARTING→RUNNING

Time, revision, then what changed, with semicolons between. A frame that stands for several revisions says how many.
"""

from __future__ import annotations

from collections.abc import Iterator

from queue_manager.client.cli import formats
from queue_manager.v1.queue_pb2 import EventType, JobChange, JobState, Queue, QueueEvent
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse


def frame_line(frame: WatchQueueResponse) -> str:
    """The frame as a line, without its end."""
    queue = frame.queue
    match frame.kind:
        case FrameKind.FRAME_KIND_UPDATE:
            time = formats.utc(frame.event.time) or formats.utc(queue.update_time)
            parts = list(_changes(frame.event, queue)) or [_counts(queue)]
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
