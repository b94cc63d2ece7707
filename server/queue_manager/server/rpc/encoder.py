"""Queues as the bytes that callers get, made of bytes that are kept.

Most changes change one job of many, and never what was asked for it. A job and a specification are immutable values, so
their bytes are found again by identity. What is kept is bounded, and only makes it faster.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from queue_manager.server.domain.model import Job, Queue, QueueSpec
from queue_manager.server.rpc.convert import (
    queue_message,
    write_job_spec,
    write_job_status,
    write_queue_spec,
    write_queue_status,
)
from queue_manager.server.serialised import tag_of, varint
from queue_manager.v1 import queue_pb2

KEPT: Final = 8192
"""Jobs, at one to two kilobytes each."""

_JOBS_TAG: Final = tag_of(queue_pb2.Queue, "jobs")


class QueueEncoder:
    """Call it with a queue. It belongs to one thread."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        # By id() of the specification, which is its own while it is kept.
        self._kept: OrderedDict[int, _KeptQueue] = OrderedDict()
        self._jobs_kept = 0

    def __call__(self, queue: Queue) -> bytes:
        """A serialised `queue_pb2.Queue`."""
        kept = self._kept.get(id(queue.spec))
        if kept is None:
            if queue.revision == 1:  # many are never asked for again, and for one time this takes half as long
                return queue_message(queue).SerializeToString()
            kept = self._keep(queue)
        status = queue_pb2.Queue()
        write_queue_status(status, queue)
        parts = [kept.spec_bytes, status.SerializeToString()]
        for job, was in zip(queue.jobs, kept.jobs, strict=True):
            if was.job is not job:
                was.turn_into(job)
            parts.append(was.field)
        return b"".join(parts)

    def _keep(self, queue: Queue) -> _KeptQueue:
        """One more; those that are there longest go where there are too many jobs."""
        kept = self._kept[id(queue.spec)] = _KeptQueue(queue)
        self._jobs_kept += len(kept.jobs)
        while self._jobs_kept > KEPT and len(self._kept) > 1:
            _, gone = self._kept.popitem(last=False)
            self._jobs_kept -= len(gone.jobs)
        return kept


class _KeptQueue:
    """A queue as it was last encoded. Its jobs stay what they are, in their order."""

    __slots__ = ("_spec", "jobs", "spec_bytes")

    def __init__(self, queue: Queue) -> None:
        message = queue_pb2.Queue()
        write_queue_spec(message, queue.spec)
        self._spec: QueueSpec = queue.spec  # so that its id() is no other's
        self.spec_bytes = message.SerializeToString()
        self.jobs = [_KeptJob(job) for job in queue.jobs]


class _KeptJob:
    """A job as it was last encoded; `field` is it as an element of the field `jobs`."""

    __slots__ = ("_spec_bytes", "field", "job")

    def __init__(self, job: Job) -> None:
        message = queue_pb2.Job()
        write_job_spec(message, job.spec)
        self._spec_bytes = message.SerializeToString()
        self.turn_into(job)

    def turn_into(self, job: Job) -> None:
        """Its next form."""
        message = queue_pb2.Job()
        write_job_status(message, job.status)
        status, spec = message.SerializeToString(), self._spec_bytes
        self.job = job
        self.field = b"".join((_JOBS_TAG, varint(len(spec) + len(status)), spec, status))
