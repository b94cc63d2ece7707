"""What befalls the real broker and its topics while queues run: no event is missing or out of order, nothing ends by it.

The first two tests break the broker of KAFKA_BOOTSTRAP_SERVERS, by commands that the environment has: BROKER_PAUSE and
BROKER_RESUME (SIGSTOP and SIGCONT), BROKER_KILL and BROKER_RESTART.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from queue_manager.client import AsyncClient, QueueManagerError
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_server import PLAIN, access, own_topics, payload, replayed
from tests.support.breaking import Breaking

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(300),
]

broker = Breaking("BROKER")


async def records_of(client: AsyncClient, queue_id: str) -> dict[str, int]:
    """By job: what its worker has told of."""
    return {job.name: job.records_written for job in (await client.get_queue(queue_id)).jobs}


async def until_all_have_grown(client: AsyncClient, queue_id: str, before: dict[str, int]) -> None:
    """Wait until every worker has told of more than that."""
    async with asyncio.timeout(120):
        while True:
            now = await records_of(client, queue_id)
            if all(now[job] > before.get(job, 0) for job in now):
                return
            await asyncio.sleep(0.2)


async def unready(client: AsyncClient) -> None:
    """Wait until the server says that it cannot reach Kafka."""
    async with asyncio.timeout(60):
        while True:
            with suppress(QueueManagerError):
                found = await client.diagnose()
                if any(finding.part == "bus" for finding in found.findings):
                    return
            await asyncio.sleep(0.2)


@pytest.mark.parametrize(("down", "up", "seconds"), [("PAUSE", "RESUME", 60.0), ("KILL", "RESTART", 15.0)])
@broker.needed
async def test_a_broker_that_is_away(tmp_path: Path, down: str, up: str, seconds: float) -> None:
    """Workers run on; a queue that is started meanwhile is recorded, and launched when the broker is back."""
    topics = own_topics()
    async with (
        ServerProcess(tmp_path, **access(), **topics) as server,
        AsyncClient(server.address, timeout=30) as client,
    ):
        first = (await client.start_queue(payload("realtime"))).queue.queue_id
        await until_all_have_grown(client, first, {})
        began = asyncio.get_running_loop().time()
        await broker.order(down)
        try:
            await unready(client)
            second = (await client.start_queue(payload("historical"))).queue.queue_id
            assert (await client.get_queue(first)).state == queue_pb2.QUEUE_STATE_RUNNING
            await asyncio.sleep(max(0.0, began + seconds - asyncio.get_running_loop().time()))
            before = await records_of(client, first)
        finally:
            await broker.order(up)
        await until_all_have_grown(client, first, before)
        async for frame in client.watch(second):
            last = frame.queue
        assert last.state == queue_pb2.QUEUE_STATE_FINISHED, last
        assert {job.attempt for job in last.jobs} == {1}
        stopped = await client.stop_queue(first, grace_period=60, wait=True, timeout=120)
        assert stopped.state == queue_pb2.QUEUE_STATE_STOPPED
        assert await server.terminate() == 0
    assert await replayed(topics, second, "finished") == {job.name: "finished" for job in last.jobs}
    assert set((await replayed(topics, first, "stopped")).values()) == {"stopped"}


async def test_topics_that_are_deleted_are_made_again_and_read_from_their_start(tmp_path: Path) -> None:
    """Offsets begin at nought, and what comes is no repetition of what was there."""
    topics = own_topics()
    async with (
        ServerProcess(tmp_path, **access(), **topics) as server,
        AsyncClient(server.address, timeout=30) as client,
    ):
        queue_id = (await client.start_queue(payload("realtime"))).queue.queue_id
        await until_all_have_grown(client, queue_id, {})
        admin = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
        await admin.start()
        await admin.delete_topics([topics["QUEUE_EVENTS_TOPIC"], topics["QUEUE_CONTROL_TOPIC"]])
        await admin.close()
        await asyncio.sleep(3)  # whatever was under way has come
        await until_all_have_grown(client, queue_id, await records_of(client, queue_id))
        stopped = await client.stop_queue(queue_id, grace_period=60, wait=True, timeout=120)
        assert stopped.state == queue_pb2.QUEUE_STATE_STOPPED
        assert {job.exit_code for job in stopped.jobs} == {0}
        assert await server.terminate() == 0
