"""Right use of the client: a strict type checker has nothing to say, and knows what comes back."""

from __future__ import annotations

import json
from contextlib import aclosing, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import reveal_type

from queue_manager.client import AsyncClient, Backoff, Client, InvalidRequest, QueueManagerError, Unavailable
from queue_manager.client.testing import TestServer
from queue_manager.v1.queue_pb2 import FailurePolicy, QueueState
from queue_manager.v1.service_pb2 import JobRequest, StartQueueRequest, StopMode


def told(error: QueueManagerError, pause: float) -> None:
    """Of a cut."""
    print(error.reason, pause)


async def asynchronous(path: Path) -> None:
    """Every method."""
    async with AsyncClient("127.0.0.1:50051", timeout=5, requested_by="me", backoff=Backoff(attempts=3)) as client:
        started = await client.start_queue(
            json.loads(path.read_text()),
            request_id="nightly",
            labels={"team": "research"},
            failure_policy=FailurePolicy.FAILURE_POLICY_STOP_ALL,
            start_timeout=timedelta(minutes=2),
        )
        reveal_type(started)  # R: StartQueueResponse
        queue_id = started.queue.queue_id
        reveal_type(await client.get_queue(queue_id))  # R: Queue
        reveal_type(await client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE, wait=True))  # R: Queue
        reveal_type(await client.list_targets())  # R: list[Target]
        reveal_type((await client.list_page(symbol="BTCUSDT", page_size=5)).next_page_token)  # R: str
        async for queue in client.list_queues(
            states=[QueueState.QUEUE_STATE_RUNNING, QueueState.QUEUE_STATE_PENDING],
            target="visualizer",
            label_selector="team=research",
            created_after=datetime(2024, 6, 1, tzinfo=UTC),
        ):
            reveal_type(queue)  # R: Queue
        async with aclosing(client.watch(queue_id, after_revision=3, on_reconnect=told)) as frames:
            async for frame in frames:
                reveal_type(frame)  # R: WatchQueueResponse
                reveal_type(frame.revision)  # R: int


def synchronous() -> None:
    """The same without `await`."""
    with Client() as client:
        request = StartQueueRequest(symbol="BTCUSDT", requests=[JobRequest(target="visualizer")])
        queue_id = client.start_queue(request, start_timeout=5).queue.queue_id
        reveal_type(client.get_queue(queue_id))  # R: Queue
        reveal_type(client.stop_queue(queue_id, grace_period=1.5))  # R: Queue
        reveal_type(client.list_targets())  # R: list[Target]
        for queue in client.list_queues(symbol="BTCUSDT"):
            reveal_type(queue)  # R: Queue
        with closing(client.watch(queue_id)) as frames:
            reveal_type(frames)  # R: Generator[WatchQueueResponse, None, None]


def failing(client: Client) -> None:
    """Exceptions carry what they say they do."""
    try:
        client.start_queue({"symbol": "BTCUSDT"})
    except InvalidRequest as error:
        reveal_type(error.violations[0].field)  # R: str
    except Unavailable as error:
        reveal_type(error.retry_after)  # R: float | None
    except QueueManagerError as error:
        reveal_type(error.metadata)  # R: Mapping[str, str]


async def testing() -> None:
    """The server inside a test, both ways."""
    with TestServer(stop_grace=1) as server, server.client(timeout=1) as client:
        reveal_type(client)  # R: Client
        server.report("wf-x", "visualizer", status="started", progress=0.5)
        with server.outage():
            server.finish("wf-x", "visualizer", records_written=5)
    async with TestServer() as server, server.async_client() as async_client:
        reveal_type(async_client)  # R: AsyncClient
        server.hold("visualizer")
