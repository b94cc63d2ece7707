"""Frames and answers that are put together from bytes: the same as those that are built."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.application.topic import Frame, FrameKind
from queue_manager.server.rpc.convert import queue_message
from queue_manager.server.rpc.encoder import QueueEncoder
from queue_manager.server.rpc.frames import frame_bytes, get_queue_bytes, start_queue_bytes
from queue_manager.v1 import queue_pb2, service_pb2
from tests.unit.domain.samples import accepted, payload

REVISIONS = st.integers(0, 2**63 - 1)
SIZES = st.sampled_from([0, 1, 100, 127, 128, 16_383, 16_384, 2_097_152])


def built(
    frame: Frame, queue: queue_pb2.Queue | None, event: queue_pb2.QueueEvent | None
) -> service_pb2.WatchQueueResponse:
    """The frame as one builds it."""
    return service_pb2.WatchQueueResponse(
        kind=service_pb2.FrameKind.Value(f"FRAME_KIND_{frame.kind}"),
        revision=frame.revision,
        revisions_merged=frame.merged,
        queue=queue,
        event=event,
    )


@given(kind=st.sampled_from(FrameKind), revision=REVISIONS, merged=REVISIONS, size=SIZES, with_event=st.booleans())
def test_concatenated_bytes_are_the_message_that_one_builds(
    kind: FrameKind, revision: int, merged: int, size: int, with_event: bool
) -> None:
    """For every kind, revision and length of what is in it."""
    queue = queue_pb2.Queue(message="x" * size) if size else None
    event = queue_pb2.QueueEvent(revision=revision, message="y" * size) if with_event and size else None
    frame = Frame(
        kind,
        revision,
        merged,
        queue.SerializeToString() if queue else b"",
        event.SerializeToString() if event else b"",
    )
    assert service_pb2.WatchQueueResponse.FromString(frame_bytes(frame)) == built(frame, queue, event)


def test_a_heartbeat_has_no_queue_and_no_event() -> None:
    """Not even empty ones."""
    message = service_pb2.WatchQueueResponse.FromString(frame_bytes(Frame(FrameKind.HEARTBEAT, 7, 0)))
    assert (message.HasField("queue"), message.HasField("event"), message.revision) == (False, False, 7)


@pytest.mark.parametrize("response", [service_pb2.GetQueueResponse, service_pb2.StopQueueResponse])
@pytest.mark.parametrize("name", ["historical", "realtime"])
def test_an_answer_from_bytes_is_the_answer_that_one_builds(
    response: type[service_pb2.GetQueueResponse] | type[service_pb2.StopQueueResponse], name: str
) -> None:
    """GetQueue and StopQueue have the same form, so both share the queue's bytes."""
    queue = accepted(payload(name))
    assert response.FromString(get_queue_bytes(QueueEncoder()(queue))) == response(queue=queue_message(queue))


@pytest.mark.parametrize("created", [True, False])
def test_the_answer_to_a_start_from_bytes_is_the_one_that_one_builds(created: bool) -> None:
    """It shares the queue's bytes, too."""
    queue = accepted(payload("historical"))
    answer = service_pb2.StartQueueResponse.FromString(start_queue_bytes(QueueEncoder()(queue), created=created))
    assert answer == service_pb2.StartQueueResponse(queue=queue_message(queue), created=created)
