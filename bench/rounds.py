"""Measuring things in turn, because machines become slower and faster while one looks on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import harmonic_mean
from typing import TypeVar

Side = TypeVar("Side")
Found = TypeVar("Found")


async def in_turn(
    rounds: int, sides: Sequence[Side], measure: Callable[[Side], Awaitable[Found]]
) -> list[tuple[Found, ...]]:
    """Measure all sides, round by round, back and there again. Answers what was found of each, in their order.

    One round more goes before, which warms them up and is not counted.
    """
    counted = []
    for number in range(rounds + 1):
        found = [await measure(side) for side in (sides if number % 2 else reversed(sides))]
        if number:
            counted.append(tuple(found if number % 2 else reversed(found)))
    return counted


def merged(rounds: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Rates of every two rounds as one: as much was done in each, so their harmonic mean.

    For what is fast and slow by turns, whichever side it is.
    """
    pairs = zip(rounds[::2], rounds[1::2], strict=True)
    return [tuple(harmonic_mean(of_side) for of_side in zip(*pair, strict=True)) for pair in pairs]
