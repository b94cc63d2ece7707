"""Dead letters in memory: the `DeadLetters` port for tests of what is above it. `tests/contract` holds it to the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from queue_manager.server.application.ports import DeadLetter, Fate, LetterCursor
from queue_manager.server.domain.errors import Unavailable

SHOWN, PAGE, STEP = 64 * 2**10, 2 * 2**20, 2
CONTROL, EVENTS = "queue-control", "queue-events"


@dataclass(frozen=True, slots=True)
class Sent:
    """What was sent again."""

    topic: str
    value: bytes
    key: bytes | None


class MemoryLetters:
    """Every step sends two. `room`: how many more can be sent before the topics are out of reach; None: any number."""

    topics: Sequence[str] = (CONTROL, EVENTS)

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.room: int | None = None
        self.stepped = asyncio.Event()
        """Set with every step."""
        self.may_step = asyncio.Event()
        self.may_step.set()
        self.one_by_one = False
        """Whether `may_step` has to be set for each."""
        self._letters: dict[str, tuple[DeadLetter, Sent]] = {}

    def bury(self, topic: str, value: bytes, *, error: str = "is no JSON", key: bytes | None = None) -> str:
        """A message cannot be read. Answers the letter's id. One of more than 900 KiB is cut."""
        number = len(self._letters)
        text = value.decode(errors="replace").encode() == value
        shown = value[:SHOWN].decode(errors="ignore").encode() if text else value[:SHOWN]
        letter = DeadLetter(
            id=f"{topic}.dlq/0/{number}",
            time=1_722_500_000.0 + number,
            topic=topic,
            partition=1,
            offset=100 + number,
            error=error,
            value=shown,
            size=len(value),
            is_text=text,
            is_cut=len(value) > 900 * 1024,
        )
        self._letters[letter.id] = letter, Sent(topic, value, key)
        return letter.id

    async def page(
        self, topics: Sequence[str], *, before: LetterCursor | None, limit: int
    ) -> tuple[Sequence[DeadLetter], bool]:
        """See `ports.DeadLetters`."""
        found = [letter for letter, _ in reversed(self._letters.values()) if letter.topic in topics]
        if before is not None:
            found = [letter for letter in found if letter.time < before.time]
        page: list[DeadLetter] = []
        for letter in found:
            if len(page) == limit or (page and sum(len(each.value) for each in [*page, letter]) > PAGE):
                return page, True
            page.append(letter)
        return page, False

    async def fates(self, ids: Sequence[str]) -> Mapping[str, Fate]:
        """See `ports.DeadLetters`."""
        return {key: _fate(letter) for key, (letter, _) in self._letters.items() if key in ids}

    async def fates_of(self, topic: str) -> Mapping[str, Fate]:
        """See `ports.DeadLetters`."""
        return await self.fates([key for key, (letter, _) in self._letters.items() if letter.topic == topic])

    async def replay(self, ids: Sequence[str], *, by: str) -> AsyncGenerator[Sequence[str], None]:
        """See `ports.DeadLetters`."""
        for begin in range(0, len(ids), STEP):
            await self.may_step.wait()
            step = ids[begin : begin + STEP]
            if self.room is not None and len(self.sent) + len(step) > self.room:
                raise Unavailable("the topics are out of reach")
            for each in step:
                letter, sent = self._letters[each]
                self.sent.append(sent)
                self._letters[each] = replace(letter, replay_time=1_722_600_000.0, replayed_by=by), sent
            self.stepped.set()
            if self.one_by_one:
                self.may_step.clear()
            yield step


def _fate(letter: DeadLetter) -> Fate:
    if letter.is_cut:
        return Fate.CUT
    return Fate.WAITING if letter.replay_time is None else Fate.REPLAYED
