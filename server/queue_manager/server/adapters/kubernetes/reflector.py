"""A copy of the objects of one kind that carry our label, kept up to date: list, then watch.

It follows client-go's rules, less what a few thousand objects do not need. What is missing from a list has gone. A watch
is resumed from the last version seen, bookmarks included; where the server no longer has that version (410, as a status
or inside the stream), everything is listed anew, and so it is now and then in any case. A watch that says nothing for
longer than bookmarks are apart is taken for dead. Whatever fails is repeated with backoff, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from time import monotonic
from typing import Any, Final, Generic, TypeVar

import structlog
from msgspec.structs import replace

from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, Refusal
from queue_manager.server.adapters.kubernetes.objects import Kept, Kind, Listed, number, read_status, read_watch_event
from queue_manager.server.application.workqueue import Backoff

log = structlog.get_logger(__name__)

PAGE: Final = 500
SILENCE: Final = 70.0
"""Seconds without a word after which a watch is begun anew. Bookmarks come about every 60 s, and the server keeps some
75 s of events."""
WATCH_SECONDS: Final = (240, 300)
"""How long the server is asked to keep a watch open; drawn at random, so that watches do not all end at once."""
RELIST: Final = 600.0
"""Seconds after which everything is listed again, whatever the watch says."""
PAUSE: Final = 0.2
"""Seconds between two requests at least: a server that ends every watch at once is not asked in a hot loop."""
EXPIRED: Final = "expired"
"""What befalls a watch whose version the server no longer has."""
PATIENCE: Final = 3
"""Watches that may fail in a row before everything is listed again."""


Observe = Callable[[str, str], None]
"""Told of what befalls a watch: the resource, and `relist`, `expired` or `failed`."""


K = TypeVar("K", bound=Kept)


def is_news(known: Kept | None, item: Kept) -> bool:
    """Whether anything that is read here has changed; most of what controllers write of an object is not."""
    if known is None:
        return True
    if known is item:
        return False
    before, after = known.metadata, item.metadata
    if before.resource_version == after.resource_version:
        return False
    return known.status != item.status or replace(before, resource_version=after.resource_version) != after


class Gone(Exception):
    """The server no longer has the version from which we would go on."""


class Reflector(Generic[K]):
    """The objects of one resource by name, as of a moment ago."""

    def __init__(
        self,
        api: Api,
        kind: Kind[K, Any],
        selector: str,
        *,
        changed: Callable[[K], None],
        rng: Random,
        observe: Observe = lambda *_: None,
    ) -> None:
        """`changed` is given each object that came, changed, or has gone."""
        self.objects: dict[str, K] = {}
        self.synced = asyncio.Event()
        """Set once everything has been listed."""
        self.tried = asyncio.Event()
        """Set once that has been tried, with whatever result."""
        self.problem = ""
        """Why it is not up to date now; empty where it is."""
        self._api = api
        self._kind = kind
        self._resource = kind.resource
        self._selector = selector
        self._changed = changed
        self._observe = observe
        self._rng = rng
        self._backoff = Backoff(rng)
        self._version = ""
        self._listed_at = 0.0
        self._heard_at = monotonic()

    async def run(self) -> None:
        """Keep the copy up to date until cancelled."""
        failures = 0
        while True:
            try:
                if not self._version or monotonic() > self._listed_at + RELIST:
                    await self._list()
                await self._watch()
                failures = 0
            except Gone as error:
                self._version = ""
                self._observe(self._resource, EXPIRED)
                delay = self._backoff.failed(EXPIRED)
                log.info("watch expired", resource=self._resource, error=str(error), retry_in=round(delay, 3))
                await asyncio.sleep(delay)
            except Exception as error:  # whatever it is, without a watch there is no server
                if not isinstance(error, (Refusal, NoAnswer, ValueError)):
                    log.exception("watch failed in a way that is not foreseen", resource=self._resource)
                failures += 1
                self.problem = str(error) or type(error).__name__
                self.tried.set()
                self._observe(self._resource, "failed")
                if failures >= PATIENCE:
                    failures, self._version = 0, ""
                at_least = (error.retry_after or 0.0) if isinstance(error, Refusal) else 0.0
                delay = self._backoff.failed(self._resource, at_least=at_least)
                log.warning("watch failed", resource=self._resource, error=self.problem, retry_in=round(delay, 3))
                await asyncio.sleep(delay)
            await asyncio.sleep(PAUSE)

    def read(self, raw: bytes) -> K:
        """An object, as the API answers it. Raises `ValueError`."""
        return self._kind.read(raw, self.objects)

    def put(self, item: K) -> K:
        """Take in an object that the API has just given to the caller, unless the watch is that far already.

        What it is beyond it knows better: the object may be gone again. Answers the newest form that is known.
        """
        if item.metadata.version > number(self._version):
            self.objects[item.metadata.name] = item
        return self.objects.get(item.metadata.name, item)

    def drop(self, name: str) -> None:
        """The API has just said that there is none of this name."""
        if (gone := self.objects.pop(name, None)) is not None:
            self._changed(gone)

    async def _list(self) -> None:
        found: dict[str, K] = {}
        query = {"labelSelector": self._selector, "limit": str(PAGE)}
        while True:
            try:
                page = await self._api.ask(self._read_list, "list", self._resource, query=query)
            except Refusal as error:
                if error.code == 410:  # the list changed too much between two of its pages
                    raise Gone from error
                raise
            found.update((item.metadata.name, item) for item in page.items)
            if not page.more:
                break
            query["continue"] = page.more
        before, self.objects = self.objects, found
        listed = number(page.version)
        for name, item in before.items():  # what was taken in while the pages were read
            if name not in found and item.metadata.version > listed:
                found[name] = item
        self._version, self._listed_at = page.version, monotonic()
        self._observe(self._resource, "relist")
        self._heard_at = monotonic()
        self.synced.set()
        self.tried.set()
        for name, item in found.items():
            if is_news(before.pop(name, None), item):
                self._changed(item)
        for gone in before.values():
            self._changed(gone)

    def _read_list(self, raw: bytes) -> Listed[K]:
        return self._kind.read_list(raw, self.objects)

    async def _watch(self) -> None:
        """Follow until the server ends the watch. Raises `Gone`, `Refusal`, `NoAnswer`."""
        query = {
            "labelSelector": self._selector,
            "resourceVersion": self._version,
            "timeoutSeconds": str(self._rng.randint(*WATCH_SECONDS)),
        }
        try:
            async with self._api.watch(self._resource, query, silence=SILENCE) as frames:
                self._heard()  # that it was accepted; an event may be long in coming
                async for frame in frames:
                    self._take_in(*read_watch_event(frame))
        except Refusal as error:
            if error.code == 410:
                raise Gone from error
            raise

    def _take_in(self, what: str, raw: bytes) -> None:
        if what == "ERROR":
            status = read_status(raw)
            if status.code == 410:
                raise Gone(status.message)
            raise Refusal(status.code, status)
        item = self.read(raw)
        name = item.metadata.name
        self._version = item.metadata.resource_version
        self._heard()
        self._backoff.clear(EXPIRED)
        if what == "BOOKMARK":
            return
        if what == "DELETED":
            self.objects.pop(name, None)
        else:
            known = self.objects.get(name)
            self.objects[name] = item
            if not is_news(known, item):
                return
        self._changed(item)

    @property
    def age(self) -> float:
        """Seconds since anything was heard."""
        return monotonic() - self._heard_at

    def _heard(self) -> None:
        self._heard_at = monotonic()
        self.problem = ""
        self._backoff.clear(self._resource)
