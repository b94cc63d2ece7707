"""Looking at the messages that nobody could read, and having them sent again.

What has been replayed is marked where the bus keeps it, and passed over from then on. Replays go one after the other, and
each to its end, or to where the server is stopped: between two of its steps everything that was sent is marked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import structlog

from queue_manager.server.application.finishing import finish
from queue_manager.server.application.ports import Bus, DeadLetter, DeadLetters, Fate, LetterCursor
from queue_manager.server.domain.errors import InvalidRequest, NoBroker, ShuttingDown, Violation

log = structlog.get_logger(__name__)

UNKNOWN: Final = "there is no such dead letter, or no more; ListDeadLetters tells those that there are"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest:
    """Which to replay: `ids`, or all of `topic` where there are none."""

    ids: Sequence[str] = ()
    topic: str = ""
    validate_only: bool = False
    force: bool = False
    """Also those that were replayed before."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay has come to: ids that were sent again (or would be), and that were passed over."""

    replayed: Sequence[str]
    skipped: Sequence[str]
    """They had been replayed before."""
    cut: Sequence[str] = ()
    """Of these only the beginning was kept."""


class DeadLetterService:
    """List and replay. Where the bus has no dead letters, all calls raise `NoBroker`."""

    def __init__(self, bus: Bus) -> None:
        """What has them."""
        self._bus = bus
        self._replaying = asyncio.Lock()
        self._replays: set[asyncio.Task[Any]] = set()
        self._ending = False

    async def page(
        self, topic: str, *, before: LetterCursor | None, limit: int
    ) -> tuple[Sequence[DeadLetter], LetterCursor | None]:
        """A page, newest first, of one topic or all (empty), and where the next one begins (None: this is the last)."""
        letters = self._letters(topic)
        topics = [topic] if topic else letters.topics
        page, more = await letters.page(topics, before=before, limit=limit)
        return page, LetterCursor(page[-1].time, page[-1].id) if more else None

    async def replay(self, request: ReplayRequest, *, by: str) -> Replayed:
        """Send dead letters again, also if the caller goes away. Raises `InvalidRequest`, and sends none then."""
        letters = self._letters(request.topic)
        return await finish(self._replay(letters, request, by), self._replays, name="replay dead letters")

    async def drain(self) -> None:
        """Have replays under way end after their next step, and wait for that."""
        self._ending = True
        await asyncio.gather(*self._replays, return_exceptions=True)

    async def _replay(self, letters: DeadLetters, request: ReplayRequest, by: str) -> Replayed:
        async with self._replaying:  # else two calls at once would both find a letter not replayed yet
            self._check_not_ending()
            fates = await (letters.fates(request.ids) if request.ids else letters.fates_of(request.topic))
            _check_known(request.ids, fates)
            wanted = {Fate.WAITING, Fate.REPLAYED} if request.force else {Fate.WAITING}
            chosen = [each for each, fate in fates.items() if fate in wanted]
            skipped = [each for each, fate in fates.items() if fate is Fate.REPLAYED and fate not in wanted]
            cut = [each for each, fate in fates.items() if fate is Fate.CUT]
            if chosen and not request.validate_only:
                self._check_not_ending()
                chosen = await self._send(letters, chosen, by)
            return Replayed(chosen, skipped, cut)

    async def _send(self, letters: DeadLetters, chosen: Sequence[str], by: str) -> list[str]:
        sent: list[str] = []
        try:
            async with aclosing(letters.replay(chosen, by=by)) as steps:
                async for step in steps:
                    sent += step
                    if self._ending and len(sent) < len(chosen):
                        raise ShuttingDown(f"{len(sent)} of {len(chosen)} dead letters were replayed; call again")
        finally:
            log.info("dead letters were replayed", count=len(sent), of=len(chosen), by=by)
        return sent

    def _check_not_ending(self) -> None:
        if self._ending:
            raise ShuttingDown("this server is shutting down, and no dead letter was replayed; call again")

    def _letters(self, topic: str) -> DeadLetters:
        if (letters := self._bus.dead_letters) is None:
            raise NoBroker(
                "there is no broker, so there are no dead letters; what cannot be read stands in the worker's output, "
                "and why in the server's log. To keep dead letters, run over Kafka: KAFKA_BOOTSTRAP_SERVERS"
            )
        if topic and topic not in letters.topics:
            known = " or ".join(letters.topics)
            raise InvalidRequest.of("topic", f"{topic!r} has no dead letters here; use {known}")
        return letters


def _check_known(ids: Sequence[str], known: Mapping[str, Fate]) -> None:
    """Raise `InvalidRequest` that names every id that there is not."""
    unknown = [Violation(f"ids[{number}]", UNKNOWN) for number, each in enumerate(ids) if each not in known]
    if unknown:
        raise InvalidRequest(unknown)
