"""Taking in telemetry: many small messages become one change of a queue.

Messages are read and put into their queue's buffer; the controller's next step of that queue takes the buffer and applies
it in the same compare-and-set as everything else it has learned. So a thousand chatty workers cost one write per queue
and `window`, and what a worker said before its end is applied before its end is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import structlog

from queue_manager.server.application.instruments import Instruments
from queue_manager.server.application.ports import Message
from queue_manager.server.application.records import Records
from queue_manager.server.domain.naming import suffix_of
from queue_manager.server.domain.telemetry import Telemetry, Unreadable, read

log = structlog.get_logger(__name__)

HURRY: Final = 1000
"""With so many messages in a queue's buffer, its step does not wait for the window."""


BURIED_AT_ONCE: Final = 100
"""Messages that nobody can read which are put away side by side."""


class Batch:
    """The buffered telemetry of one queue, and who waits for it to be stored."""

    __slots__ = ("reports", "stored")

    def __init__(self) -> None:
        self.reports: list[Telemetry] = []
        self.stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Intake:
    """The receiver of the bus."""

    def __init__(
        self,
        records: Records,
        *,
        wake: Callable[[str, float], None],
        bury: Callable[[Message, str], Awaitable[None]],
        instruments: Instruments,
        window: float = 0.2,
    ) -> None:
        """`wake(queue_id, delay)` has a step of the queue made after `delay` seconds; `window`: see above, in seconds.

        `bury(message, reason)` keeps what cannot be read.
        """
        self._records = records
        self._wake = wake
        self._bury = bury
        self._instruments = instruments
        self._window = window
        self._batches: dict[str, Batch] = {}
        self._early: list[tuple[Sequence[Message], asyncio.Future[object]]] | None = []

    def telemetry(self, messages: Sequence[Message]) -> Awaitable[object]:
        """Take in messages; see `ports.Receiver`."""
        if self._early is None:
            return self._take_in(messages)
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._early.append((messages, done))
        return done

    def open(self) -> None:
        """Every record is known now, so what came before can be told from what nobody knows."""
        early, self._early = self._early or [], None
        for messages, done in early:
            self._take_in(messages).add_done_callback(partial(_resolve, done))

    def _take_in(self, messages: Sequence[Message]) -> asyncio.Future[list[None]]:
        touched: dict[str, Batch] = {}
        unreadable: list[tuple[Message, str]] = []
        for message in messages:
            try:
                report = read(message.value, message.record_time, source=message.source, position=message.position)
            except Unreadable as error:
                self._instruments.telemetry("unreadable")
                unreadable.append((message, error.reason))
                continue
            queue_id = self._queue_of(report)
            if queue_id is None:
                self._instruments.telemetry("unknown")
                continue
            batch = self._batches.get(queue_id)
            if batch is None:
                batch = self._batches[queue_id] = Batch()
                self._wake(queue_id, self._window)
            batch.reports.append(report)
            touched[queue_id] = batch
        for queue_id, batch in touched.items():
            if len(batch.reports) >= HURRY:
                self._wake(queue_id, 0.0)
        stored = [batch.stored for batch in touched.values()]
        return _all_stored([*stored, asyncio.ensure_future(self._bury_all(unreadable))] if unreadable else stored)

    async def _bury_all(self, unreadable: Sequence[tuple[Message, str]]) -> None:
        """Some at a time: there may be thousands, each with a megabyte."""
        for begin in range(0, len(unreadable), BURIED_AT_ONCE):
            some = unreadable[begin : begin + BURIED_AT_ONCE]
            await asyncio.gather(*(self._bury(message, reason) for message, reason in some))

    def take(self, queue_id: str) -> Batch | None:
        """The queue's buffer, which begins anew; None: it was empty. Whoever takes it calls `stored` or `restore`."""
        return self._batches.pop(queue_id, None)

    def stored(self, batch: Batch | None) -> None:
        """What was taken is in the store, or need not be."""
        if batch is None:
            return
        self._instruments.telemetry("accepted", len(batch.reports))
        _resolve(batch.stored, None)

    def restore(self, queue_id: str, batch: Batch | None) -> None:
        """What was taken could not be stored: it goes back before what has come since."""
        if batch is None:
            return
        newer = self._batches.get(queue_id)
        if newer is not None:
            batch.reports.extend(newer.reports)
            batch.stored.add_done_callback(partial(_resolve, newer.stored))
        self._batches[queue_id] = batch

    def _queue_of(self, report: Telemetry) -> str | None:
        live = self._records.live
        if report.queue_id is not None:
            return report.queue_id if report.queue_id in live else None
        if report.telemetry_id is None:
            return None
        return self._records.live_queue_of(suffix_of(report.telemetry_id))


def _resolve(future: asyncio.Future[Any], _: object) -> None:
    if not future.done():
        future.set_result(None)


def _all_stored(futures: Sequence[asyncio.Future[None]]) -> asyncio.Future[list[None]]:
    """Done when all are. A future and not a coroutine: who does not care may drop it."""
    return asyncio.gather(*(asyncio.shield(future) for future in futures))
