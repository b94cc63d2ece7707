"""An event loop whose clock jumps to the next timer instead of waiting for it."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

STUCK = 200_000
"""So many turns of the loop without the time moving are a busy loop."""


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: what would have been waited is added to the loop's time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("deadlock: nothing is ready and no timer is set")
        if timeout > 0:
            self.now += timeout
            self._turns = 0
        self._turns += 1
        if self._turns > STUCK:
            raise RuntimeError(f"busy loop at {self.now:.3f} s of virtual time")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 0. No I/O, no threads: everything happens in the order in which it was scheduled."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now
