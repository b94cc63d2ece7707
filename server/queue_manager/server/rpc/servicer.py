"""The methods of `QueueManager`: each converts, calls the service, converts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

from queue_manager.server.application.dead_letters import DeadLetterService
from queue_manager.server.application.diagnosis import Diagnosis
from queue_manager.server.application.queues import QueueService
from queue_manager.server.application.watch import Watch
from queue_manager.server.domain.model import StopMode
from queue_manager.server.rpc import requests
from queue_manager.server.rpc.calls import Context, caller
from queue_manager.server.rpc.convert import (
    dead_letter_message,
    diagnosis_message,
    plan_message,
    queue_message,
)
from queue_manager.server.rpc.frames import get_queue_bytes, start_queue_bytes
from queue_manager.server.rpc.pagination import (
    decode_letter_token,
    decode_token,
    encode_letter_token,
    encode_token,
)
from queue_manager.server.rpc.targets import target_messages
from queue_manager.v1 import service_pb2

ANSWER_BEFORE_DEADLINE: Final = 0.25
"""A waiting call is answered this many seconds before its deadline, while the answer can still arrive."""


class Servicer:
    """Handlers by method name; `server` wraps them."""

    def __init__(
        self,
        service: QueueService,
        dead_letters: DeadLetterService,
        diagnose: Callable[[], Awaitable[Diagnosis]],
        pods: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """The services that do it all, and what knows what is wrong. `pods`: see `target_messages`."""
        self._service = service
        self._dead_letters = dead_letters
        self._diagnose = diagnose
        targets = target_messages(service.catalogue, pods)
        self._targets = service_pb2.ListTargetsResponse(targets=targets).SerializeToString()

    async def StartQueue(
        self, request: service_pb2.StartQueueRequest, context: Context
    ) -> service_pb2.StartQueueResponse | bytes:
        """See the contract."""
        started = await self._service.start(requests.start_request(request), requested_by=caller(context))
        if not started.plan:
            return start_queue_bytes(self._service.encoded(started.queue), created=started.created)
        return service_pb2.StartQueueResponse(
            queue=queue_message(started.queue),
            created=started.created,
            plan=[plan_message(spec) for spec in started.plan],
        )

    async def StopQueue(self, request: service_pb2.StopQueueRequest, context: Context) -> bytes:
        """See the contract."""
        wish = requests.stop_request(request)
        wait = None
        if request.wait:
            remaining = cast("float | None", context.time_remaining())  # the stubs forget calls without a deadline
            wait = max(0.0, (requests.LONGEST_WAIT if remaining is None else remaining) - ANSWER_BEFORE_DEADLINE)
        queue = await self._service.stop(
            request.queue_id,
            mode=wish.mode,
            grace_period=wish.grace_period if wish.mode is StopMode.GRACEFUL else 0.0,
            reason=request.reason,
            by=caller(context),
            wait=wait,
        )
        return get_queue_bytes(self._service.encoded(queue))

    async def GetQueue(self, request: service_pb2.GetQueueRequest, context: Context) -> bytes:
        """See the contract."""
        requests.check_queue_id(request.queue_id)
        queue = await self._service.get(request.queue_id)
        return get_queue_bytes(self._service.encoded(queue))

    async def ListQueues(
        self, request: service_pb2.ListQueuesRequest, context: Context
    ) -> service_pb2.ListQueuesResponse:
        """See the contract."""
        query, limit = requests.list_request(request)
        after = decode_token(request.page_token, query) if request.page_token else None
        queues, cursor = await self._service.list(query, after=after, limit=limit)
        return service_pb2.ListQueuesResponse(
            queues=[queue_message(queue) for queue in queues],
            next_page_token=encode_token(cursor, query) if cursor else "",
        )

    def WatchQueue(self, request: service_pb2.WatchQueueRequest, context: Context) -> Watch:
        """See the contract."""
        heartbeat = requests.watch_request(request)
        after = request.after_revision if request.HasField("after_revision") else None
        return self._service.watch(request.queue_id, after_revision=after, heartbeat=heartbeat)

    async def ListTargets(self, request: service_pb2.ListTargetsRequest, context: Context) -> bytes:
        """See the contract."""
        return self._targets

    async def Diagnose(self, request: service_pb2.DiagnoseRequest, context: Context) -> service_pb2.DiagnoseResponse:
        """See the contract."""
        return diagnosis_message(await self._diagnose())

    async def ListDeadLetters(
        self, request: service_pb2.ListDeadLettersRequest, context: Context
    ) -> service_pb2.ListDeadLettersResponse:
        """See the contract."""
        limit = requests.letters_request(request)
        before = decode_letter_token(request.page_token, request.topic) if request.page_token else None
        letters, cursor = await self._dead_letters.page(request.topic, before=before, limit=limit)
        return service_pb2.ListDeadLettersResponse(
            dead_letters=[dead_letter_message(letter) for letter in letters],
            next_page_token=encode_letter_token(cursor, request.topic) if cursor else "",
        )

    async def ReplayDeadLetters(
        self, request: service_pb2.ReplayDeadLettersRequest, context: Context
    ) -> service_pb2.ReplayDeadLettersResponse:
        """See the contract."""
        done = await self._dead_letters.replay(requests.replay_request(request), by=caller(context))
        return service_pb2.ReplayDeadLettersResponse(
            replayed_ids=done.replayed, skipped_ids=done.skipped, cut_ids=done.cut
        )
