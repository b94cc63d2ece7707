"""What stands in the way of workers and is told only in events: why a Job has no pod, why a pod gets no container.

Events tell nobody, so they are asked for; one answer holds for all workers of the namespace, and for some seconds.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from time import monotonic
from typing import Final

import structlog

from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, Refusal
from queue_manager.server.adapters.kubernetes.objects import EVENTS, Event

log = structlog.get_logger(__name__)

HOLDS: Final = 4.0
"""Seconds for which an answer holds."""
PAGE: Final = 500
MOUNTING: Final = 150.0
"""Seconds after which a failed mount has succeeded, if nothing is noted again: kubelet tries every two minutes at least."""

NO_POD: Final = ("involvedObject.kind=Job,reason=FailedCreate",)
NOT_PREPARED: Final = tuple(
    f"involvedObject.kind=Pod,reason={reason}"
    for reason in ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
)


class Denials:
    """The newest of the events that field selectors find, by the object they are about."""

    def __init__(self, api: Api, selectors: Sequence[str], *, lasts: float = math.inf) -> None:
        """`lasts`: seconds after which what was noted is over, if it was not noted again."""
        self._api = api
        self._lasts = lasts
        self._selectors = selectors
        self._newest: dict[str, Event] = {}
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def of(self, uid: str, now: float) -> Event | None:
        """What is in the way of the object with this uid; None where nothing is, or it cannot be read now.

        `now`: in UTC seconds.
        """
        async with self._asking:
            if monotonic() > self._asked_at + HOLDS:
                try:
                    self._newest = await self._list()
                except (Refusal, NoAnswer) as error:
                    log.info("events cannot be read", error=str(error))
                    self._newest = {}
                self._asked_at = monotonic()
        found = self._newest.get(uid)
        over = found is None or (found.last_time is not None and found.last_time + self._lasts < now)
        return None if over else found

    async def _list(self) -> dict[str, Event]:
        newest: dict[str, Event] = {}
        for selector in self._selectors:
            query = {"fieldSelector": selector, "limit": str(PAGE)}
            while query:
                page = await self._api.ask(EVENTS.read_list, "list", "events", query=query)
                for event in page.items:
                    known = newest.get(event.subject)
                    if known is None or known.metadata.version < event.metadata.version:
                        newest[event.subject] = event
                query = {**query, "continue": page.more} if page.more else {}
        return newest
