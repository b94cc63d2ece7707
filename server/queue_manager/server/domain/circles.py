"""Jobs that wait for each other in a circle, so that none of them would ever start.

A job waits by its gates, to start; and one that drains waits for the jobs that feed it, to end. So a gate that waits for
it to have finished waits for those as well. One that waits for it to have started does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from queue_manager.server.domain.model import DependencyCondition


class Wait(NamedTuple):
    """One job waits for another, by number."""

    job: int
    other: int
    drains: bool = False
    """It drains and is fed by the other one. Else it has a gate."""


Gate = tuple[int | None, DependencyCondition]
"""Which job it waits for, by number; None for one that there is not."""


def find_circles(
    gates: Sequence[Sequence[Gate]], feeders: Sequence[Sequence[int]]
) -> dict[tuple[int, int], list[Wait]]:
    """Gates that close a circle: (number of the job, number of its gate) → who waits for whom along it.

    `feeders`: of each job that drains, those that feed it; of the others none. A gate on the job itself or on an unknown
    one is no part of it. One gate is found for each circle; without the gates that were found there is none left.
    """
    found: dict[tuple[int, int], list[Wait]] = {}
    finished: set[int] = set()
    trail: dict[int, list[Wait]] = {}  # job → how the one before it came to wait for it

    def visit(i: int, way: list[Wait]) -> None:
        trail[i] = way
        for j, gate in enumerate(gates[i]):
            for other, further in _awaited(i, gate, feeders):
                if other in trail:
                    along = list(trail)[list(trail).index(other) + 1 :]
                    found[i, j] = [wait for job in along for wait in trail[job]] + further
                    break
                if other not in finished:
                    visit(other, further)
        del trail[i]
        finished.add(i)

    for i in range(len(gates)):
        if i not in finished:
            visit(i, [])
    return found


def _awaited(job: int, gate: Gate, feeders: Sequence[Sequence[int]]) -> Iterator[tuple[int, list[Wait]]]:
    """The jobs that must have started before a gate opens, the nearest first, each with how it comes to be waited for."""
    other, condition = gate
    if other is None or other == job:
        return
    ways = {other: [Wait(job, other)]}
    yield other, ways[other]
    nearest = [other] if condition is DependencyCondition.FINISHED else []
    for reader in nearest:
        for feeder in feeders[reader]:
            if feeder not in ways:
                ways[feeder] = [*ways[reader], Wait(reader, feeder, drains=True)]
                yield feeder, ways[feeder]
                nearest.append(feeder)
