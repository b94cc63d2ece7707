"""Queues as the bytes that callers get, made of bytes that are kept.

Most changes change one job of many, and never what was asked for it. A job and a specification are immutable values, so
their bytes are found again by identity. What is kept is bounded, and only makes it faster.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, TypeVar

from queue_manager.server.domain.model import Job, Queue, QueueSpec
from queue_manager.server.rpc.convert import write_job_spec, write_job_status, write_queue_spec, write_queue_status
from queue_manager.server.rpc.wire import tag_of, varint
from queue_manager.v1 import queue_pb2

KEPT: Final = 8192
"""Jobs, at one to two kilobytes each, and as many queues' specifications."""

T = TypeVar("T")

_JOBS_TAG: Final = tag_of(queue_pb2.Queue, "jobs")


class QueueEncoder:
    """Call it with a queue. It belongs to one thread."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        # By id() of the specification, which is its own while it is kept.
        self._queues: OrderedDict[int, tuple[QueueSpec, bytes]] = OrderedDict()
        self._jobs: OrderedDict[int, _Kept] = OrderedDict()

    def __call__(self, queue: Queue) -> bytes:
        """A serialised `queue_pb2.Queue`."""
        status = queue_pb2.Queue()
        write_queue_status(status, queue)
        parts = [self._spec(queue.spec), status.SerializeToString()]
        parts += [self._job(job) for job in queue.jobs]
        return b"".join(parts)

    def _spec(self, spec: QueueSpec) -> bytes:
        """What was asked for the queue."""
        kept = self._queues.get(id(spec))
        if kept is None:
            message = queue_pb2.Queue()
            write_queue_spec(message, spec)
            kept = spec, message.SerializeToString()
            _keep(self._queues, id(spec), kept)
        return kept[1]

    def _job(self, job: Job) -> bytes:
        """The job as an element of the field `jobs`."""
        kept = self._jobs.get(id(job.spec))
        if kept is None:
            kept = _Kept(job)
            _keep(self._jobs, id(job.spec), kept)
        elif kept.job is not job:
            kept.turn_into(job)
        return kept.field


class _Kept:
    """A job as it was last encoded."""

    __slots__ = ("_spec", "field", "job")

    def __init__(self, job: Job) -> None:
        message = queue_pb2.Job()
        write_job_spec(message, job.spec)
        self._spec = message.SerializeToString()
        self.turn_into(job)

    def turn_into(self, job: Job) -> None:
        """Its next form."""
        message = queue_pb2.Job()
        write_job_status(message, job.status)
        status = message.SerializeToString()
        self.job = job
        self.field = b"".join((_JOBS_TAG, varint(len(self._spec) + len(status)), self._spec, status))


def _keep(all_kept: OrderedDict[int, T], key: int, kept: T) -> None:
    """One more; the one that is there longest goes where there are too many."""
    if len(all_kept) >= KEPT:
        all_kept.popitem(last=False)
    all_kept[key] = kept
