"""Watch frames as bytes, from parts that are shared by all watchers.

The fields of a serialised message may be concatenated in any order (Protocol Buffers, "Encoding": message structure), so
a frame is its own few bytes followed by the queue's and the event's, which are made once a revision.
"""

from __future__ import annotations

from typing import Final

from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.v1 import service_pb2

KINDS: Final = {kind: service_pb2.FrameKind.Value(f"FRAME_KIND_{kind}") for kind in FrameKind}

_LENGTH_DELIMITED = 2
_FIELDS = service_pb2.WatchQueueResponse.DESCRIPTOR.fields_by_name
_QUEUE_TAG: Final = bytes([_FIELDS["queue"].number << 3 | _LENGTH_DELIMITED])
_EVENT_TAG: Final = bytes([_FIELDS["event"].number << 3 | _LENGTH_DELIMITED])
_GET_QUEUE_TAG: Final = bytes(
    [service_pb2.GetQueueResponse.DESCRIPTOR.fields_by_name["queue"].number << 3 | _LENGTH_DELIMITED]
)
_START_QUEUE_TAG: Final = bytes(
    [service_pb2.StartQueueResponse.DESCRIPTOR.fields_by_name["queue"].number << 3 | _LENGTH_DELIMITED]
)
_CREATED: Final = service_pb2.StartQueueResponse(created=True).SerializeToString()


def frame_bytes(frame: Frame) -> bytes:
    """A frame as a serialised `WatchQueueResponse`; made once."""
    if not frame.wire:
        head = service_pb2.WatchQueueResponse(
            kind=KINDS[frame.kind], revision=frame.revision, revisions_merged=frame.merged
        )
        parts = [head.SerializeToString()]
        if frame.queue:
            parts += [_QUEUE_TAG, _varint(len(frame.queue)), frame.queue]
        if frame.event:
            parts += [_EVENT_TAG, _varint(len(frame.event)), frame.event]
        frame.wire = b"".join(parts)
    return frame.wire


def get_queue_bytes(queue: bytes) -> bytes:
    """A serialised queue as a serialised `GetQueueResponse`; `StopQueueResponse` has the same form."""
    return b"".join((_GET_QUEUE_TAG, _varint(len(queue)), queue))


def start_queue_bytes(queue: bytes, *, created: bool) -> bytes:
    """A serialised queue as a serialised `StartQueueResponse` without a plan."""
    return b"".join((_START_QUEUE_TAG, _varint(len(queue)), queue, _CREATED if created else b""))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
