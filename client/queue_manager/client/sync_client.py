"""`Client`: the methods of `AsyncClient` for programs without an event loop.

A thin face: every method hands the coroutine of the same name to an event loop in a thread of its own
(`loop_thread.py`) and waits for it. Deadlines, retries, errors and the watch are `AsyncClient`'s; nothing of them is
here a second time.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from queue_manager.client.async_client import AsyncClient, QueueFilter
from queue_manager.client.backoff import Backoff
from queue_manager.client.loop_thread import LoopThread
from queue_manager.client.watch import OnReconnect
from queue_manager.v1.dead_letter_pb2 import DeadLetter
from queue_manager.v1.queue_pb2 import FailurePolicy, Queue
from queue_manager.v1.service_pb2 import (
    DiagnoseResponse,
    ListDeadLettersResponse,
    ListQueuesResponse,
    ReplayDeadLettersResponse,
    StartQueueRequest,
    StartQueueResponse,
    StopMode,
    WatchQueueResponse,
)
from queue_manager.v1.target_pb2 import Target


class Client:
    """A connection to a server, used as `with Client() as client:`.

    Safe to use from many threads, also from inside a running event loop (a notebook), which it blocks. Timeouts are
    seconds for the whole call, retries included. Calls are sent again on UNAVAILABLE, because they may be: a start
    carries a `request_id`; only a forced replay is not. Every method raises `QueueManagerError`s and nothing of grpc's.
    `RuntimeError`: the client is not open, was closed during the call, or was opened before the process was forked.
    Ctrl-C cancels the call that is waited for.
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
        self._client = AsyncClient(
            target, timeout=timeout, requested_by=requested_by, credentials=credentials, backoff=backoff
        )
        self._opened: LoopThread | None = None

    @property
    def target(self) -> str:
        """The server's address."""
        return self._client.target

    def __enter__(self) -> Self:
        """Open the channel; it connects with the first call, so a missing server shows there."""
        if self._opened is not None:
            raise RuntimeError("this client is open already")
        self._opened = LoopThread.opened("client", self._client.__aenter__, self._client.close)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the channel; calls and watches under way end."""
        self.close()

    def close(self) -> None:
        """What leaving the context does. May be repeated."""
        thread, self._opened = self._opened, None
        if thread is not None:
            thread.close(self._client.close)

    def start_queue(
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
        return self._thread.run(
            self._client.start_queue(
                payload,
                request_id=request_id,
                validate_only=validate_only,
                labels=labels,
                failure_policy=failure_policy,
                start_timeout=start_timeout,
                timeout=timeout,
            )
        )

    def stop_queue(
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
        return self._thread.run(
            self._client.stop_queue(
                queue_id, mode=mode, grace_period=grace_period, wait=wait, reason=reason, timeout=timeout
            )
        )

    def get_queue(self, queue_id: str, *, timeout: float | None = None) -> Queue:
        """The whole queue with every job. Raises `NotFound`."""
        return self._thread.run(self._client.get_queue(queue_id, timeout=timeout))

    def list_page(
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
        return self._thread.run(
            self._client.list_page(page_size=page_size, page_token=page_token, timeout=timeout, **filters)
        )

    def list_queues(self, *, page_size: int = 0, **filters: Unpack[QueueFilter]) -> Generator[Queue, None, None]:
        """Every queue that matches, newest first; the next page (of `page_size`, 1 to 500) is asked for when needed."""
        return self._thread.iterate(self._client.list_queues(page_size=page_size, **filters))

    def list_targets(self, *, timeout: float | None = None) -> list[Target]:
        """The catalogue: every target with its types and parameters, by name."""
        return self._thread.run(self._client.list_targets(timeout=timeout))

    def diagnose(self, *, timeout: float | None = None) -> DiagnoseResponse:
        """What is wrong with the server and its surroundings, as far as it knows, and what to do about it."""
        return self._thread.run(self._client.diagnose(timeout=timeout))

    def list_dead_letters(
        self, *, topic: str = "", page_size: int = 0, timeout: float | None = None
    ) -> Generator[DeadLetter, None, None]:
        """Every message that nobody could read, newest first; pages (of `page_size`, 1 to 500) come when needed.

        `topic`: only those that came from this one. `timeout` is each page's. Raises `FailedPrecondition` where the
        server runs without a broker.
        """
        return self._thread.iterate(self._client.list_dead_letters(topic=topic, page_size=page_size, timeout=timeout))

    def dead_letters_page(
        self, *, topic: str = "", page_size: int = 0, page_token: str = "", timeout: float | None = None
    ) -> ListDeadLettersResponse:
        """One page of them, with the token of the next, which is good for the same topic only.

        `page_size`: 1 to 500, default 50; fewer come where their values are large.
        """
        return self._thread.run(
            self._client.dead_letters_page(topic=topic, page_size=page_size, page_token=page_token, timeout=timeout)
        )

    def replay_dead_letters(
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
        return self._thread.run(
            self._client.replay_dead_letters(
                ids, all_of=all_of, validate_only=validate_only, force=force, timeout=timeout
            )
        )

    def watch(
        self,
        queue_id: str,
        *,
        after_revision: int | None = None,
        heartbeat: float = 15.0,
        give_up_after: float = 60.0,
        yield_heartbeats: bool = False,
        on_reconnect: OnReconnect | None = None,
    ) -> Generator[WatchQueueResponse, None, None]:
        """Every change of a queue until it has ended: SNAPSHOT, UPDATEs, END. It goes on across cuts by itself.

        Revisions, `after_revision`, `heartbeat`, `give_up_after` and `yield_heartbeats` are as in `AsyncClient.watch`.
        Each frame is read when it is asked for; other threads may use the client meanwhile. `on_reconnect` is called in
        the client's own thread, where the client cannot be called.

        To stop early, `break` inside `with contextlib.closing(client.watch(…)) as frames`, which ends the call at once.
        A plain `break` ends it as soon as nothing refers to the iteration any more.
        """
        return self._thread.iterate(
            self._client.watch(
                queue_id,
                after_revision=after_revision,
                heartbeat=heartbeat,
                give_up_after=give_up_after,
                yield_heartbeats=yield_heartbeats,
                on_reconnect=on_reconnect,
            )
        )

    @property
    def _thread(self) -> LoopThread:
        """The open client's. Raises `RuntimeError` where it is not open."""
        if self._opened is None:
            raise RuntimeError("the client is not open; use it inside `with Client() as client`")
        return self._opened
