"""Commands that come in over the bus: what they do, and what is said of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from queue_manager.server.application.core import Core
from queue_manager.server.application.ports import Message
from queue_manager.server.domain.model import Queue, QueueState
from queue_manager.server.rpc.requests import start_payload
from tests.support.event_schema import as_sent, fault

from . import EPOCH, Bus, Runner, Store, core

pytestmark = pytest.mark.virtual_time

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
PLACE = "queue-control/3@1a2b"
WRITTEN = format(round(EPOCH * 1000), "x")


class Commanded:
    """A core that is told what to do."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.core: Core = core(Store(), Runner(), self.bus)
        self.core.commands.parse = start_payload
        self._position = 0

    async def told(
        self, command: object, *, position: int | None = None, sent_at: float = EPOCH, place: str = PLACE
    ) -> dict[str, Any]:
        """Take in a command (bytes as they are); what is said of it, empty: nothing."""
        before = len(self.outcomes)
        self._position = self._position + 1 if position is None else position
        value = command if isinstance(command, bytes) else json.dumps(command).encode()
        await self.core.commands.take_in([Message(value, sent_at, place, self._position)])
        return self.outcomes[-1] if len(self.outcomes) > before else {}

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """What was said of commands."""
        return [dict(event.value) for event in self.bus.published if "command_id" in event.value]

    @property
    def queues(self) -> list[Queue]:
        """The queues that there are."""
        return [record.queue for record in self.core.records.live.values()]


@pytest.fixture
async def commanded() -> AsyncIterator[Commanded]:
    """It runs. What it says in the end keeps to docs/events.schema.json, whatever the test was about."""
    made = Commanded()
    running = asyncio.create_task(made.core.run())
    await made.core.ready.wait()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    faults = [found for event in made.bus.published if (found := fault(as_sent(event.value)))]
    assert not faults, faults[0]


def payload(name: str = "historical") -> dict[str, Any]:
    """One of the examples."""
    loaded: dict[str, Any] = json.loads((EXAMPLES / f"{name}-pipeline.json").read_text())
    return loaded


@pytest.mark.parametrize("name", ["historical", "realtime"])
async def test_a_start_is_the_payload_with_a_word_before_it(commanded: Commanded, name: str) -> None:
    """What is said names the queue, and the place of the command."""
    said = await commanded.told({"command": "start", **payload(name)})
    (queue,) = commanded.queues
    assert said["event"] == "command_accepted"
    assert (said["queue_id"], said["created"], said["producer"]) == (queue.queue_id, True, "queue-manager")
    assert said["command_id"] == said["request_id"] == queue.spec.request_id == f"queue-control:3:1:{WRITTEN}"
    assert queue.spec.requested_by == "queue-control"


async def test_a_start_that_comes_again_is_the_same_queue(commanded: Commanded) -> None:
    """By its place in the topic, or by its own request_id wherever it stands."""
    first = await commanded.told({"command": "start", **payload()}, position=7)
    again = await commanded.told({"command": "start", **payload()}, position=7)
    same = ("event_id", "queue_id", "created")
    assert [again[name] for name in same] == [first[name] for name in same]  # it may have been done before a crash
    named = {"command": "start", "request_id": "nightly", "timestamp": 1.0, **payload()}
    assert (await commanded.told(named))["created"]
    assert not (await commanded.told(named))["created"]
    other = await commanded.told({**named, "symbol": "ETHUSDT"})
    assert (other["event"], other["reason"]) == ("command_rejected", "REQUEST_ID_REUSED")
    assert len(commanded.queues) == 2


async def test_a_start_is_known_by_where_and_when_it_was_written(commanded: Commanded) -> None:
    """Also to a group that has lost its offsets; in a topic that was made again the same place is another one's."""
    first = await commanded.told({"command": "start", **payload()}, position=7)
    again = await commanded.told({"command": "start", **payload()}, position=7, place="queue-control/3@9f9f")
    assert again["queue_id"] == first["queue_id"]
    other = await commanded.told({"command": "start", **payload()}, position=7, sent_at=EPOCH + 0.001)
    assert other["queue_id"] != first["queue_id"]
    assert len(commanded.queues) == 2


async def test_a_start_that_breaks_rules_is_rejected_with_all_of_them(commanded: Commanded) -> None:
    """As StartQueue does."""
    said = await commanded.told({"command": "start", "symbol": "?", "requests": [{"target": "gnn-trianer"}]})
    assert said["event"] == "command_rejected"
    assert said["reason"] == "INVALID_REQUEST"
    assert {violation["field"] for violation in said["violations"]} >= {"symbol", "requests[0].target"}
    for fields, field in (
        ({"simbol": "BTCUSDT"}, "simbol"),
        ({"requests": [{"targett": "x"}]}, "requests[0].targett"),
        ({"symbol": 5}, "symbol"),
        ({"requests": 5}, "requests"),
    ):
        said = await commanded.told({"command": "start", "requests": [], **fields})
        assert [violation["field"] for violation in said["violations"]] == [field]
    said = await commanded.told({"command": "start"})
    assert said["event"] == "command_rejected"
    assert commanded.queues == []


@pytest.mark.parametrize("given", [{}, {"request_id": None}, {"request_id": ""}, {"requestId": None}])
async def test_a_start_without_an_id_that_is_read_again_starts_nothing_twice(
    commanded: Commanded, given: dict[str, Any]
) -> None:
    """Its place in the topic stands in for one; null and empty are none."""
    for _ in range(2):
        said = await commanded.told({"command": "start", **payload(), **given}, position=7)
        assert said["request_id"] == f"queue-control:3:7:{WRITTEN}"
    assert len(commanded.queues) == 1


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, f"queue-control:3:1:{WRITTEN}"),
        ({"request_id": "nightly"}, "nightly"),
        ({"request_id": 5}, f"queue-control:3:1:{WRITTEN}"),
    ],
    ids=["its place", "its own", "none that can be"],
)
async def test_who_wrote_a_start_finds_the_rejection_by_its_request_id(
    commanded: Commanded, given: dict[str, Any], named: str
) -> None:
    """As it finds what was accepted; other commands have none."""
    said = await commanded.told({"command": "start", "symbol": "?", "requests": [], **given})
    assert (said["event"], said["request_id"]) == ("command_rejected", named)
    assert "request_id" not in await commanded.told({"command": "stop", "queue_id": "wf-nothing", **given})


async def test_a_stop_stops(commanded: Commanded) -> None:
    """Gracefully, or by force; one of a queue that there is not is rejected."""
    queue_id = (await commanded.told({"command": "start", **payload()}))["queue_id"]
    said = await commanded.told({"command": "stop", "queue_id": queue_id, "reason": "enough", "extra": 1})
    assert (said["event"], said["queue_id"]) == ("command_accepted", queue_id)
    (queue,) = commanded.queues
    assert queue.status.stop is not None
    assert (queue.status.stop.mode, queue.status.stop.reason, queue.status.stop.by) == (
        "GRACEFUL",
        "enough",
        "queue-control",
    )
    await commanded.told({"command": "stop", "queue_id": queue_id, "mode": "force"})
    assert commanded.queues[0].status.stop is not None
    assert commanded.queues[0].status.stop.mode == "FORCE"
    assert (await commanded.told({"command": "stop", "queue_id": queue_id, "mode": "gently"}))["violations"] == [
        {"field": "mode", "description": "is no way to stop; use GRACEFUL or FORCE"}
    ]
    assert (await commanded.told({"command": "stop", "queue_id": "wf-nothing"}))["reason"] == "QUEUE_NOT_FOUND"
    assert (await commanded.told({"command": "stop"}))["event"] == "command_rejected"


@pytest.mark.parametrize("every", ["*", "all"])
async def test_a_stop_of_every_queue_is_every_queue_that_has_not_ended(commanded: Commanded, every: str) -> None:
    """The manager itself never says that."""
    for _ in range(3):
        await commanded.told({"command": "start", **payload()})
    assert (await commanded.told({"command": "stop", "queue_id": every}))["queues"] == 3
    assert {queue.status.state for queue in commanded.queues} <= {QueueState.STOPPING, QueueState.STOPPED}


async def test_a_stop_of_every_queue_leaves_those_that_came_after_it(commanded: Commanded) -> None:
    """It may be obeyed late, or once more after a crash."""
    early = (await commanded.told({"command": "start", **payload()}))["queue_id"]
    said = await commanded.told({"command": "stop", "queue_id": "*"}, sent_at=EPOCH - 60)
    assert (said["event"], said["queues"]) == ("command_accepted", 0)
    assert (await commanded.told({"command": "stop", "queue_id": "*"}, sent_at=EPOCH + 60))["queues"] == 1
    assert {queue.queue_id for queue in commanded.queues if queue.status.stop is not None} == {early}


@pytest.mark.parametrize("queue_id", [None, ["a"], "", "n" * 700_000], ids=["none", "a list", "empty", "huge"])
@pytest.mark.parametrize("command", ["stop", "ping"])
async def test_what_names_no_queue_is_rejected_with_its_field(
    commanded: Commanded, command: str, queue_id: object
) -> None:
    """And in few words, whatever stands there: the answer has to go out, too."""
    said = await commanded.told({"command": command, "queue_id": queue_id})
    assert (said["event"], [each["field"] for each in said["violations"]]) == ("command_rejected", ["queue_id"])
    assert len(json.dumps(said)) < 1000


async def test_what_is_for_the_workers_is_left_to_them(commanded: Commanded) -> None:
    """Unknown commands, and the announcements of jobs, by whoever they are."""
    announcement = {"command": "start", "queue_id": "wf-a", "target": "loader-producer", "symbol": "BTCUSDT"}
    for command in (announcement, {"command": "simulate-loading", "queue_id": "wf-a"}, {"command": 5}, {}):
        assert await commanded.told(command) == {}
    assert commanded.queues == []


async def test_what_the_manager_does_not_do_is_said(commanded: Commanded) -> None:
    """Never silence."""
    ping = await commanded.told({"command": "ping", "queue_id": "wf-a"})
    assert (ping["event"], ping["queue_id"]) == ("command_accepted", "wf-a")
    assert "workers answer" in ping["message"]
    assert (await commanded.told({"command": "retry", "queue_id": "wf-a"}))["event"] == "command_rejected"


@pytest.mark.parametrize("value", [b"\xff", b"no json", b"[1]", b"", b"[" * 100_000, b"1" * 2_000_000])
async def test_what_nobody_can_read_is_buried_and_what_follows_is_done(commanded: Commanded, value: bytes) -> None:
    """With the reason."""
    assert await commanded.told(value) == {}
    ((message, reason),) = commanded.bus.buried
    assert (message.value, message.source) == (value, PLACE)
    assert reason
    assert (await commanded.told({"command": "start", **payload()}))["created"]


async def test_a_command_waits_for_a_bus_that_is_down_and_is_done_once(commanded: Commanded) -> None:
    """It counts as done when what became of it has been said."""
    commanded.bus.down = True
    doing = asyncio.create_task(commanded.told({"command": "start", **payload()}))
    await asyncio.sleep(30)
    assert not doing.done()
    commanded.bus.down = False
    assert (await doing)["event"] == "command_accepted"
    assert len(commanded.queues) == 1
