"""Why Jobs have no pod: what the job controller notes where a pod of theirs cannot be made.

That tells nobody, so it is asked for; one answer holds for all Jobs of the namespace, and for some seconds.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final

import structlog

from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, Refusal
from queue_manager.server.adapters.kubernetes.objects import EVENTS, Event

log = structlog.get_logger(__name__)

HOLDS: Final = 4.0
"""Seconds for which an answer holds."""
PAGE: Final = 500


class Denials:
    """The newest `FailedCreate` event of each Job."""

    def __init__(self, api: Api) -> None:
        """Nothing is asked yet."""
        self._api = api
        self._newest: dict[str, Event] = {}
        self._asked_at = float("-inf")
        self._asking = asyncio.Lock()

    async def of(self, uid: str) -> Event | None:
        """What keeps out the pod of the Job with this uid; None where nothing was noted, or it cannot be read now."""
        async with self._asking:
            if monotonic() > self._asked_at + HOLDS:
                try:
                    self._newest = await self._list()
                except (Refusal, NoAnswer) as error:
                    log.info("events cannot be read", error=str(error))
                    self._newest = {}
                self._asked_at = monotonic()
        return self._newest.get(uid)

    async def _list(self) -> dict[str, Event]:
        newest: dict[str, Event] = {}
        query = {"fieldSelector": "involvedObject.kind=Job,reason=FailedCreate", "limit": str(PAGE)}
        while True:
            page = await self._api.ask(EVENTS.read_list, "list", "events", query=query)
            for event in page.items:
                known = newest.get(event.subject)
                if known is None or known.metadata.version < event.metadata.version:
                    newest[event.subject] = event
            if not page.more:
                return newest
            query["continue"] = page.more
