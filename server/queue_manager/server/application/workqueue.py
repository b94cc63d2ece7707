"""A work queue of keys: each key is handled by one task at a time, many keys at once, and repeated wishes count once.

What `client-go`'s rate-limiting work queue is to Kubernetes controllers: whoever learns something adds a key, never a
piece of work, so that a flood of hints costs one step. A key that was added while it is being handled is handled once
more. A handler that fails is repeated with jittered exponential backoff, per key.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from random import Random
from typing import Final

import structlog

from queue_manager.server.domain.errors import Unavailable

log = structlog.get_logger(__name__)

BACKOFF_FIRST: Final = 0.1
BACKOFF_LONGEST: Final = 15.0

Handler = Callable[[str], Awaitable[float | None]]
"""Handles a key; answers after how many seconds to handle it again at the latest (None: only when it is added)."""


class Backoff:
    """Jittered exponential delays, per key, on the event loop's clock."""

    def __init__(self, rng: Random) -> None:
        """The source of the jitter."""
        self._rng = rng
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def failed(self, key: str, *, at_least: float = 0.0) -> float:
        """One more failure of this key: after how many seconds to try again."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        longest = min(BACKOFF_LONGEST, BACKOFF_FIRST * 2.0 ** min(failures, 16))
        delay = max(at_least, longest * self._rng.uniform(0.5, 1.0))
        self._until[key] = asyncio.get_running_loop().time() + delay
        return delay

    def wait(self, key: str) -> float:
        """How many seconds are left of this key's delay; 0: none."""
        return max(0.0, self._until.get(key, 0.0) - asyncio.get_running_loop().time())

    def clear(self, key: str) -> None:
        """The key has succeeded, or is gone."""
        self._failures.pop(key, None)
        self._until.pop(key, None)


class WorkQueue:
    """Add keys from the event loop's thread; they are handled while `run` runs."""

    def __init__(self, name: str, handler: Handler, *, rng: Random, concurrency: int = 64) -> None:
        """`concurrency`: how many keys are handled at once."""
        self._name = name
        self._handler = handler
        self._backoff = Backoff(rng)
        self._concurrency = concurrency
        self._ready: OrderedDict[str, float] = OrderedDict()  # a dict is slow at losing its first key again and again
        self._active: dict[str, bool] = {}  # key → was added again meanwhile
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def depth(self) -> int:
        """Keys that wait to be handled now."""
        return len(self._ready)

    def oldest_age(self) -> float:
        """For how long the key that has waited longest has waited, in seconds."""
        if not self._ready:
            return 0.0
        return asyncio.get_running_loop().time() - next(iter(self._ready.values()))

    def add(self, key: str) -> None:
        """Handle this key as soon as possible."""
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
        if key in self._active:
            self._active[key] = True
        elif key not in self._ready:
            self._ready[key] = asyncio.get_running_loop().time()
            self._pump()

    def add_after(self, key: str, delay: float = 0.0) -> None:
        """Handle this key after `delay` seconds, or earlier where it is added earlier."""
        if delay <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._fire, key)

    async def run(self) -> None:
        """Handle keys until cancelled; then let the steps under way be cancelled too, and wait for them."""
        self._running = True
        self._pump()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._running = False
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Wait until no key is being handled or waits to be handled now (timers may still be set)."""
        await self._idle.wait()

    def _fire(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _pump(self) -> None:
        while self._running and self._ready and len(self._active) < self._concurrency:
            key, _ = self._ready.popitem(last=False)
            self._active[key] = False
            self._idle.clear()
            task = asyncio.create_task(self._handle(key), name=f"{self._name}:{key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, key: str) -> None:
        self._active[key] = False  # what was added before it began is covered by it
        again: float | None = None
        failed = False
        try:
            again = await self._handler(key)
            self._backoff.clear(key)
        except Exception as error:  # any fault of a step is retried; the record still says what is to be done
            failed = True
            transient = isinstance(error, Unavailable)
            again = self._backoff.failed(
                key, at_least=(error.retry_after or 0.0) if isinstance(error, Unavailable) else 0.0
            )
            log.warning(
                "step failed",
                step=self._name,
                queue_id=key,
                error=str(error),
                retry_in=round(again, 3),
                exc_info=not transient,
            )
        finally:
            added_again = self._active.pop(key)
            if self._running:
                if again is not None:
                    self.add_after(key, again)
                if added_again and not failed:
                    self.add(key)
                self._pump()
            if not self._active and not self._ready:
                self._idle.set()
