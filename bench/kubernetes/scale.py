"""How much is measured: all of it, or enough to see that nothing is badly wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Times in seconds."""

    rounds: int
    """An even number; each measures both sides, in turn; one more goes before and is not counted."""
    queues: int
    """Started at once."""
    samples: int
    """Of what is measured one by one."""
    live: int
    """Queues whose Jobs live in the namespace."""
    idle: float
    rest: float
    """Between rounds, for the control plane to finish what follows from the last one."""


FULL = Scale(rounds=24, queues=100, samples=60, live=1667, idle=20.0, rest=1.0)
SHORT = Scale(rounds=6, queues=40, samples=20, live=167, idle=5.0, rest=1.0)
