"""Listens to what a store reports of its operations."""

from __future__ import annotations

from collections import Counter


class Observed:
    """Counts what the store reports."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.count: Counter[tuple[str, bool]] = Counter()

    def __call__(self, operation: str, seconds: float, ok: bool) -> None:
        """One operation."""
        assert seconds >= 0
        self.count[operation, ok] += 1
