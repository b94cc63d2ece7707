"""Every way in which a worker can end, on real processes, and what is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2, service_pb2
from tests.e2e.server_process import ServerProcess

SHORT = {"simulate_duration": "0.5", "telemetry_interval": "0.1"}


def loader(**parameters: str) -> dict[str, Any]:
    """A loader that simulates something."""
    return {"target": "loader-producer", "type": "api_trades", "parameters": SHORT | parameters}


async def end_of(client: AsyncClient, **payload: Any) -> queue_pb2.Queue:
    """Start a queue and answer its final form."""
    body = {"symbol": "BTCUSDT", "time_range": "2024-06-01:2024-06-30", **payload}
    started = await client.start_queue(body)
    return [frame async for frame in client.watch(started.queue.queue_id)][-1].queue


def ends(queue: queue_pb2.Queue) -> list[tuple[str, str]]:
    """State and reason of each job, by name."""
    return [
        (
            queue_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_"),
            queue_pb2.Reason.Name(job.state_reason.code).removeprefix("REASON_"),
        )
        for job in queue.jobs
    ]


async def test_each_outcome_has_its_state_and_reason(tmp_path: Path) -> None:
    """Exit codes, exit 0 after an error, a signal, silence, a hang, lingering: side by side in one queue."""
    async with ServerProcess(tmp_path, QM_LINGER_GRACE="1") as server, AsyncClient(server.address) as client:
        queue = await end_of(
            client,
            requests=[
                loader(),
                loader(simulate_exit_code="3"),
                loader(simulate_outcome="error_exit_0"),
                loader(simulate_outcome="crash"),
                loader(simulate_outcome="silent"),
                loader(simulate_outcome="linger"),
                loader(simulate_outcome="hang") | {"timeout": "2s"},
                {
                    "target": "loader-producer",
                    "type": "api_trades",
                    "parameters": SHORT,
                    "depends_on": [{"job": "loader-producer-2"}],
                },
                {
                    "target": "loader-producer",
                    "type": "api_trades",
                    "parameters": SHORT,
                    "depends_on": [{"job": "loader-producer-7", "condition": "DEPENDENCY_CONDITION_STARTED"}],
                },
            ],
        )
        assert ends(queue) == [
            ("FINISHED", "UNSPECIFIED"),
            ("FAILED", "EXIT_CODE"),
            ("FAILED", "WORKER_ERROR"),
            ("FAILED", "EXIT_CODE"),
            ("FINISHED", "NEVER_REPORTED"),
            ("FINISHED", "LINGERED"),
            ("FAILED", "DEADLINE_EXCEEDED"),
            ("SKIPPED", "DEPENDENCY_FAILED"),
            ("FINISHED", "UNSPECIFIED"),
        ]
        assert queue.state == queue_pb2.QUEUE_STATE_FAILED
        assert queue.state_reason.code == queue_pb2.REASON_JOB_FAILED
        codes = [job.exit_code for job in queue.jobs[:5]]
        assert codes == [0, 3, 0, 128 + 9, 0]
        assert "loader-producer-2" in queue.jobs[7].state_reason.message
        assert not server.worker_pids()


async def test_an_endless_worker_that_ends_has_failed(client: AsyncClient) -> None:
    """A `ws_*` loader runs until it is stopped; one that exits with 0 was cut off."""
    request = {
        "target": "loader-producer",
        "type": "ws_trades",
        "parameters": {**SHORT, "simulate_outcome": "error_exit_0"},
    }
    queue = await end_of(client, requests=[request])
    assert ends(queue) == [("FAILED", "WORKER_ERROR")]


async def test_a_worker_that_ignores_stop_is_deleted_at_the_deadline(
    server: ServerProcess, client: AsyncClient
) -> None:
    """It ignores the command and SIGTERM; SIGKILL ends it, and only then is the queue STOPPED."""
    request = {"target": "loader-producer", "type": "ws_trades", "parameters": {"simulate_ignore_stop": "true"}}
    started = await client.start_queue({"symbol": "BTCUSDT", "requests": [request]})
    queue_id = started.queue.queue_id
    async for frame in client.watch(queue_id):
        if frame.queue.jobs[0].state == queue_pb2.JOB_STATE_RUNNING:
            break
    graceful = await client.stop_queue(queue_id, grace_period=0.5)
    assert graceful.state == queue_pb2.QUEUE_STATE_STOPPING
    assert server.worker_pids()
    queue = await client.stop_queue(queue_id, mode=service_pb2.STOP_MODE_FORCE, wait=True, timeout=30)
    assert queue.state == queue_pb2.QUEUE_STATE_STOPPED
    assert queue.jobs[0].exit_code == 128 + 9
    assert not server.worker_pids()


async def test_stop_all_ends_the_others_when_one_fails(server: ServerProcess, client: AsyncClient) -> None:
    """The endless loader is stopped by policy; what drains is drained first."""
    queue = await end_of(
        client,
        failure_policy="FAILURE_POLICY_STOP_ALL",
        requests=[
            loader(simulate_exit_code="1"),
            {"target": "arango-connector", "type": "api_trades"},
            {"target": "loader-producer", "type": "ws_trades"},
        ],
    )
    assert ends(queue) == [("FAILED", "EXIT_CODE"), ("FINISHED", "DRAINED"), ("STOPPED", "STOPPED_BY_POLICY")]
    assert queue.state == queue_pb2.QUEUE_STATE_FAILED
    assert not server.worker_pids()
