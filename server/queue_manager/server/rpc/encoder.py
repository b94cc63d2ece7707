"""Queues as the bytes that callers get, made of jobs' bytes that are kept: most changes change one job of many.

A job is an immutable value, so its bytes are found again by its identity. What is kept is bounded, and only makes it
faster.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from queue_manager.server.domain.model import Job, Queue
from queue_manager.server.rpc.convert import job_message, queue_fields
from queue_manager.server.rpc.wire import tag_of, varint
from queue_manager.v1 import queue_pb2

KEPT: Final = 8192
"""Jobs, at about half a kilobyte each."""

_JOBS_TAG: Final = tag_of(queue_pb2.Queue, "jobs")


class QueueEncoder:
    """Call it with a queue. It belongs to one thread."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._kept: OrderedDict[int, tuple[Job, bytes]] = OrderedDict()  # by id(), which is the job's while it is kept

    def __call__(self, queue: Queue) -> bytes:
        """A serialised `queue_pb2.Queue`."""
        parts = [queue_fields(queue).SerializeToString()]
        parts += [self._job_field(job) for job in queue.jobs]
        return b"".join(parts)

    def _job_field(self, job: Job) -> bytes:
        """The job as an element of the field `jobs`."""
        kept = self._kept.get(id(job))
        if kept is not None:
            return kept[1]
        message = job_message(job).SerializeToString()
        field = b"".join((_JOBS_TAG, varint(len(message)), message))
        if len(self._kept) >= KEPT:
            self._kept.popitem(last=False)
        self._kept[id(job)] = (job, field)
        return field
