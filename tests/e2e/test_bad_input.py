"""What callers get for what they should not have sent: the code, the field, the remedy; nothing stored or launched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from queue_manager.client import (
    AlreadyExists,
    AsyncClient,
    InvalidRequest,
    NotFound,
    OutOfRange,
    ResourceExhausted,
)
from tests.e2e.server_process import ServerProcess

LOADER = {"target": "loader-producer", "type": "api_trades"}
GOOD: dict[str, Any] = {"symbol": "BTCUSDT", "time_range": "2024-06-01:2024-06-30", "requests": [LOADER]}

CASES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "empty symbol": ({"symbol": ""}, {"symbol": ""}),
    "reversed range": ({"time_range": "2024-06-30:2024-06-01"}, {"time_range": ""}),
    "malformed range": ({"time_range": "June"}, {"time_range": "YYYY-MM-DD"}),
    "a day that does not exist": ({"time_range": "2024-02-30:2024-03-01"}, {"time_range": ""}),
    "no requests": ({"requests": []}, {"requests": ""}),
    "unknown target": (
        {"requests": [{**LOADER, "target": "loader-producr"}]},
        {"requests[0].target": "loader-producer"},
    ),
    "a type that it does not take": ({"requests": [{**LOADER, "type": "gnn_train"}]}, {"requests[0].type": ""}),
    "contradicting interval": (
        {"requests": [{**LOADER, "type": "api_candles_5m", "interval": "1m"}]},
        {"requests[0].interval": "5m"},
    ),
    "65 requests": ({"requests": [LOADER] * 65}, {"requests": "64"}),
    "too many labels": ({"labels": {f"k{n}": "v" for n in range(33)}}, {"labels": "32"}),
    "a label that is too long": ({"labels": {"k": "v" * 64}}, {'labels["k"]': "63"}),
    "a collection that ArangoDB refuses": (
        {"requests": [{**LOADER, "collection_name": "1 bad/name"}]},
        {"requests[0].collection_name": ""},
    ),
    "a dependency cycle": (
        {
            "requests": [
                {**LOADER, "depends_on": [{"job": "loader-producer-2"}]},
                {**LOADER, "depends_on": [{"job": "loader-producer"}]},
            ]
        },
        {"requests[1].depends_on": "loader-producer-2"},
    ),
    "an unknown parameter": (
        {"requests": [{**LOADER, "parameters": {"limits": "3"}}]},
        {'requests[0].parameters["limits"]': "limit"},
    ),
    "everything at once": (
        {
            "symbol": "",
            "time_range": "x",
            "requests": [{"target": "nobody"}, {**LOADER, "type": "?"}],
            "request_id": "a b",
        },
        {"symbol": "", "time_range": "", "requests[0].target": "", "requests[1].type": "", "request_id": ""},
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_start_that_breaks_rules(client: AsyncClient, case: str) -> None:
    """INVALID_ARGUMENT with every violation, each with its field and what helps; no queue is made."""
    changes, expected = CASES[case]
    with pytest.raises(InvalidRequest) as caught:
        await client.start_queue({**GOOD, **changes})
    found = {violation.field: violation.description for violation in caught.value.violations}
    for field, words in expected.items():
        matching = [text for path, text in found.items() if path.startswith(field)]
        assert matching, f"{field} is not in {found}"
        assert any(words in text for text in matching), f"{words!r} is not in {matching}"
    assert [queue async for queue in client.list_queues()] == []


async def test_calls_about_what_is_not_there_or_not_yet(client: AsyncClient) -> None:
    """Unknown queue, a revision in the future, a request_id with another body, a token of another filter."""
    started = await client.start_queue({**GOOD, "request_id": "once"})
    again = await client.start_queue({**GOOD, "request_id": "once"})
    assert again.queue.queue_id == started.queue.queue_id
    assert (started.created, again.created) == (True, False)
    with pytest.raises(AlreadyExists) as reused:
        await client.start_queue({**GOOD, "symbol": "ETHUSDT", "request_id": "once"})
    assert started.queue.queue_id in str(reused.value)
    calls: list[Callable[[], Any]] = [
        lambda: client.get_queue("wf-nobody"),
        lambda: client.stop_queue("wf-nobody"),
        lambda: anext(client.watch("wf-nobody")),
    ]
    for call in calls:
        with pytest.raises(NotFound):
            await call()
    with pytest.raises(OutOfRange):
        await anext(client.watch(started.queue.queue_id, after_revision=10**9))
    await client.start_queue(GOOD)
    page = await client.list_page(page_size=1, symbol="BTCUSDT")
    assert page.next_page_token
    with pytest.raises(InvalidRequest) as token:
        await client.list_page(page_size=1, symbol="ETHUSDT", page_token=page.next_page_token)
    assert token.value.violations[0].field == "page_token"
    assert token.value.reason == "PAGE_TOKEN_MISMATCH"


async def test_a_message_over_the_limit(server: ServerProcess, client: AsyncClient) -> None:
    """RESOURCE_EXHAUSTED, and the server goes on."""
    with pytest.raises(ResourceExhausted):
        await client.start_queue({**GOOD, "labels": {"k": "v" * 20_000_000}})
    with pytest.raises(ResourceExhausted, match="QM_MAX_MESSAGE_BYTES") as caught_by_us:
        await client.start_queue({**GOOD, "labels": {"k": "v" * 2_000_000}})
    assert caught_by_us.value.reason == "MESSAGE_TOO_LARGE"
    assert await client.list_targets()
    async with grpc.aio.insecure_channel(server.address) as channel:
        garbage: Any = channel.unary_unary("/queue_manager.v1.QueueManager/GetQueue")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await garbage(b"\xff\xff\xff")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "queue_manager.v1.GetQueueRequest" in (caught.value.details() or "")
