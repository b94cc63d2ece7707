"""What is wrong is told soon, whatever does not answer."""

from __future__ import annotations

import asyncio

import pytest

from queue_manager.server.application import diagnosis
from queue_manager.server.application.diagnosis import Finding, Severity
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.launch import WorkerKey

from . import Bus, Runner, Store, core


async def test_parts_are_asked_side_by_side_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that never answer cost one limit, and are named; what one that answers says is told as it is."""
    monkeypatch.setattr(diagnosis, "CHECK_LIMIT", 0.2)

    async def silent() -> None:
        await asyncio.Event().wait()

    async def down() -> None:
        raise Unavailable("disk full")

    async def well() -> None:
        """Nothing is wrong."""

    async with asyncio.timeout(0.35):
        found = await diagnosis.problems({"store": down, "runner": silent, "bus": silent, "records": well})
    assert found == {
        "store": "disk full",
        "runner": "it has not answered for 0 s",
        "bus": "it has not answered for 0 s",
    }


async def test_a_check_that_breaks_is_a_problem_and_ends_nothing() -> None:
    """It must not pass for health, nor take the server with it."""

    async def breaks() -> None:
        raise ZeroDivisionError

    assert await diagnosis.problems({"part": breaks}) == {
        "part": "it cannot be checked (ZeroDivisionError); the log says more"
    }


WARNING = Finding(severity=Severity.WARNING, part="bus", message="a topic keeps messages too short", subjects=("t",))


async def test_what_a_part_says_of_itself_stands_behind_what_is_down() -> None:
    """Before workers that nobody knows."""
    found = diagnosis.findings(
        {"runner": "away", "store": "disk full"},
        {"bus": [WARNING]},
        [WorkerKey(queue_id="wf-a", job="a", attempt=1, name="wf-a-a")],
    )
    assert [(each.severity, each.part) for each in found] == [
        (Severity.ERROR, "runner"),
        (Severity.ERROR, "store"),
        (Severity.WARNING, "bus"),
        (Severity.WARNING, "runner"),
    ]
    assert found[2] is WARNING


@pytest.mark.parametrize("error", [Unavailable("away"), ZeroDivisionError()], ids=repr)
async def test_a_part_that_cannot_say_what_deserves_a_look_deserves_one(error: Exception) -> None:
    """Its silence must not pass for health."""

    async def fails() -> list[Finding]:
        raise error

    told = await diagnosis.warnings(fails)
    assert told is None
    (finding,) = diagnosis.findings({}, {"bus": told}, [])
    assert (finding.severity, finding.part) == (Severity.WARNING, "bus")


async def test_a_part_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers want an answer."""
    monkeypatch.setattr(diagnosis, "CHECK_LIMIT", 0.01)

    async def silent() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async with asyncio.timeout(1):
        assert await diagnosis.warnings(silent) is None


@pytest.mark.virtual_time
async def test_diagnose_asks_the_bus() -> None:
    """And a bus that is down is one finding."""
    bus = Bus()
    bus.to_look_at = [WARNING]
    made = core(Store(), Runner(), bus)
    assert [each for each in (await made.diagnose()).findings if each.part == "bus"] == [WARNING]
    bus.down = True
    (finding,) = [each for each in (await made.diagnose()).findings if each.part == "bus"]
    assert (finding.severity, finding.message) == (Severity.ERROR, "the bus is out of reach")
