"""How much is measured: all of it, or enough to see that nothing is badly wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Times in seconds."""

    rounds: int
    """Each measures both servers, in turn; one more goes before and is not counted."""
    seconds: float
    watchers: int
    channels: int
    stored: int
    few_stored: int
    unfinished: int
    starts: int
    """How often a command or a server is started."""
    idle: float


FULL = Scale(
    rounds=8,
    seconds=2.5,
    watchers=1000,
    channels=16,
    stored=100_000,
    few_stored=1000,
    unfinished=10_000,
    starts=10,
    idle=10.0,
)
SHORT = Scale(
    rounds=3,
    seconds=1.5,
    watchers=1000,
    channels=16,
    stored=10_000,
    few_stored=1000,
    unfinished=1000,
    starts=5,
    idle=3.0,
)
