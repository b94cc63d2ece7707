"""The `Bus` port without messages on a wire: `stop` goes to the scripted runner, lag is what somebody says it is.

`adapters.inprocess` has the bus that serves real processes and has data topics. Here is no data, so that readers have
read everything only once that was said. The manager's own events go nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence

from queue_manager.server.application.diagnosis import Finding
from queue_manager.server.application.ports import Message, Publication, Receiver, WorkerCommand
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import Job, Queue
from queue_manager.server.embedded.runner import ScriptedRunner


class ScriptedBus:
    """See the module."""

    name = "scripted"
    is_heard = False
    dead_letters = None

    def __init__(self, workers: ScriptedRunner) -> None:
        """Whose workers hear the commands."""
        self._workers = workers
        self._receiver: Receiver | None = None
        self._drained: set[tuple[str, str]] = set()

    def deliver(self, message: Message) -> Awaitable[object]:
        """Hand on what a worker says; the awaitable is done when it is stored."""
        if self._receiver is None:
            raise Unavailable("nobody has subscribed to telemetry yet")
        return self._receiver.telemetry([message])

    def drain(self, queue_id: str, job: str) -> None:
        """This job's worker has read all that there is."""
        self._drained.add((queue_id, job))

    def subscribe(self, receiver: Receiver) -> None:
        """See `ports.Bus`."""
        self._receiver = receiver

    async def prepare(self, queue: Queue) -> None:
        """See `ports.Bus`."""

    async def send(self, *commands: WorkerCommand) -> None:
        """See `ports.Bus`."""
        for command in commands:
            if command.command == "stop":
                self._workers.tell_to_stop(command.queue_id)

    def heard_until(self) -> float:
        """See `ports.Bus`."""
        return math.inf

    async def publish(self, events: Sequence[Publication]) -> None:
        """See `ports.Bus`."""

    async def bury(self, message: Message, reason: str) -> None:
        """See `ports.Bus`."""

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """See `ports.Bus`."""
        return 0 if (queue.queue_id, job.name) in self._drained else 1

    async def forget(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        self._drained -= {(queue.queue_id, job.name) for job in queue.jobs}

    async def check(self) -> None:
        """See `ports.Bus`."""

    async def warnings(self) -> Sequence[Finding]:
        """See `ports.Bus`."""
        return ()
