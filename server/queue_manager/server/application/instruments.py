"""What the core tells of its own working. `observability` makes Prometheus metrics of it; tests listen or ignore it."""

from __future__ import annotations

from queue_manager.server.domain.history import Event
from queue_manager.server.domain.model import Queue


class Instruments:
    """Does nothing; override what is of interest. Times are seconds."""

    updates: int = 0
    """UPDATE frames that were handed to watchers beside those that `frame` tells: too many for a call each."""
    revisions: int = 0
    """How many revisions these stood for."""

    def changed(self, before: Queue | None, after: Queue, event: Event | None) -> None:
        """A queue's record has a new form: created (`before` is None), changed, or loaded from the store (no event)."""

    def removed(self, queue: Queue) -> None:
        """A queue's record was deleted, or is no longer kept in memory."""

    def clock(self) -> float:
        """Seconds on a clock that is good for short durations; the event loop's may stand still while it works."""
        return 0.0

    def step(self, outcome: str, seconds: float) -> None:
        """A reconcile step ended: `ok`, `unavailable` or `error`."""

    def launched(self, outcome: str) -> None:
        """A launch call ended: `started`, `refused` or `unavailable`."""

    def telemetry(self, outcome: str, count: int = 1) -> None:
        """Messages were taken in: `accepted`, `unknown` or `unreadable`."""

    def command(self, outcome: str) -> None:
        """A command came in over the bus: `accepted`, `rejected`, `ignored` or `unreadable`."""

    def published(self, count: int) -> None:
        """Events went out on the bus."""

    def orphans(self, count: int) -> None:
        """So many workers are there that no record knows."""

    def watchers(self, change: int) -> None:
        """Subscribers came or went."""

    def frame(self, kind: str, merged: int) -> None:
        """A frame was handed to a watcher, and is not among `updates`."""
