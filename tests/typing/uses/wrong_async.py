"""Wrong use of `AsyncClient`."""

from __future__ import annotations

from queue_manager.client import AsyncClient, Backoff, NotFound, QueueManagerError, Violation
from queue_manager.v1.queue_pb2 import FailurePolicy, QueueState
from queue_manager.v1.service_pb2 import GetQueueRequest, StopMode


async def a_result_that_was_not_awaited(client: AsyncClient) -> None:
    client.get_queue("wf-x")  # E: [unused-coroutine]
    client.get_queue("wf-x").state  # E: [attr-defined]
    for _ in client.list_queues():  # E: [attr-defined]
        pass
    for _ in client.watch("wf-x"):  # E: [attr-defined]
        pass
    await client.watch("wf-x")  # E: [misc]


async def a_context_of_the_other_kind() -> None:
    with AsyncClient() as client:  # E: [attr-defined] [attr-defined]
        print(client)


async def an_argument_of_another_type(client: AsyncClient) -> None:
    await client.get_queue(5)  # E: [arg-type]
    await client.get_queue(GetQueueRequest(queue_id="wf-x"))  # E: [arg-type]
    await client.get_queue("wf-x", timeout="5s")  # E: [arg-type]
    await client.stop_queue("wf-x", grace_period="30s")  # E: [arg-type]
    await client.stop_queue("wf-x", reason=None)  # E: [arg-type]
    await client.start_queue({}, labels={"run": 1})  # E: [dict-item]
    client.watch("wf-x", after_revision="3")  # E: [arg-type]
    client.watch("wf-x", on_reconnect=lambda error: None)  # E: [arg-type] [misc]
    AsyncClient(50051)  # E: [arg-type]
    AsyncClient(backoff=2.0)  # E: [arg-type]


async def an_enum_of_another_kind(client: AsyncClient) -> None:
    await client.stop_queue("wf-x", mode=QueueState.QUEUE_STATE_STOPPED)  # E: [arg-type]
    await client.stop_queue("wf-x", mode="STOP_MODE_FORCE")  # E: [arg-type]
    await client.stop_queue("wf-x", mode=2)  # E: [arg-type]
    await client.start_queue({}, failure_policy=StopMode.STOP_MODE_FORCE)  # E: [arg-type]
    await client.list_page(states=[FailurePolicy.FAILURE_POLICY_STOP_ALL])  # E: [list-item]
    await client.list_page(states=QueueState.QUEUE_STATE_RUNNING)  # E: [arg-type]


async def a_payload_of_another_type(client: AsyncClient) -> None:
    await client.start_queue('{"symbol": "BTCUSDT"}')  # E: [arg-type]
    await client.start_queue([{"symbol": "BTCUSDT"}])  # E: [arg-type]
    await client.start_queue(GetQueueRequest())  # E: [arg-type]
    await client.start_queue({1: "BTCUSDT"})  # E: [dict-item]
    await client.start_queue()  # E: [call-arg]


async def a_name_that_there_is_not(client: AsyncClient) -> None:
    await client.start_queue({}, request_ids="nightly")  # E: [call-arg]
    await client.stop_queue("wf-x", force=True)  # E: [call-arg]
    await client.list_page(symbl="BTCUSDT")  # E: [call-arg]
    client.list_queues(state=[QueueState.QUEUE_STATE_RUNNING])  # E: [call-arg]
    client.list_queues(created_after="2024-06-01")  # E: [arg-type]
    client.list_queues(page_token="x")  # E: [call-arg]
    client.restart_queue("wf-x")  # E: [attr-defined]
    AsyncClient(address="127.0.0.1:50051")  # E: [call-arg]
    Backoff(retries=3)  # E: [call-arg]


async def an_option_without_its_name(client: AsyncClient) -> None:
    await client.stop_queue("wf-x", StopMode.STOP_MODE_FORCE)  # E: [call-arg]
    await client.get_queue("wf-x", 5.0)  # E: [call-arg]
    client.watch("wf-x", 3)  # E: [call-arg]


def what_an_exception_does_not_carry(error: NotFound, violation: Violation) -> None:
    error.violations  # E: [attr-defined]
    error.status  # E: [attr-defined]
    violation.field = "symbol"  # E: [misc]
    QueueManagerError()  # E: [call-arg]
