"""Queues as bytes: the same as the messages that one builds, whatever was encoded before."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from queue_manager.server.domain.model import Job, Queue
from queue_manager.server.rpc import encoder
from queue_manager.server.rpc.convert import job_message, queue_message
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
    """Six jobs, then one."""
    built: list[str] = []

    def told(job: Job) -> queue_pb2.Job:
        built.append(job.name)
        return job_message(job)

    monkeypatch.setattr("queue_manager.server.rpc.encoder.job_message", told)
    encode, queue = QueueEncoder(), accepted(payload("historical"))
    encode(queue)
    assert len(built) == len(queue.jobs)
    encode(progressed(queue, 2))
    assert built[len(queue.jobs) :] == [queue.jobs[2].name]


def test_what_is_kept_is_bounded_and_nothing_is_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of jobs that are gone may be used again; a job that is kept cannot be gone."""
    monkeypatch.setattr(encoder, "KEPT", 10)
    encode, queue = QueueEncoder(), accepted(payload("historical"))
    for number in range(200):
        queue = progressed(queue, number % len(queue.jobs))
        assert queue_pb2.Queue.FromString(encode(queue)) == queue_message(queue)
    assert len(encode._kept) <= 10
