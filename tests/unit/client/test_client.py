"""The calls of `AsyncClient`, over real gRPC."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details

from queue_manager.client import (
    AsyncClient,
    Backoff,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from queue_manager.client.channel import MAX_REQUESTED_BY, is_loopback, resolve_target
from queue_manager.v1.queue_pb2 import FailurePolicy, Queue, QueueState
from queue_manager.v1.service_pb2 import JobRequest, StartQueueRequest, StopMode
from queue_manager.v1.target_pb2 import Target

from .conftest import Pauses, until
from .fake_server import Failure, FakeServer, Journal, scripted_journal

EXAMPLES = Path(__file__).parents[3] / "examples"
PAYLOAD: dict[str, Any] = {"symbol": "BTCUSDT", "requests": [{"target": "loader-producer", "type": "api_trades"}]}
UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "restarting")


class TestStart:
    @pytest.mark.parametrize("name", ["historical-pipeline.json", "realtime-pipeline.json"])
    async def test_the_users_own_payloads_are_taken(self, name: str, client: AsyncClient, server: FakeServer) -> None:
        """Field by field as they stand in the file."""
        payload = json.loads((EXAMPLES / name).read_text())
        started = await client.start_queue(payload)
        (request,) = server.requests("StartQueue")
        assert started.created
        assert request.symbol == payload["symbol"]
        assert request.time_range == payload["time_range"]
        assert [(job.target, job.type) for job in request.requests] == [
            (job["target"], job["type"]) for job in payload["requests"]
        ]

    async def test_a_message_is_taken_and_left_as_it_is(self, client: AsyncClient, server: FakeServer) -> None:
        message = StartQueueRequest(symbol="ETHUSDT", requests=[JobRequest(target="visualizer")])
        await client.start_queue(message, labels={"a": "b"})
        assert server.requests("StartQueue")[0].labels == {"a": "b"}
        assert not message.labels
        assert not message.request_id

    async def test_the_keywords_go_over_the_payload(self, client: AsyncClient, server: FakeServer) -> None:
        await client.start_queue(
            {**PAYLOAD, "labels": {"team": "research", "run": "1"}, "request_id": "theirs", "startTimeout": "5s"},
            request_id="mine",
            labels={"run": "2"},
            validate_only=True,
            failure_policy=FailurePolicy.FAILURE_POLICY_STOP_ALL,
            start_timeout=timedelta(minutes=2),
        )
        (request,) = server.requests("StartQueue")
        assert request.request_id == "mine"
        assert request.labels == {"team": "research", "run": "2"}
        assert request.validate_only
        assert request.failure_policy == FailurePolicy.FAILURE_POLICY_STOP_ALL
        assert request.start_timeout == Duration(seconds=120)

    async def test_a_request_id_is_made_up_for_each_call(self, client: AsyncClient, server: FakeServer) -> None:
        await client.start_queue(PAYLOAD)
        await client.start_queue(PAYLOAD)
        await client.start_queue({**PAYLOAD, "request_id": "theirs"})
        ids = [request.request_id for request in server.requests("StartQueue")]
        assert all(ids)
        assert ids[0] != ids[1]
        assert ids[2] == "theirs"

    async def test_a_retry_has_the_same_request_id(self, client: AsyncClient, server: FakeServer) -> None:
        """Else an answer that was lost would start a second queue."""
        server.failures["StartQueue"].extend([UNAVAILABLE, UNAVAILABLE])
        await client.start_queue(PAYLOAD)
        ids = [request.request_id for request in server.requests("StartQueue")]
        assert len(ids) == 3
        assert len(set(ids)) == 1
        assert len(server.journals) == 1


@pytest.mark.parametrize(
    ("payload", "violations"),
    [
        ({"symbl": "X"}, {"symbl": "did you mean 'symbol'?"}),
        ({"zzz": 1}, {"zzz": "known are symbol, time_range, requests"}),
        ({"symbol": None, "requests": 1}, {"requests": "must be a list, not 1"}),
        ({"requests": None, "symbol": 1}, {"symbol": "must be a string, not 1"}),
        ({"symbol": 5}, {"symbol": "must be a string, not 5"}),
        ({"requests": {"target": "x"}}, {"requests": "must be a list, not an object"}),
        ({"requests": ["x"]}, {"requests[0]": "must be an object, not 'x'"}),
        ({"requests": [None]}, {"requests[0]": "must be an object, not null"}),
        (
            {"requests": [{"target": "x"}, {"targt": "x", "type": 5, "collection_inputs": "a"}]},
            {
                "requests[1].targt": "did you mean 'target'?",
                "requests[1].type": "must be a string, not 5",
                "requests[1].collection_inputs": "must be a list, not 'a'",
            },
        ),
        ({"requests": [{"collection_inputs": ["a", 1]}]}, {"requests[0].collection_inputs[1]": "must be a string"}),
        ({"requests": [{"timeout": "90"}]}, {"requests[0].timeout": 'must be seconds with an s, as in "90s"'}),
        ({"requests": [{"depends_on": [{"job": 1}]}]}, {"requests[0].depends_on[0].job": "must be a string, not 1"}),
        ({"requests": [{"parameters": {"limit": 5}}]}, {"requests[0].parameters.limit": "must be a string in quotes"}),
        ({"labels": ["a"]}, {"labels": "must be an object of strings"}),
        ({"labels": {"a": None}}, {"labels.a": "must be a string in quotes, not null"}),
        ({"failure_policy": "STOP"}, {"failure_policy": "must be one of FAILURE_POLICY_KEEP_GOING"}),
        ({"validate_only": "yes"}, {"validate_only": "must be true or false, not 'yes'"}),
        ({"start_timeout": 5}, {"start_timeout": "must be seconds with an s"}),
        ({1: 2}, {"1": "is no field of a start request"}),
        ({"symbol": "\ud800"}, {"symbol": "must be a string"}),
        (["symbol"], {"payload": "must be an object, not a list"}),
    ],
)
async def test_a_payload_that_does_not_fit_names_every_field(
    payload: Any, violations: dict[str, str], client: AsyncClient, server: FakeServer
) -> None:
    """All at once, each with what would be right, and the server isn't bothered."""
    with pytest.raises(InvalidRequest) as caught:
        await client.start_queue(payload)
    assert [violation.field for violation in caught.value.violations] == list(violations)
    for violation in caught.value.violations:
        assert violations[violation.field] in violation.description
    assert caught.value.reason == "INVALID_PAYLOAD"
    assert not server.calls


class TestRetries:
    async def test_unavailable_is_tried_again_with_growing_pauses(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        queue = server.add(scripted_journal())
        server.failures["GetQueue"].extend([UNAVAILABLE] * 3)
        assert await client.get_queue(queue.queue_id) == queue
        assert pauses.taken == pytest.approx([0.2, 0.4, 0.8])

    async def test_attempts_are_bounded(self, client: AsyncClient, server: FakeServer) -> None:
        server.failures["ListQueues"].extend([UNAVAILABLE] * 10)
        with pytest.raises(Unavailable):
            await client.list_page()
        assert len(server.calls) == 5

    async def test_only_unavailable_is_tried_again(self, client: AsyncClient, server: FakeServer) -> None:
        server.failures["StopQueue"].append(Failure(grpc.StatusCode.FAILED_PRECONDITION))
        with pytest.raises(FailedPrecondition):
            await client.stop_queue("wf-x")
        assert len(server.calls) == 1

    async def test_the_servers_own_pause_is_honoured(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        retry = details.RetryInfo(retry_delay=Duration(seconds=3))
        server.failures["ListTargets"].append(Failure(grpc.StatusCode.UNAVAILABLE, "store", (retry,)))
        await client.list_targets()
        assert pauses.taken == pytest.approx([3.2])

    async def test_no_pause_goes_beyond_the_deadline(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        """It is known now that there is no time left then, so the error comes now."""
        retry = details.RetryInfo(retry_delay=Duration(seconds=30))
        server.failures["GetQueue"].append(Failure(grpc.StatusCode.UNAVAILABLE, "store", (retry,)))
        with pytest.raises(Unavailable) as caught:
            await client.get_queue("wf-x", timeout=5.0)
        assert caught.value.retry_after == 30.0
        assert not pauses.taken

    async def test_the_timeout_is_for_all_attempts_together(self, server: FakeServer) -> None:
        """The second attempt has what the first one left."""
        server.add(scripted_journal("wf-x"))
        server.failures["GetQueue"].append(UNAVAILABLE)
        async with AsyncClient(
            server.address, timeout=5.0, backoff=Backoff(initial=0.5, uniform=lambda _, high: high)
        ) as client:
            await client.get_queue("wf-x")
        assert server.deadlines["GetQueue"] < 4.8

    @pytest.mark.parametrize("late", [0.0, 0.5])
    async def test_what_is_known_is_told_where_no_time_is_left_for_more(self, late: float, server: FakeServer) -> None:
        """The last attempt begins shortly before the end, or after it, because the timer was late."""

        async def sleep(pause: float) -> None:
            server.answer_delay = 30.0
            await asyncio.sleep(pause + late)

        server.failures["GetQueue"].append(UNAVAILABLE)
        backoff = Backoff(initial=0.6, uniform=lambda _, high: high, sleep=sleep)
        async with AsyncClient(server.address, timeout=1.0, backoff=backoff) as client:
            with pytest.raises(Unavailable, match="restarting") as caught:
                await client.get_queue("wf-x")
        assert caught.value.undecided
        assert len(server.calls) == (1 if late else 2)

    async def test_a_server_that_is_back_and_does_not_answer_is_told(self, server: FakeServer) -> None:
        """It had its time."""

        async def sleep(_: float) -> None:
            server.answer_delay = 30.0

        server.failures["GetQueue"].append(UNAVAILABLE)
        async with AsyncClient(server.address, timeout=1.0, backoff=Backoff(sleep=sleep)) as client:
            with pytest.raises(DeadlineExceeded) as caught:
                await client.get_queue("wf-x")
        assert caught.value.undecided

    def test_pauses_grow_to_their_maximum_and_are_jittered(self) -> None:
        """Watchers of a server that restarts must not all come back at once."""
        jittered = Backoff()
        assert all(0.0 <= jittered.pause(attempt) <= 5.0 for attempt in range(2000))
        assert len({jittered.pause(3) for _ in range(20)}) > 1


class TestStop:
    async def test_its_words_arrive(self, client: AsyncClient, server: FakeServer) -> None:
        queue = server.add(Journal(Queue(queue_id="wf-x", state=QueueState.QUEUE_STATE_RUNNING)))
        answer = await client.stop_queue(queue.queue_id, grace_period=1.5, reason="wrong month")
        (request,) = server.requests("StopQueue")
        assert answer.state == QueueState.QUEUE_STATE_STOPPING
        assert (request.mode, request.wait, request.reason) == (StopMode.STOP_MODE_GRACEFUL, False, "wrong month")
        assert request.grace_period == Duration(seconds=1, nanos=500_000_000)

    @pytest.mark.parametrize(
        ("options", "least", "most"),
        [
            ({}, 5, 10),
            ({"wait": True}, 55, 60),
            ({"wait": True, "grace_period": 600}, 625, 630),
            ({"wait": True, "mode": StopMode.STOP_MODE_FORCE}, 25, 30),
            ({"wait": True, "timeout": 3}, 0, 3),
        ],
    )
    async def test_a_stop_that_waits_has_time_for_it(
        self, options: dict[str, Any], least: float, most: float, client: AsyncClient, server: FakeServer
    ) -> None:
        server.add(scripted_journal("wf-x"))
        await client.stop_queue("wf-x", **options)
        # A deadline travels in whole units of its size, rounded up.
        assert least <= server.deadlines["StopQueue"] <= most + 1


class TestReading:
    async def test_an_unknown_queue_is_not_found(self, client: AsyncClient) -> None:
        with pytest.raises(NotFound) as caught:
            await client.get_queue("wf-none")
        assert caught.value.metadata["resource"] == "wf-none"

    async def test_a_list_goes_over_all_pages_and_no_further_than_it_is_read(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        for number in range(7):
            server.add(scripted_journal(f"wf-{number}"))
        ids = [queue.queue_id async for queue in client.list_queues(page_size=3)]
        assert ids == [f"wf-{number}" for number in range(6, -1, -1)]
        assert [request.page_token for request in server.requests("ListQueues")] == ["", "3", "6"]
        server.calls.clear()
        async for _ in client.list_queues(page_size=3):
            break
        assert len(server.calls) == 1

    async def test_the_filters_arrive(self, client: AsyncClient, server: FakeServer) -> None:
        moment = datetime(2026, 11, 24, 7, tzinfo=UTC)
        await client.list_page(
            states=[QueueState.QUEUE_STATE_RUNNING],
            symbol="BTCUSDT",
            target="visualizer",
            label_selector="team=research",
            created_after=moment,
            created_before=moment + timedelta(hours=1),
            page_size=7,
            page_token="3",
        )
        (request,) = server.requests("ListQueues")
        assert list(request.states) == [QueueState.QUEUE_STATE_RUNNING]
        assert (request.symbol, request.target, request.label_selector) == ("BTCUSDT", "visualizer", "team=research")
        assert request.created_after.ToDatetime(UTC) == moment
        assert request.created_before.ToDatetime(UTC) == moment + timedelta(hours=1)
        assert (request.page_size, request.page_token) == (7, "3")

    async def test_a_time_without_a_zone_is_refused(self, client: AsyncClient) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            await client.list_page(created_after=datetime(2026, 11, 24))  # noqa: DTZ001

    async def test_targets(self, client: AsyncClient, server: FakeServer) -> None:
        server.targets.append(Target(name="visualizer"))
        assert [target.name for target in await client.list_targets()] == ["visualizer"]


class TestWhoCalls:
    async def test_every_call_says_who(self, client: AsyncClient, server: FakeServer) -> None:
        """user@host, so that a queue's history is of use."""
        server.add(scripted_journal("wf-x"))
        await client.list_targets()
        [frame async for frame in client.watch("wf-x")]
        for _, _, metadata in server.calls:
            assert re.fullmatch(r"[^@]+@[^@]+", metadata["x-requested-by"])

    @pytest.mark.parametrize(
        ("given", "sent"),
        [("cron", "cron"), ("Zoë\n", "Zo?"), ("x" * 999, "x" * MAX_REQUESTED_BY), ("", None)],
    )
    async def test_the_callers_own_name_is_made_fit_for_metadata(
        self, given: str, sent: str | None, server: FakeServer
    ) -> None:
        async with AsyncClient(server.address, requested_by=given) as client:
            await client.list_targets()
        assert server.calls[0][2].get("x-requested-by") == sent

    def test_the_address_comes_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("QM_SERVER", raising=False)
        assert AsyncClient().target == "127.0.0.1:50051"
        monkeypatch.setenv("QM_SERVER", "qm.example:1234")
        assert AsyncClient().target == "qm.example:1234"
        assert resolve_target("other:1") == "other:1"

    @pytest.mark.parametrize(
        ("target", "loopback"),
        [
            ("127.0.0.1:1", True),
            ("localhost:1", True),
            ("[::1]:1", True),
            ("dns:///localhost:1", True),
            ("qm:1", False),
        ],
    )
    def test_this_machine_is_known(self, target: str, loopback: bool) -> None:
        """A proxy of the environment isn't asked for it."""
        assert is_loopback(target) is loopback


class TestLifecycle:
    async def test_a_client_that_is_not_open_says_so(self) -> None:
        client = AsyncClient("127.0.0.1:1")
        with pytest.raises(RuntimeError, match="async with"):
            await client.list_targets()
        with pytest.raises(RuntimeError, match="async with"):
            await anext(client.watch("wf-x"))
        async with client:
            with pytest.raises(RuntimeError, match="open already"):
                await client.__aenter__()

    async def test_closing_ends_a_call_under_way(self, client: AsyncClient, server: FakeServer) -> None:
        """Not with a cancellation, which would look like somebody else's."""
        server.answer_delay = 30.0
        call = asyncio.create_task(client.get_queue("wf-x"))
        await until(lambda: server.calls)
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await call

    async def test_closing_ends_a_call_also_where_the_client_is_opened_again(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        """At once: the call belongs to the connection that was closed."""
        server.answer_delay = 30.0
        call = asyncio.create_task(client.get_queue("wf-x"))
        await until(lambda: server.calls)
        await client.close()
        async with client:
            with pytest.raises(RuntimeError, match="closed"):
                await call

    async def test_closing_ends_a_call_between_two_attempts(self) -> None:
        """With the same error, and not grpc's."""
        pausing, go_on = asyncio.Event(), asyncio.Event()

        async def sleep(_: float) -> None:
            pausing.set()
            await go_on.wait()

        async with AsyncClient("127.0.0.1:1", backoff=Backoff(sleep=sleep)) as client:
            call = asyncio.create_task(client.get_queue("wf-x"))
            await pausing.wait()
        go_on.set()
        with pytest.raises(RuntimeError, match="closed"):
            await call

    async def test_a_cancelled_task_stays_cancelled(self, client: AsyncClient, server: FakeServer) -> None:
        server.answer_delay = 30.0
        call = asyncio.create_task(client.get_queue("wf-x"))
        await until(lambda: server.calls)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    async def test_it_finds_a_server_that_came_back(self, backoff: Backoff) -> None:
        """On the same address, within the pauses of its own retries."""
        async with FakeServer() as first:
            address = first.address
            async with AsyncClient(address, backoff=Backoff(initial=0.1, maximum=0.2, attempts=50)) as client:
                await client.list_targets()
                await first.__aexit__()
                async with FakeServer(listen=address):
                    await client.list_targets()
