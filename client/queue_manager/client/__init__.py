"""The client of the Queue Manager: launch, stop and watch queues from asyncio.

    async with AsyncClient() as client:
        started = await client.start_queue({"symbol": "BTCUSDT", "requests": [...]})
        async for frame in client.watch(started.queue.queue_id):
            print(frame.revision, frame.queue.state)

Results are the API's own messages (`queue_manager.v1`); errors are one tree (`queue_manager.client.errors`). Importing
this needs grpc and protobuf only: the command line is `queue_manager.client.cli`.
"""

from queue_manager.client.async_client import AsyncClient
from queue_manager.client.backoff import Backoff
from queue_manager.client.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InternalError,
    InvalidRequest,
    NotFound,
    OutOfRange,
    PermissionDenied,
    QueueManagerError,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Violation,
)

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Backoff",
    "DeadlineExceeded",
    "FailedPrecondition",
    "InternalError",
    "InvalidRequest",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "QueueManagerError",
    "ResourceExhausted",
    "Unauthenticated",
    "Unavailable",
    "Violation",
]
