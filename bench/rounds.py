"""Measuring two things in turn, because machines become slower and faster while one looks on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

Side = TypeVar("Side")
Found = TypeVar("Found")


async def in_turn(
    rounds: int, ours: Side, bare: Side, measure: Callable[[Side], Awaitable[Found]]
) -> list[tuple[Found, Found]]:
    """Measure both, round by round; each goes first as often as the other. Answers (ours, the yardstick's).

    One round more goes before, which warms them up and is not counted.
    """
    counted = []
    for number in range(rounds + 1):
        if number % 2:
            our, its = await measure(ours), await measure(bare)
        else:
            its, our = await measure(bare), await measure(ours)
        if number:
            counted.append((our, its))
    return counted
