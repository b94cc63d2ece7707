"""`AsyncClient`: the Queue Manager's methods as typed coroutines.

What a method means is here; how a call is made, retried and translated is in `connection.py`, how a watch survives cuts
in `watch.py`.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

import grpc

from queue_manager.client.backoff import Backoff
from queue_manager.client.connection import Connection
from queue_manager.client.errors import REASON_INVALID_PAYLOAD, InvalidRequest, Violation
from queue_manager.client.payload import parse_start_request
from queue_manager.client.values import duration, seconds, timestamp
from queue_manager.client.watch import OnReconnect, Stream, WatchOptions, watch_frames
from queue_manager.v1.dead_letter_pb2 import DeadLetter
from queue_manager.v1.queue_pb2 import FailurePolicy, Queue, QueueState
from queue_manager.v1.service_pb2 import (
    DiagnoseRequest,
    DiagnoseResponse,
    GetQueueRequest,
    ListDeadLettersRequest,
    ListDeadLettersResponse,
    ListQueuesRequest,
    ListQueuesResponse,
    ListTargetsRequest,
    ReplayDeadLettersRequest,
    ReplayDeadLettersResponse,
    StartQueueRequest,
    StartQueueResponse,
    StopMode,
    StopQueueRequest,
    WatchQueueRequest,
    WatchQueueResponse,
)
from queue_manager.v1.target_pb2 import Target

DEFAULT_GRACE: Final = 30.0
"""Seconds; the server's own default, needed here to know how long a stop that waits may take."""
STOP_MARGIN: Final = 30.0
"""Seconds that a stop that waits gets beyond its grace period, for the deletion and its confirmation."""
REPLAY_TIMEOUT: Final = 130.0
"""Seconds that a replay gets; the server takes up to 60 s to find the messages, and as long to send them."""


class QueueFilter(TypedDict, total=False):
    """What a list can be narrowed to; everything that is given must hold."""

    states: Sequence[QueueState.ValueType]
    """In one of these states."""
    symbol: str
    """Of this trading pair."""
    target: str
    """With a job of this target."""
    label_selector: str
    """`key=value` and bare `key` terms joined by commas; all of them."""
    created_after: datetime | None
    """Created then or later; needs a time zone."""
    created_before: datetime | None
    """Created before; needs a time zone."""


class AsyncClient:
    """A connection to a server, used as `async with AsyncClient() as client:`.

    Safe to use from many tasks of one event loop. Timeouts are seconds for the whole call, retries included. Calls are
    sent again on UNAVAILABLE, because they may be: a start carries a `request_id`; only a forced replay is not. Every
    method raises `QueueManagerError`s and nothing of grpc's; a client that is not open raises `RuntimeError`.
    """

    def __init__(
        self,
        target: str | None = None,
        *,
        timeout: float = 10.0,
        requested_by: str | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """`target`: host:port, or any gRPC name; default `QM_SERVER`, else 127.0.0.1:50051.

        `timeout`: seconds a call may take, unless it says otherwise. `requested_by`: who appears in a queue's history,
        default user@host. `credentials`: for TLS; default is plaintext. `backoff`: pauses between attempts.
        """
        self._connection = Connection(
            target,
            timeout=timeout,
            requested_by=requested_by,
            credentials=credentials,
            backoff=backoff or Backoff(),
        )

    @property
    def target(self) -> str:
        """The server's address."""
        return self._connection.target

    async def __aenter__(self) -> Self:
        """Open the channel; it connects with the first call, so a missing server shows there."""
        self._connection.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the channel; calls and watches under way end."""
        await self.close()

    async def close(self) -> None:
        """What leaving the context does. May be repeated."""
        await self._connection.close()

    async def start_queue(
        self,
        payload: Mapping[str, Any] | StartQueueRequest,
        *,
        request_id: str | None = None,
        validate_only: bool = False,
        labels: Mapping[str, str] | None = None,
        failure_policy: FailurePolicy.ValueType | None = None,
        start_timeout: float | timedelta | None = None,
        timeout: float | None = None,
    ) -> StartQueueResponse:
        """Start a queue, or with `validate_only` see how it would be started.

        `payload`: the message, or its JSON form as a dict (`symbol`, `time_range`, `requests`, …). The keywords go over
        it; `labels` are added to its own. `request_id` makes the call idempotent, and one is made up where neither has
        one, so that a retry after a lost answer never starts a second queue; give your own to be safe across processes.

        Raises `InvalidRequest` with every violation, `AlreadyExists` where the id belongs to another body.
        """
        request = parse_start_request(payload)
        request.request_id = request_id or request.request_id or uuid.uuid4().hex
        request.validate_only = request.validate_only or validate_only
        request.labels.update(labels or {})
        if failure_policy is not None:
            request.failure_policy = failure_policy
        if start_timeout is not None:
            request.start_timeout.CopyFrom(duration(start_timeout))
        return await self._connection.call(self._connection.stub.StartQueue, request, timeout)

    async def stop_queue(
        self,
        queue_id: str,
        *,
        mode: StopMode.ValueType = StopMode.STOP_MODE_GRACEFUL,
        grace_period: float | timedelta | None = None,
        wait: bool = False,
        reason: str = "",
        timeout: float | None = None,
    ) -> Queue:
        """Stop a queue; idempotent, and an ended queue is answered unchanged.

        `grace_period`: seconds that workers have to end by themselves, default 30, not with STOP_MODE_FORCE. `wait`:
        answer when no worker is left, or shortly before the timeout with the queue as it then is (see its state); the
        timeout is then the grace period and 30 s more, unless given.
        """
        request = StopQueueRequest(queue_id=queue_id, mode=mode, wait=wait, reason=reason)
        grace = 0.0 if mode == StopMode.STOP_MODE_FORCE else DEFAULT_GRACE
        if grace_period is not None:
            request.grace_period.CopyFrom(duration(grace_period))
            grace = seconds(grace_period)
        if timeout is None and wait:
            timeout = max(self._connection.timeout, grace + STOP_MARGIN)
        return (await self._connection.call(self._connection.stub.StopQueue, request, timeout)).queue

    async def get_queue(self, queue_id: str, *, timeout: float | None = None) -> Queue:
        """The whole queue with every job. Raises `NotFound`."""
        request = GetQueueRequest(queue_id=queue_id)
        return (await self._connection.call(self._connection.stub.GetQueue, request, timeout)).queue

    async def list_page(
        self,
        *,
        page_size: int = 0,
        page_token: str = "",
        timeout: float | None = None,
        **filters: Unpack[QueueFilter],
    ) -> ListQueuesResponse:
        """One page of the queues that match, newest first, with the token of the next.

        `page_size`: 1 to 500, default 50. A token is good for the same filters only, else `InvalidRequest`.
        """
        request = ListQueuesRequest(
            page_size=page_size,
            page_token=page_token,
            states=filters.get("states", ()),
            symbol=filters.get("symbol", ""),
            target=filters.get("target", ""),
            label_selector=filters.get("label_selector", ""),
            created_after=timestamp(filters.get("created_after")),
            created_before=timestamp(filters.get("created_before")),
        )
        return await self._connection.call(self._connection.stub.ListQueues, request, timeout)

    async def list_queues(self, *, page_size: int = 0, **filters: Unpack[QueueFilter]) -> AsyncGenerator[Queue, None]:
        """Every queue that matches, newest first; the next page (of `page_size`, 1 to 500) is asked for when needed."""
        token = ""
        while True:
            page = await self.list_page(page_size=page_size, page_token=token, **filters)
            for queue in page.queues:
                yield queue
            token = page.next_page_token
            if not token:
                return

    async def list_targets(self, *, timeout: float | None = None) -> list[Target]:
        """The catalogue: every target with its types and parameters, by name."""
        response = await self._connection.call(self._connection.stub.ListTargets, ListTargetsRequest(), timeout)
        return list(response.targets)

    async def diagnose(self, *, timeout: float | None = None) -> DiagnoseResponse:
        """What is wrong with the server and its surroundings, as far as it knows, and what to do about it."""
        return await self._connection.call(self._connection.stub.Diagnose, DiagnoseRequest(), timeout)

    async def list_dead_letters(
        self, *, topic: str = "", page_size: int = 0, timeout: float | None = None
    ) -> AsyncGenerator[DeadLetter, None]:
        """Every message that nobody could read, newest first; pages (of `page_size`, 1 to 500) come when needed.

        `topic`: only those that came from this one. `timeout` is each page's. Raises `FailedPrecondition` where the
        server runs without a broker.
        """
        token = ""
        while True:
            page = await self.dead_letters_page(topic=topic, page_size=page_size, page_token=token, timeout=timeout)
            for letter in page.dead_letters:
                yield letter
            token = page.next_page_token
            if not token:
                return

    async def dead_letters_page(
        self, *, topic: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> ListDeadLettersResponse:
        """One page of them, with the token of the next, which is good for the same topic only.

        `page_size`: 1 to 500, default 50; fewer come where their values are large.
        """
        request = ListDeadLettersRequest(topic=topic, page_size=page_size, page_token=page_token)
        return await self._connection.call(self._connection.stub.ListDeadLetters, request, timeout)

    async def replay_dead_letters(
        self,
        ids: Sequence[str] = (),
        *,
        all_of: str = "",
        validate_only: bool = False,
        force: bool = False,
        timeout: float | None = None,
    ) -> ReplayDeadLettersResponse:
        """Send dead letters again to the topics that they came from: these, or all that came from the topic `all_of`.

        Those that have been replayed before are passed over, unless `force`, which is never retried by itself.
        `validate_only` tells which would be sent. The timeout is 130 s, unless given. Raises `InvalidRequest` that names
        the ids that are not known, and sends none then; `FailedPrecondition` where the server runs without a broker.
        """
        request = ReplayDeadLettersRequest(
            ids=ids, all=bool(all_of), topic=all_of, validate_only=validate_only, force=force
        )
        if timeout is None:
            timeout = max(self._connection.timeout, REPLAY_TIMEOUT)
        stub = self._connection.stub
        repeatable = validate_only or not force
        return await self._connection.call(stub.ReplayDeadLetters, request, timeout, repeatable=repeatable)

    def watch(
        self,
        queue_id: str,
        *,
        after_revision: int | None = None,
        heartbeat: float = 15.0,
        give_up_after: float = 60.0,
        yield_heartbeats: bool = False,
        on_reconnect: OnReconnect | None = None,
    ) -> AsyncGenerator[WatchQueueResponse, None]:
        """Every change of a queue until it has ended: SNAPSHOT, UPDATEs, END. It goes on across cuts by itself.

        Every revision arrives exactly once and in order: the revision of the frame before plus `revisions_merged` is
        the frame's revision. With `after_revision` it begins with the changes after that one, for a reader who has
        stored how far he came; 0 begins with the first change. RESYNC is the whole queue, where the history does not
        reach back that far.

        A stream that brings nothing for three `heartbeat`s (seconds, 1 to 3600) is replaced. After `give_up_after`
        seconds without a connection the error that cut it is raised, usually `Unavailable`; `on_reconnect` is told of
        every cut. Also raises `NotFound`, and `OutOfRange` where `after_revision` has not happened yet.

        `yield_heartbeats`: show them, too, and one more as soon as there is a connection again.

        To stop early, `break` inside `async with contextlib.aclosing(client.watch(…)) as frames`, which ends the call
        at once.
        """

        if not heartbeat > 0:  # the silence that it bounds would be over before a server could say so
            text = f"{heartbeat:g} s is not between 1 s and 3600 s"
            raise InvalidRequest(violations=[Violation("heartbeat_interval", text)], reason=REASON_INVALID_PAYLOAD)

        def open_stream(after: int | None) -> AbstractAsyncContextManager[Stream]:
            request = WatchQueueRequest(queue_id=queue_id, after_revision=after, heartbeat_interval=duration(heartbeat))
            return self._connection.watch_stream(request)

        options = WatchOptions(heartbeat, give_up_after, yield_heartbeats, self._connection.backoff, on_reconnect)
        return watch_frames(open_stream, after_revision=after_revision, options=options)
