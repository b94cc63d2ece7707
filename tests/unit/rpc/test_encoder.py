"""Queues as bytes: the same as the messages that one builds, whatever was encoded before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from msgspec.structs import replace

from queue_manager.server.domain.model import Queue
from queue_manager.server.rpc import convert, encoder
from queue_manager.server.rpc.convert import queue_message
from queue_manager.server.rpc.encoder import QueueEncoder
from queue_manager.v1 import queue_pb2
from tests.unit.domain.samples import accepted, payload


def progressed(queue: Queue, index: int) -> Queue:
    """One job has written a record more."""
    job = queue.jobs[index]
    status = replace(job.status, records_written=job.status.records_written + 1)
    jobs = (*queue.jobs[:index], replace(job, status=status), *queue.jobs[index + 1 :])
    return replace(queue, jobs=jobs, revision=queue.revision + 1)


def test_each_revision_is_the_message_that_one_builds() -> None:
    """Also where the bytes of the jobs that did not change are used again."""
    encode, queue = QueueEncoder(), accepted(payload("historical"))
    for number in range(20):
        assert queue_pb2.Queue.FromString(encode(queue)) == queue_message(queue)
        queue = progressed(queue, number % len(queue.jobs))


def test_only_the_job_that_changed_is_encoded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six jobs, then the status of one; what was asked for never again."""
    written: list[str] = []

    def told(name: str) -> Callable[[Message, Any], None]:
        def write(message: Message, value: Any) -> None:
            written.append(name)
            getattr(convert, name)(message, value)

        return write

    for name in ("write_queue_spec", "write_queue_status", "write_job_spec", "write_job_status"):
        monkeypatch.setattr(encoder, name, told(name))
    encode, queue = QueueEncoder(), accepted(payload("historical"))
    encode(queue)
    assert written.count("write_job_spec") == written.count("write_job_status") == len(queue.jobs)
    written.clear()
    encode(progressed(queue, 2))
    assert written == ["write_queue_status", "write_job_status"]


def test_what_is_kept_is_bounded_and_nothing_is_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of jobs that are gone may be used again; a job that is kept cannot be gone."""
    monkeypatch.setattr(encoder, "KEPT", 10)
    encode, queue = QueueEncoder(), accepted(payload("historical"))
    for number in range(200):
        queue = progressed(queue, number % len(queue.jobs))
        assert queue_pb2.Queue.FromString(encode(queue)) == queue_message(queue)
    assert encode._jobs_kept <= 10


def test_queues_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was seen first is forgotten, and is encoded as well as before."""
    monkeypatch.setattr(encoder, "KEPT", 10)
    encode, queues = QueueEncoder(), [accepted(payload("historical")) for _ in range(20)]
    for queue in (*queues, *queues):
        assert queue_pb2.Queue.FromString(encode(queue)) == queue_message(queue)
    assert encode._jobs_kept <= 10
    assert len(encode._kept) == 1
