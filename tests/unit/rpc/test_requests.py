"""Reading requests: every violation of the small ones, all at once, and a start exactly as its caller wrote it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.server.application.dead_letters import ReplayRequest
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.errors import InvalidRequest
from queue_manager.server.domain.model import (
    MESSAGE_LIMIT,
    DependencyCondition,
    FailurePolicy,
    QueueState,
    StopMode,
)
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest
from queue_manager.server.rpc.requests import (
    DEFAULT_PAGE,
    StopWish,
    check_queue_id,
    letters_request,
    list_request,
    replay_request,
    start_request,
    stop_request,
    watch_request,
)
from queue_manager.v1 import queue_pb2, service_pb2
from tests.unit.domain.samples import accepted

LONG_ID = "x" * 254


def violated(read: Callable[..., object], message: Message | str) -> list[str]:
    """The fields that a request breaks the rules of, in order."""
    with pytest.raises(InvalidRequest) as refused:
        read(message)
    assert all(violation.description for violation in refused.value.violations)
    return [violation.field for violation in refused.value.violations]


# --- StopQueue --------------------------------------------------------------------------------------------------------


def stop(**fields: object) -> service_pb2.StopQueueRequest:
    """A stop that is in order unless told otherwise."""
    return service_pb2.StopQueueRequest(**{"queue_id": "wf-1", **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ({}, StopWish(StopMode.GRACEFUL, None)),
        ({"mode": service_pb2.STOP_MODE_GRACEFUL}, StopWish(StopMode.GRACEFUL, None)),
        ({"mode": service_pb2.STOP_MODE_FORCE}, StopWish(StopMode.FORCE, None)),
        ({"grace_period": Duration()}, StopWish(StopMode.GRACEFUL, 0.0)),
        ({"grace_period": Duration(seconds=1, nanos=500_000_000)}, StopWish(StopMode.GRACEFUL, 1.5)),
        ({"grace_period": Duration(seconds=86400)}, StopWish(StopMode.GRACEFUL, 86400.0)),
        ({"reason": "x" * MESSAGE_LIMIT}, StopWish(StopMode.GRACEFUL, None)),
    ],
)
def test_a_stop_is_read(fields: dict[str, object], wish: StopWish) -> None:
    """GRACEFUL by default; 0 to 24 hours."""
    assert stop_request(stop(**fields)) == wish


@pytest.mark.parametrize(
    ("fields", "fields_broken"),
    [
        ({"queue_id": ""}, ["queue_id"]),
        ({"queue_id": LONG_ID}, ["queue_id"]),
        ({"mode": 7}, ["mode"]),
        ({"grace_period": Duration(seconds=-1)}, ["grace_period"]),
        ({"grace_period": Duration(seconds=86401)}, ["grace_period"]),
        ({"mode": service_pb2.STOP_MODE_FORCE, "grace_period": Duration(seconds=1)}, ["grace_period"]),
        ({"reason": "ж" * (MESSAGE_LIMIT // 2 + 1)}, ["reason"]),
        (
            {"queue_id": "", "mode": 7, "grace_period": Duration(seconds=-1), "reason": "x" * 5000},
            ["queue_id", "mode", "grace_period", "reason"],
        ),
    ],
)
def test_a_stop_that_breaks_rules_is_refused_with_all_of_them(
    fields: dict[str, object], fields_broken: list[str]
) -> None:
    """In the order of the request."""
    assert violated(stop_request, stop(**fields)) == fields_broken


# --- ListQueues -------------------------------------------------------------------------------------------------------


def listing(**fields: object) -> service_pb2.ListQueuesRequest:
    """A listing."""
    return service_pb2.ListQueuesRequest(**fields)  # type: ignore[arg-type]


def test_a_listing_without_a_filter_is_of_all_queues() -> None:
    """50 on a page."""
    assert list_request(listing()) == (QueueFilter(), DEFAULT_PAGE)


def test_a_listing_is_read() -> None:
    """Every field of its filter."""
    query, size = list_request(
        listing(
            page_size=500,
            states=[queue_pb2.QUEUE_STATE_RUNNING, queue_pb2.QUEUE_STATE_FAILED],
            symbol="btcusdt",
            target="loader-producer",
            label_selector="team=core, env , empty=",
            created_after=Timestamp(seconds=10, nanos=500_000_000),
            created_before=Timestamp(seconds=20),
        )
    )
    assert size == 500
    assert query == QueueFilter(
        states=frozenset({QueueState.RUNNING, QueueState.FAILED}),
        symbol="BTCUSDT",
        target="loader-producer",
        labels={"team": "core", "env": None, "empty": ""},
        created_after=10.5,
        created_before=20.0,
    )


@pytest.mark.parametrize(
    ("fields", "fields_broken"),
    [
        ({"page_size": -1}, ["page_size"]),
        ({"page_size": 501}, ["page_size"]),
        ({"states": [queue_pb2.QUEUE_STATE_RUNNING, 99]}, ["states[1]"]),
        ({"states": [queue_pb2.QUEUE_STATE_UNSPECIFIED]}, ["states[0]"]),
        ({"label_selector": "a!=b"}, ["label_selector"]),
        ({"label_selector": "=b"}, ["label_selector"]),
        ({"label_selector": "a=b,,c"}, ["label_selector"]),
        ({"label_selector": "a=b,a=c"}, ["label_selector"]),
        ({"label_selector": ",".join(f"k{n}" for n in range(17))}, ["label_selector"]),
        ({"label_selector": "!,?"}, ["label_selector", "label_selector"]),
        ({"created_after": Timestamp(seconds=5), "created_before": Timestamp(seconds=5)}, ["created_before"]),
        (
            {
                "page_size": 501,
                "states": [98, 99],
                "label_selector": "!",
                "created_after": Timestamp(seconds=6),
                "created_before": Timestamp(seconds=5),
            },
            ["page_size", "states[0]", "states[1]", "created_before", "label_selector"],
        ),
    ],
)
def test_a_listing_that_breaks_rules_is_refused_with_all_of_them(
    fields: dict[str, object], fields_broken: list[str]
) -> None:
    """Each with its path."""
    assert sorted(violated(list_request, listing(**fields))) == sorted(fields_broken)


# --- WatchQueue, GetQueue ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "heartbeat"),
    [
        ({}, None),
        ({"after_revision": 0}, None),
        ({"heartbeat_interval": Duration(seconds=1)}, 1.0),
        ({"heartbeat_interval": Duration(seconds=3600)}, 3600.0),
    ],
)
def test_a_watch_is_read(fields: dict[str, object], heartbeat: float | None) -> None:
    """The heartbeat is the server's where the caller does not say."""
    assert watch_request(service_pb2.WatchQueueRequest(queue_id="wf-1", **fields)) == heartbeat  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "fields_broken"),
    [
        ({"queue_id": ""}, ["queue_id"]),
        ({"after_revision": -1}, ["after_revision"]),
        ({"heartbeat_interval": Duration(nanos=999_999_999)}, ["heartbeat_interval"]),
        ({"heartbeat_interval": Duration(seconds=3601)}, ["heartbeat_interval"]),
        (
            {"queue_id": LONG_ID, "after_revision": -1, "heartbeat_interval": Duration()},
            ["queue_id", "after_revision", "heartbeat_interval"],
        ),
    ],
)
def test_a_watch_that_breaks_rules_is_refused_with_all_of_them(
    fields: dict[str, object], fields_broken: list[str]
) -> None:
    """In the order of the request."""
    message = service_pb2.WatchQueueRequest(**{"queue_id": "wf-1", **fields})  # type: ignore[arg-type]
    assert violated(watch_request, message) == fields_broken


def test_a_queue_id_must_be_there_and_can_only_be_so_long() -> None:
    """What cannot be one is not looked up."""
    check_queue_id("wf-1")
    assert violated(check_queue_id, "") == ["queue_id"]
    assert violated(check_queue_id, LONG_ID) == ["queue_id"]


# --- StartQueue -------------------------------------------------------------------------------------------------------


def test_a_start_is_read_as_its_caller_wrote_it() -> None:
    """Every field; what was not set is left to the defaults."""
    message = service_pb2.StartQueueRequest(
        symbol="BTCUSDT",
        time_range="2024-06-01:2024-06-30",
        requests=[
            service_pb2.JobRequest(
                target="t",
                type="y",
                interval="5m",
                collection_inputs=["a", "b"],
                collection_output="c",
                graph_collection="g",
                model_output="m",
                inference_interval="1m",
                source="s",
                collection_name="n",
                image="i",
                parameters={"limit": "5"},
                depends_on=[
                    queue_pb2.Dependency(job="other"),
                    queue_pb2.Dependency(job="third", condition=queue_pb2.DEPENDENCY_CONDITION_STARTED),
                ],
                timeout=Duration(seconds=90),
            ),
            service_pb2.JobRequest(target="u", type="z"),
        ],
        request_id="r-1",
        validate_only=True,
        labels={"team": "core"},
        failure_policy=queue_pb2.FAILURE_POLICY_STOP_ALL,
        start_timeout=Duration(seconds=30),
    )
    first = JobRequest(
        target="t",
        type="y",
        interval="5m",
        collection_inputs=["a", "b"],
        collection_output="c",
        graph_collection="g",
        model_output="m",
        inference_interval="1m",
        source="s",
        collection_name="n",
        image="i",
        parameters={"limit": "5"},
        depends_on=[
            DependencyRequest(job="other", condition=None),
            DependencyRequest(job="third", condition=DependencyCondition.STARTED),
        ],
        timeout=90.0,
    )
    assert start_request(message) == StartRequest(
        symbol="BTCUSDT",
        time_range="2024-06-01:2024-06-30",
        requests=[first, JobRequest(target="u", type="z")],
        request_id="r-1",
        validate_only=True,
        labels={"team": "core"},
        failure_policy=FailurePolicy.STOP_ALL,
        start_timeout=30.0,
    )
    used = {field.name for field, _ in message.ListFields()}
    assert used == {field.name for field in message.DESCRIPTOR.fields}
    used = {field.name for field, _ in message.requests[0].ListFields()}
    assert used == {field.name for field in message.requests[0].DESCRIPTOR.fields}


def test_a_number_that_is_no_enum_value_is_one_violation_among_all() -> None:
    """With its path, beside what else is wrong."""
    request = start_request(
        service_pb2.StartQueueRequest(
            symbol="?",
            requests=[
                service_pb2.JobRequest(target="loader-producer", type="ws_trades"),
                service_pb2.JobRequest(
                    target="loader-producer",
                    type="ws_depth",
                    depends_on=[queue_pb2.Dependency(job="loader-producer", condition=77)],  # type: ignore[arg-type]
                ),
            ],
            failure_policy=99,  # type: ignore[arg-type]
        )
    )
    with pytest.raises(InvalidRequest) as refused:
        accepted(request)
    fields = [violation.field for violation in refused.value.violations]
    assert fields == ["symbol", "requests[1].depends_on[0].condition", "failure_policy"]


# --- dead letters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "limit"), [(0, DEFAULT_PAGE), (1, 1), (500, 500)])
def test_a_list_of_dead_letters_is_read(size: int, limit: int) -> None:
    """50 by default."""
    assert letters_request(service_pb2.ListDeadLettersRequest(page_size=size)) == limit


@pytest.mark.parametrize("size", [-1, 501])
def test_a_page_of_dead_letters_has_a_size(size: int) -> None:
    """1 to 500."""
    assert violated(letters_request, service_pb2.ListDeadLettersRequest(page_size=size)) == ["page_size"]


@pytest.mark.parametrize(
    ("message", "read"),
    [
        (service_pb2.ReplayDeadLettersRequest(ids=["a", "b"]), ReplayRequest(ids=["a", "b"])),
        (service_pb2.ReplayDeadLettersRequest(ids=["a"] * 1000), ReplayRequest(ids=["a"] * 1000)),
        (
            service_pb2.ReplayDeadLettersRequest(all=True, topic="events", validate_only=True, force=True),
            ReplayRequest(ids=[], topic="events", validate_only=True, force=True),
        ),
    ],
)
def test_a_replay_is_read(message: service_pb2.ReplayDeadLettersRequest, read: ReplayRequest) -> None:
    """Ids, or all of a topic."""
    assert replay_request(message) == read


@pytest.mark.parametrize(
    ("fields", "violations"),
    [
        ({}, ["ids"]),
        ({"topic": "events"}, ["ids", "topic"]),
        ({"ids": ["a"], "topic": "events"}, ["topic"]),
        ({"ids": ["a"], "all": True}, ["all", "topic"]),
        ({"ids": ["a"], "all": True, "topic": "events"}, ["all"]),
        ({"all": True}, ["topic"]),
        ({"ids": ["a"] * 1001}, ["ids"]),
    ],
)
def test_what_is_wrong_with_a_replay_is_said(fields: dict[str, object], violations: list[str]) -> None:
    """All of it."""
    message = service_pb2.ReplayDeadLettersRequest(**fields)  # type: ignore[arg-type]
    assert violated(replay_request, message) == violations
