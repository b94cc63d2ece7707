"""Wrong use of `Client` and of `TestServer`."""

from __future__ import annotations

from queue_manager.client import Client
from queue_manager.client.testing import TestServer
from queue_manager.v1.queue_pb2 import JobState, QueueState
from queue_manager.v1.service_pb2 import StopMode


async def as_if_it_were_asynchronous(client: Client) -> None:
    await client.get_queue("wf-x")  # E: [misc]
    await client.start_queue({})  # E: [misc]
    async for _ in client.watch("wf-x"):  # E: [attr-defined]
        pass
    async for _ in client.list_queues():  # E: [attr-defined]
        pass
    async with Client() as opened:  # E: [attr-defined] [attr-defined]
        print(opened)


def arguments(client: Client) -> None:
    client.get_queue(5)  # E: [arg-type]
    client.start_queue(["BTCUSDT"])  # E: [arg-type]
    client.stop_queue("wf-x", mode=JobState.JOB_STATE_STOPPED)  # E: [arg-type]
    client.stop_queue("wf-x", StopMode.STOP_MODE_FORCE)  # E: [call-arg]
    client.list_queues(symbl="BTCUSDT")  # E: [call-arg]
    client.list_page(states=[JobState.JOB_STATE_RUNNING])  # E: [list-item]
    client.watch("wf-x", heart_beat=5)  # E: [call-arg]


def results(client: Client) -> None:
    queue: QueueState.ValueType = client.get_queue("wf-x")  # E: [assignment]
    client.get_queue("wf-x").job  # E: [attr-defined]
    client.list_page()[0]  # E: [index]
    print(queue, [frame.state for frame in client.watch("wf-x")])  # E: [attr-defined]


async def testing(server: TestServer) -> None:
    server.report("wf-x", "visualizer", status="done")  # E: [arg-type]
    server.report("wf-x", "visualizer", records=5)  # E: [call-arg]
    server.report("wf-x")  # E: [call-arg]
    server.fail("wf-x", "visualizer", 3)  # E: [call-arg]
    server.fail("wf-x", "visualizer", exit_code="3")  # E: [arg-type]
    await server.finish("wf-x", "visualizer")  # E: [func-returns-value] [misc]
    async with server.outage():  # E: [attr-defined] [attr-defined]
        pass
    with server.async_client() as client:  # E: [attr-defined] [attr-defined]
        print(client)
    TestServer(50051)  # E: [call-arg]
