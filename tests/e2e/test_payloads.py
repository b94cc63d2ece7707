"""The user's two payloads, byte for byte, by every way in that there is."""

from __future__ import annotations

import asyncio
import json
import sys

import grpc
import pytest
from google.protobuf import json_format

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2, service_pb2, service_pb2_grpc
from tests.e2e.conftest import grpcurl, payload
from tests.e2e.server_process import ServerProcess

NAMES = ["historical", "realtime"]
JOBS = {"historical": 6, "realtime": 7}


async def run(server: ServerProcess, *command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run a command that finds the server; its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(server.environment_of(NO_COLOR="1")),
    )
    out, err = await asyncio.wait_for(process.communicate(stdin), 60)
    assert process.returncode is not None
    return process.returncode, out, err


@pytest.mark.parametrize("name", NAMES)
async def test_by_stub(server: ServerProcess, name: str) -> None:
    """The JSON as it is, parsed into the request by protobuf's own JSON reader."""
    request = json_format.Parse(payload(name).read_bytes(), service_pb2.StartQueueRequest())
    async with grpc.aio.insecure_channel(server.address) as channel:
        response = await service_pb2_grpc.QueueManagerStub(channel).StartQueue(request)
    assert response.created
    assert len(response.queue.jobs) == JOBS[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stdin", [False, True])
async def test_by_queuectl(server: ServerProcess, client: AsyncClient, name: str, stdin: bool) -> None:
    """`queuectl start -f FILE` and `-f -`."""
    body = payload(name).read_bytes()
    source = "-" if stdin else str(payload(name))
    code, out, err = await run(
        server, sys.executable, "-m", "queue_manager.client.cli", "start", "-f", source, "-o", "json", stdin=body
    )
    assert code == 0, err
    queue_id = json.loads(out)["queue"]["queue_id"]
    assert len((await client.get_queue(queue_id)).jobs) == JOBS[name]


@pytest.mark.parametrize("name", NAMES)
async def test_by_grpcurl(server: ServerProcess, client: AsyncClient, name: str) -> None:
    """`grpcurl -plaintext -d @ … < payload.json`, which needs reflection too."""
    tool = grpcurl()
    method = "queue_manager.v1.QueueManager/StartQueue"
    body = payload(name).read_bytes()
    code, out, err = await run(server, tool, "-plaintext", "-d", "@", server.address, method, stdin=body)
    assert code == 0, err
    queue_id = json.loads(out)["queue"]["queue_id"]
    assert len((await client.get_queue(queue_id)).jobs) == JOBS[name]
    code, out, err = await run(server, tool, "-plaintext", server.address, "list")
    assert code == 0, err
    assert b"queue_manager.v1.QueueManager" in out


async def test_the_historical_pipeline_ends_by_itself(client: AsyncClient) -> None:
    """FINISHED in 10 to 20 seconds with the simulated workers' defaults, connectors drained, nothing failed."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    started = await client.start_queue(json.loads(payload("historical").read_text()))
    frames = [frame async for frame in client.watch(started.queue.queue_id)]
    took = loop.time() - began
    final = frames[-1].queue
    assert final.state == queue_pb2.QUEUE_STATE_FINISHED
    assert {job.state for job in final.jobs} == {queue_pb2.JOB_STATE_FINISHED}
    drained = [job.name for job in final.jobs if job.state_reason.code == queue_pb2.REASON_DRAINED]
    assert drained == ["arango-connector", "arango-connector-2"]
    loaded, stored = (
        sum(job.records_written for job in final.jobs if job.target == t)
        for t in ("loader-producer", "arango-connector")
    )
    assert loaded == stored > 0
    assert final.progress == 1
    assert 10 <= took <= 25, f"it took {took:.1f} s"  # 20 s, and something for a busy machine


async def test_the_realtime_pipeline_runs_until_it_is_stopped(server: ServerProcess, client: AsyncClient) -> None:
    """All seven workers run; a graceful stop ends them by their own doing, and STOPPED means that none is left."""
    started = await client.start_queue(json.loads(payload("realtime").read_text()))
    queue_id = started.queue.queue_id
    async for frame in client.watch(queue_id):
        if all(job.state == queue_pb2.JOB_STATE_RUNNING and job.records_written for job in frame.queue.jobs):
            break
    assert len(server.worker_pids()) == JOBS["realtime"]
    queue = await client.stop_queue(queue_id, wait=True, reason="seen enough", timeout=30)
    assert queue.state == queue_pb2.QUEUE_STATE_STOPPED
    assert queue.stop_reason == "seen enough"
    assert not server.worker_pids()
    assert {job.exit_code for job in queue.jobs} == {0}, "they obeyed the command; none had to be killed"
    assert {job.state_reason.code for job in queue.jobs} == {queue_pb2.REASON_STOPPED_BY_USER}
