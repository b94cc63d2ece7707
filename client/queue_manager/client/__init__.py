"""The client of the Queue Manager: launch, stop and watch queues.

    with Client() as client:
        started = client.start_queue({"symbol": "BTCUSDT", "requests": [...]})
        for frame in client.watch(started.queue.queue_id):
            print(frame.revision, frame.queue.state)

`AsyncClient` is the same for asyncio, `queue_manager.client.testing` a server inside your own tests.

Names are loaded when they are first asked for (PEP 562): `queuectl --help` and a shell's completion live in this
package, too, and need none of them.

Results are the API's own messages (`queue_manager.v1`); errors are one tree (`queue_manager.client.errors`). Importing
this needs grpc and protobuf only: the command line is `queue_manager.client.cli`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
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

_HOMES: Final = {"AsyncClient": "async_client", "Backoff": "backoff", "Client": "sync_client"}
"""Where names are, beside `errors`."""


if not TYPE_CHECKING:  # to a type checker, a name that is not above is an error

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'errors')}"), name)
        return value
