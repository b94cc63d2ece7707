"""The `Clock` port on the machine's own clock."""

from __future__ import annotations

from time import time


class SystemClock:
    """UTC, as well as the machine knows it."""

    def now(self) -> float:
        """UTC seconds since the epoch."""
        return time()
