"""How much is measured: all of it, or enough to see that nothing is badly wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Times in seconds."""

    rounds: int
    """Of draining; each measures both sides, in turn; one more goes before and is not counted."""
    queues: int
    messages: int
    """Of telemetry that wait in the topic."""
    rate: int
    """Messages a second, where they come while one looks on."""
    seconds: float
    """For how long they come."""
    stops: int
    """Queues that are stopped, one by one."""


FULL = Scale(rounds=3, queues=200, messages=200_000, rate=2000, seconds=20.0, stops=100)
SHORT = Scale(rounds=1, queues=40, messages=40_000, rate=2000, seconds=5.0, stops=20)
