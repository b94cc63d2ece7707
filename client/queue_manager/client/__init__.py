"""The client of the Queue Manager: launch, stop and watch queues.

    with Client() as client:
        started = client.start_queue({"symbol": "BTCUSDT", "requests": [...]})
        for frame in client.watch(started.queue.queue_id):
            print(frame.revision, frame.queue.state)

`AsyncClient` is the same for asyncio, `queue_manager.client.testing` a server inside your own tests.

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
from queue_manager.client.sync_client import Client

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "Backoff",
    "Client",
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
