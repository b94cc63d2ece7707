"""Measuring in turn: who goes first, and what is counted."""

from __future__ import annotations

import pytest

from bench.rounds import in_turn, merged


async def test_each_goes_first_as_often_and_the_first_round_is_not_counted() -> None:
    """So a machine that becomes slower wrongs neither, and nobody pays for being started."""
    order: list[str] = []

    async def measure(side: str) -> str:
        order.append(side)
        return f"{side} {order.count(side)}"

    found = await in_turn(4, ["ours", "bare"], measure)
    assert order[::2] == ["bare", "ours", "bare", "ours", "bare"]
    assert found == [(f"ours {number}", f"bare {number}") for number in range(2, 6)]


async def test_of_three_each_comes_in_every_place_as_often() -> None:
    """Also in every third place of all, counted from anywhere."""
    order: list[str] = []

    async def measure(side: str) -> None:
        order.append(side)

    await in_turn(12, "abc", measure)
    counted = order[3:]
    for place in range(3):
        assert {side: counted[place::3].count(side) for side in "abc"} == dict.fromkeys("abc", 4)


def test_rates_of_all_rounds_are_one_by_the_time_they_took() -> None:
    """A round at 100 a second and one at 300 make 150: as much was done in each."""
    assert merged([(100.0, 50.0), (300.0, 50.0)]) == pytest.approx((150.0, 50.0))
