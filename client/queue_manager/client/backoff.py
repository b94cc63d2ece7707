"""How long to wait before trying again: exponential, jittered, bounded. It tries nothing itself.

Full jitter (AWS, "Exponential Backoff And Jitter"): when a server goes away all of its watchers come back, and must not
come back at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts, all in seconds. `sleep` and `uniform` come in from outside for tests."""

    initial: float = 0.2
    """Upper bound of the first pause: a restarting server is back in less than a second."""
    multiplier: float = 2.0
    maximum: float = 5.0
    """Upper bound of every pause, so that a server that is back is found soon."""
    attempts: int = 5
    """How often a call is sent at most: with the pauses above about 1.5 s, 3 s at most. A watch is bounded by time."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Callable[[float, float], float] = random.uniform

    def pause(self, attempt: int, *, at_least: float | None = None) -> float:
        """Seconds to wait after failed attempt number `attempt`, from 0; `at_least` is what the server asked for.

        Where the server asked, the jitter comes on top, because it asked everybody for the same.
        """
        # The exponent is bounded because a long watch counts on, and a large float power overflows.
        bound = min(self.maximum, self.initial * self.multiplier ** min(attempt, 32))
        return (at_least or 0.0) + self.uniform(0.0, bound)
