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
    """Measure all sides, round by round. Answers what was found of each, in their order.

    Every two rounds go there and back again, so nobody is favoured by a machine that becomes slower. Where there are more
    than two sides, the next two rounds begin with another one, so that none is always in the middle.
    One round more goes before, which warms them up and is not counted.
    """
    counted = []
    for number in range(rounds + 1):
        first = (number - 1) // 2 % len(sides) if len(sides) > 2 else 0
        order = [*range(first, len(sides)), *range(first)]
        found = {place: await measure(sides[place]) for place in (order if number % 2 else reversed(order))}
        if number:
            counted.append(tuple(found[place] for place in range(len(sides))))
    return counted


def merged(rounds: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    """Rates of all rounds as one for each side: as much was done in each round, so their harmonic mean.

    For what is fast and slow by turns, whichever side it is.
    """
    return tuple(harmonic_mean(of_side) for of_side in zip(*rounds, strict=True))
