"""Taking in telemetry: many messages become one change, and nothing is acknowledged that is not stored."""

from __future__ import annotations

import asyncio
import json

import pytest
from msgspec.structs import replace

from queue_manager.server.application.intake import HURRY, Intake
from queue_manager.server.application.ports import Message
from tests.unit.application import EPOCH, Parts, Q

pytestmark = pytest.mark.virtual_time

OTHER = "wf-btcusdt-api-trades-20240601-zzzzzz"


class Taking(Parts):
    """An intake over records, and what it asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.woken: list[tuple[str, float]] = []
        self.buried: list[tuple[Message, str]] = []
        self.intake = Intake(
            self.records,
            wake=lambda queue_id, delay: self.woken.append((queue_id, delay)),
            bury=self._bury,
            instruments=self.counters,
            window=0.2,
        )

    async def _bury(self, message: Message, reason: str) -> None:
        self.buried.append((message, reason))

    def take(self, queue_id: str = Q) -> list[str]:
        """What a step of the queue would apply; it is stored."""
        batch = self.intake.take(queue_id)
        if batch is None:
            return []
        self.intake.stored(batch)
        return [report.status for report in batch.reports]


async def opened() -> Taking:
    """With one queue, and open."""
    taking = Taking()
    await taking.begin()
    taking.intake.open()
    return taking


def says(status: str, queue_id: str | None = Q, **fields: object) -> Message:
    """A message of a worker."""
    message = {"status": status, **({"queue_id": queue_id} if queue_id else {}), **fields}
    return Message(json.dumps(message).encode(), EPOCH)


async def test_many_messages_become_one_change() -> None:
    """One step is asked for, after the window; it gets them all, in their order."""
    taking = await opened()
    for number in range(50):
        taking.intake.telemetry([says(f"s{2 * number}"), says(f"s{2 * number + 1}")])
    assert taking.woken == [(Q, 0.2)]
    assert taking.take() == [f"s{number}" for number in range(100)]
    assert taking.counters.counts["accepted"] == 100
    assert taking.take() == []


async def test_each_queue_has_a_buffer_of_its_own() -> None:
    """And its own step."""
    taking = await opened()
    await taking.begin(OTHER)
    taking.intake.telemetry([says("a"), says("b", OTHER), says("c")])
    assert taking.woken == [(Q, 0.2), (OTHER, 0.2)]
    assert (taking.take(), taking.take(OTHER)) == (["a", "c"], ["b"])


async def test_what_comes_after_a_step_took_the_buffer_asks_for_another() -> None:
    """The buffer begins anew."""
    taking = await opened()
    taking.intake.telemetry([says("a")])
    assert taking.take() == ["a"]
    taking.intake.telemetry([says("b")])
    assert taking.woken == [(Q, 0.2), (Q, 0.2)]
    assert taking.take() == ["b"]


async def test_a_flood_does_not_wait_for_the_window() -> None:
    """The step is hurried once the buffer is large."""
    taking = await opened()
    taking.intake.telemetry([says("loading")] * (HURRY - 1))
    assert taking.woken == [(Q, 0.2)]
    taking.intake.telemetry([says("loading")])
    assert taking.woken == [(Q, 0.2), (Q, 0.0)]


async def test_nothing_is_acknowledged_that_is_not_stored() -> None:
    """The sender's position moves on only when every queue that its messages touched is stored."""
    taking = await opened()
    await taking.begin(OTHER)
    done = asyncio.ensure_future(taking.intake.telemetry([says("a"), says("b", OTHER)]))
    await asyncio.sleep(1)
    assert not done.done()
    taking.take()
    await asyncio.sleep(1)
    assert not done.done()
    taking.take(OTHER)
    await asyncio.wait_for(done, 1)


async def test_what_could_not_be_stored_goes_back_before_what_has_come_since() -> None:
    """Order is kept, and both senders are acknowledged when it is stored at last."""
    taking = await opened()
    first = asyncio.ensure_future(taking.intake.telemetry([says("a")]))
    batch = taking.intake.take(Q)
    assert batch is not None
    second = asyncio.ensure_future(taking.intake.telemetry([says("b")]))
    taking.intake.restore(Q, batch)
    third = asyncio.ensure_future(taking.intake.telemetry([says("c")]))
    await asyncio.sleep(1)
    assert [first.done(), second.done(), third.done()] == [False] * 3
    assert taking.take() == ["a", "b", "c"]
    await asyncio.wait_for(asyncio.gather(first, second, third), 1)


async def test_a_sender_that_does_not_wait_leaves_nothing_behind() -> None:
    """The answer may be dropped, and a cancelled wait does not touch what others wait for."""
    taking = await opened()
    taking.intake.telemetry([says("a")])
    impatient = asyncio.ensure_future(taking.intake.telemetry([says("b")]))
    patient = asyncio.ensure_future(taking.intake.telemetry([says("c")]))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    assert taking.take() == ["a", "b", "c"]
    await asyncio.wait_for(patient, 1)


async def test_what_nobody_knows_is_counted_and_dropped() -> None:
    """A queue or producer that no record knows: acknowledged at once."""
    taking = await opened()
    done = taking.intake.telemetry([says("a", OTHER), says("b", None, producer="loader-producer-1__qqqqqq")])
    await asyncio.wait_for(done, 1)
    assert taking.counters.counts["unknown"] == 2
    assert taking.woken == []


async def test_a_queue_that_is_over_and_settled_takes_nothing_in() -> None:
    """Nothing that is said can change it."""
    taking = await opened()
    await taking.records.change(Q, lambda queue: replace(queue, settled=True))
    await asyncio.wait_for(taking.intake.telemetry([says("finished")]), 1)
    assert taking.counters.counts["unknown"] == 1


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"no json", b"[1]", b"{}", b'{"status": "loading"}', b"1" * 100_000])
async def test_what_cannot_be_read_never_stops_the_rest(raw: bytes) -> None:
    """It is counted; messages before and after it are taken in."""
    taking = await opened()
    done = taking.intake.telemetry([says("a"), Message(raw, EPOCH), says("b")])
    assert taking.counters.counts["unreadable"] == 1
    assert taking.take() == ["a", "b"]
    await asyncio.wait_for(done, 1)


async def test_a_worker_that_does_not_name_its_queue_is_found_by_its_id() -> None:
    """Telemetry ids end in their queue's suffix, unique across live queues."""
    taking = await opened()
    taking.intake.telemetry([says("loading", None, producer="loader-producer-1__a1b2c3")])
    assert taking.take() == ["loading"]


async def test_what_comes_before_every_record_is_known_waits() -> None:
    """Else it would be taken for what nobody knows; then it is taken in, in order, and acknowledged."""
    taking = Taking()
    await taking.begin()
    early = asyncio.ensure_future(taking.intake.telemetry([says("a")]))
    unknown = asyncio.ensure_future(taking.intake.telemetry([says("x", OTHER)]))
    await asyncio.sleep(1)
    assert (taking.woken, taking.take(), early.done(), unknown.done()) == ([], [], False, False)
    taking.intake.open()
    taking.intake.telemetry([says("b")])
    assert taking.take() == ["a", "b"]
    await asyncio.wait_for(asyncio.gather(early, unknown), 1)


async def test_positions_are_handed_on() -> None:
    """They tell a message that comes twice."""
    taking = await opened()
    taking.intake.telemetry([Message(b'{"status": "loading", "queue_id": "%s"}' % Q.encode(), EPOCH, "p0", 7)])
    batch = taking.intake.take(Q)
    assert batch is not None
    assert [(report.source, report.position) for report in batch.reports] == [("p0", 7)]
    taking.intake.stored(batch)
