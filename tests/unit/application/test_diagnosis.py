"""What is wrong is told soon, whatever does not answer."""

from __future__ import annotations

import asyncio

import pytest

from queue_manager.server.application import diagnosis
from queue_manager.server.domain.errors import Unavailable


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
