"""Work that goes on to its end when the caller who asked for it has gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from queue_manager.server.domain.errors import QueueManagerError

T = TypeVar("T")


async def finish(work: Coroutine[Any, Any, T], under_way: set[asyncio.Task[Any]], *, name: str | None = None) -> T:
    """Do this in a task of its own, which is in `under_way` as long as it runs.

    An error that callers are told is a result of it, so that asyncio does not log it as one that nobody has seen where the
    caller has gone. Bugs are logged so.
    """
    task = asyncio.create_task(_outcome(work), name=name)
    under_way.add(task)
    task.add_done_callback(under_way.discard)
    outcome = await asyncio.shield(task)
    if isinstance(outcome, QueueManagerError):
        raise outcome
    return outcome


async def _outcome(work: Coroutine[Any, Any, T]) -> T | QueueManagerError:
    try:
        return await work
    except QueueManagerError as error:
        return error
