"""Watch frames and answers as bytes, around a queue's and an event's, which are made once a revision; see `wire`."""

from __future__ import annotations

from typing import Final

from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.server.serialised import tag_of, varint
from queue_manager.v1 import service_pb2

KINDS: Final = {kind: service_pb2.FrameKind.Value(f"FRAME_KIND_{kind}") for kind in FrameKind}

_QUEUE_TAG: Final = tag_of(service_pb2.WatchQueueResponse, "queue")
_EVENT_TAG: Final = tag_of(service_pb2.WatchQueueResponse, "event")
_GET_QUEUE_TAG: Final = tag_of(service_pb2.GetQueueResponse, "queue")
_START_QUEUE_TAG: Final = tag_of(service_pb2.StartQueueResponse, "queue")
_CREATED: Final = service_pb2.StartQueueResponse(created=True).SerializeToString()


def frame_bytes(frame: Frame) -> bytes:
    """A frame as a serialised `WatchQueueResponse`; made once."""
    if not frame.wire:
        head = service_pb2.WatchQueueResponse(
            kind=KINDS[frame.kind], revision=frame.revision, revisions_merged=frame.merged
        )
        parts = [head.SerializeToString()]
        if frame.queue:
            parts += [_QUEUE_TAG, varint(len(frame.queue)), frame.queue]
        if frame.event:
            parts += [_EVENT_TAG, varint(len(frame.event)), frame.event]
        frame.wire = b"".join(parts)
    return frame.wire


def get_queue_bytes(queue: bytes) -> bytes:
    """A serialised queue as a serialised `GetQueueResponse`; `StopQueueResponse` has the same form."""
    return b"".join((_GET_QUEUE_TAG, varint(len(queue)), queue))


def start_queue_bytes(queue: bytes, *, created: bool) -> bytes:
    """A serialised queue as a serialised `StartQueueResponse` without a plan."""
    return b"".join((_START_QUEUE_TAG, varint(len(queue)), queue, _CREATED if created else b""))
