"""The work of each kind of simulated worker, as a function of the time that it has worked.

Nothing is computed; only the data topic really fills and empties, because the manager decides by it when a connector has
drained what its loader wrote.
"""

from __future__ import annotations

from queue_manager.server.simulated_worker.data import Topic
from queue_manager.server.simulated_worker.settings import Settings


class Work:
    """Work of which there is nothing to see but a count that grows evenly."""

    noun = "metrics streamed"

    def __init__(self, settings: Settings, topic: Topic) -> None:
        """Nothing is done yet."""
        self.settings = settings
        self.topic = topic
        self.records = 0
        self.progress: float | None = None if settings.endless else 0.0
        self.extra: dict[str, object] = {}

    async def advance(self, elapsed: float) -> None:
        """Do what there is to do until `elapsed` seconds of work."""
        duration = self.settings.duration
        part = elapsed / duration if duration > 0 else 1.0
        if not self.settings.endless:
            part = min(1.0, part)
            self.progress = round(part, 4)
        await self.grow(round(part * self.settings.records))

    async def grow(self, records: int) -> None:
        """There are so many records now, all told."""
        self.records = records

    @property
    def message(self) -> str:
        """The state of things in words."""
        return f"{self.records} {self.noun}"


class Loading(Work):
    """Loads records from nowhere, and writes them to the data topic."""

    noun = "records loaded"

    async def grow(self, records: int) -> None:
        """Write what is new."""
        if records > self.records:
            await self.topic.write(records - self.records)
        self.records = records


class Storing(Work):
    """Reads the data topic from where its group has got to."""

    noun = "records saved"

    async def grow(self, records: int) -> None:  # noqa: ARG002 - what there is to read decides, not the time
        """Read what there is now."""
        try:
            await self.topic.read()
        finally:
            self.records = self.topic.read_so_far


class Building(Work):
    """Builds a graph, or keeps one up to date."""

    noun = "nodes and edges written"


class Training(Work):
    """Trains in epochs with a loss that falls, or infers for ever."""

    @property
    def message(self) -> str:
        """As the real trainer words it."""
        if self.settings.endless:
            return f"{self.records} inferences"
        return f"Epoch {self.records} of {self.settings.epochs} completed, loss: {self.extra.get('loss')}"

    async def advance(self, elapsed: float) -> None:
        """Count epochs, not records."""
        await super().advance(elapsed)
        if self.settings.endless:
            self.records = int(elapsed / max(self.settings.duration, 0.1) * 10)
            return
        self.records = int((self.progress or 0.0) * self.settings.epochs)
        self.extra = {"epoch": self.records, "loss": round(0.9 / (1 + self.records) + 0.01, 4)}


KINDS: dict[str, type[Work]] = {
    "loader": Loading,
    "connector": Storing,
    "graph-builder": Building,
    "trainer": Training,
    "visualizer": Work,
}
