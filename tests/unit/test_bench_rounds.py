"""Measuring in turn: who goes first, and what is counted."""

from __future__ import annotations

from bench.rounds import in_turn


async def test_each_goes_first_as_often_and_the_first_round_is_not_counted() -> None:
    """So a machine that becomes slower wrongs neither, and nobody pays for being started."""
    order: list[str] = []

    async def measure(side: str) -> str:
        order.append(side)
        return f"{side} {order.count(side)}"

    found = await in_turn(4, "ours", "bare", measure)
    assert order[::2] == ["bare", "ours", "bare", "ours", "bare"]
    assert found == [(f"ours {number}", f"bare {number}") for number in range(2, 6)]
