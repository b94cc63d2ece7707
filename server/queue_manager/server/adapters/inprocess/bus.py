"""The `Bus` port for one machine: no broker, nothing that outlives what it is made of.

Telemetry comes from the local runner (`deliver` is its sink) and goes to the receiver as it is; a crash loses none,
because the workers' output is kept in files and read again. Commands go to the workers' standard input, through
whatever offers `CommandSink`. The manager's own events have no topic to go to: who listens in this process is handed
them.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, Protocol, TypeVar

import msgspec
import structlog

from queue_manager.server.adapters.inprocess.topics import DataTopic
from queue_manager.server.application.diagnosis import Finding
from queue_manager.server.application.ports import Clock, Message, Publication, Receiver, WorkerCommand
from queue_manager.server.domain.errors import Unavailable
from queue_manager.server.domain.model import Job, Queue, Reads

log = structlog.get_logger(__name__)

T = TypeVar("T")

LISTENER_SIZE: Final = 1000
"""Events kept for a listener that is slow; then it loses the oldest."""


class CommandSink(Protocol):
    """What can put a line on the standard input of a queue's workers. The local runner can."""

    def write(self, queue_id: str, line: bytes) -> int:
        """Hand the line (with its end) to the queue's running workers without waiting. Answers how many took it."""


class EventListener:
    """The manager's events as they are published, bounded. Iterate over it; `close` ends the iteration."""

    def __init__(self, size: int, closed: Callable[[EventListener], None]) -> None:
        """Made by `InProcessBus.listen`."""
        self._events: deque[Publication] = deque(maxlen=size)
        self._closed = closed
        self._open = True
        self._changed = asyncio.Event()
        self.dropped = 0
        """How many it lost because it was slow."""

    def put(self, event: Publication) -> None:
        """Hand it an event."""
        self.dropped += len(self._events) == self._events.maxlen
        self._events.append(event)
        self._changed.set()

    def close(self) -> None:
        """No more events; those that it has can still be read."""
        if self._open:
            self._open = False
            self._changed.set()
            self._closed(self)

    def __aiter__(self) -> EventListener:
        return self

    async def __anext__(self) -> Publication:
        while not self._events:
            if not self._open:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._events.popleft()


class InProcessBus:
    """See the module. `async with` or `close` lets go of what is under way."""

    name = "in-process"
    dead_letters = None

    def __init__(self, data_dir: Path, *, clock: Clock) -> None:
        """`data_dir`: the one that the local runner has too; the embedded data topics are in its `topics`."""
        self._topics = data_dir.absolute() / "topics"
        self._clock = clock
        self._receiver: Receiver | None = None
        self._workers: CommandSink | None = None
        self._listeners: list[EventListener] = []
        self._storing: set[asyncio.Task[object]] = set()

    def attach(self, workers: CommandSink) -> None:
        """Send commands to these workers; without any, nobody hears them."""
        self._workers = workers

    def listen(self, size: int = LISTENER_SIZE) -> EventListener:
        """Hear the manager's events from now on; at most `size` wait for a slow listener."""
        listener = EventListener(size, self._listeners.remove)
        self._listeners.append(listener)
        return listener

    async def close(self) -> None:
        """End all listeners, and wait no longer for what is being stored."""
        for listener in tuple(self._listeners):
            listener.close()
        for task in tuple(self._storing):
            task.cancel()
        if self._storing:
            await asyncio.wait(self._storing)

    async def __aenter__(self) -> InProcessBus:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def deliver(self, messages: Sequence[Message]) -> None:
        """Hand telemetry to the receiver. Raises `Unavailable` where there is none yet: hand it on again later.

        Nobody waits for it to be stored: the output that it came from is kept, and read again after a crash.
        """
        if self._receiver is None:
            raise Unavailable("nobody has subscribed to telemetry yet")
        stored = self._receiver.telemetry(messages)
        if isinstance(stored, asyncio.Future):  # somebody else's, and not ours to cancel
            stored.add_done_callback(_complain)
            return
        task = asyncio.create_task(_awaited(stored), name="store telemetry")
        self._storing.add(task)
        task.add_done_callback(self._storing.discard)
        task.add_done_callback(_complain)

    # --- the port ---

    def subscribe(self, receiver: Receiver) -> None:
        """See `ports.Bus`."""
        self._receiver = receiver

    async def prepare(self, queue: Queue) -> None:
        """See `ports.Bus`. Groups begin at a topic's start by themselves, and surplus stops end with their worker."""
        if self._workers is None:
            return  # nobody would write to a topic here, or read it
        topics = self._all_topics(queue)
        await self._in_thread(lambda: _each(DataTopic.create, topics))

    async def send(self, *commands: WorkerCommand) -> None:
        """See `ports.Bus`. A worker whose input is full, because it does not read, misses it."""
        if self._workers is None:
            return
        now = self._clock.now()
        for command in commands:
            self._workers.write(command.queue_id, msgspec.json.encode(command.sent_at(now)) + b"\n")

    def heard_until(self) -> float:
        """See `ports.Bus`. The local runner hands on what a worker said before it tells of its end."""
        return math.inf

    @property
    def is_heard(self) -> bool:
        """See `ports.Bus`."""
        return bool(self._listeners)

    async def publish(self, events: Sequence[Publication]) -> None:
        """See `ports.Bus`. They are safe in the store's history already."""
        for event in events:
            for listener in self._listeners:
                listener.put(event)

    async def bury(self, message: Message, reason: str) -> None:
        """See `ports.Bus`. It stands in the output of the worker that said it."""
        log.warning("a message cannot be read", source=message.source, position=message.position, error=reason)

    async def lag(self, queue: Queue, job: Job) -> int | None:
        """See `ports.Bus`. In bytes of the embedded topics; whatever waits counts, only nought means something."""
        match job.spec.reads:
            case Reads.NONE:
                return 0
            case Reads.OWN:
                names = {job.spec.kafka_topic}
            case Reads.ALL:
                names = {other.spec.kafka_topic for other in queue.jobs if other.spec.feeds}
        topics, group = self._data_topics(names), job.spec.consumer_group
        return await self._in_thread(lambda: sum(topic.lag(group) for topic in topics))

    async def forget(self, queue: Queue) -> None:
        """See `ports.Bus`."""
        topics = self._all_topics(queue)
        await self._in_thread(lambda: _each(DataTopic.remove, topics))

    async def check(self) -> None:
        """See `ports.Bus`."""
        parent = self._topics.parent
        if not await self._in_thread(parent.is_dir):
            raise Unavailable(f"{parent} is not there")

    async def warnings(self) -> Sequence[Finding]:
        """See `ports.Bus`."""
        return ()

    # --- inside ---

    def _all_topics(self, queue: Queue) -> list[DataTopic]:
        specs = [job.spec for job in queue.jobs]
        return self._data_topics({spec.kafka_topic for spec in specs if spec.feeds or spec.reads is Reads.OWN})

    def _data_topics(self, names: Iterable[str]) -> list[DataTopic]:
        return [DataTopic(str(self._topics), name) for name in sorted(names) if name]

    async def _in_thread(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(call)
        except OSError as e:
            raise Unavailable(f"embedded data topics: {e}") from e


def _each(act: Callable[[DataTopic], None], topics: Iterable[DataTopic]) -> None:
    for topic in topics:
        act(topic)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _complain(future: asyncio.Future[object]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("telemetry was not stored", error=str(error), exc_info=error)
