"""An event loop in a thread of its own, and calls into it from every other one.

What stands between synchronous callers and the asynchronous core. It knows nothing of the Queue Manager: whoever uses
it hands in coroutines and is given their results.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

from queue_manager.client import forking

T = TypeVar("T")
Item = TypeVar("Item")

_END: Final = object()


class LoopThread:
    """Runs from when it is made until `close`; then it is over. Safe to use from all threads.

    Its thread is a daemon: a program that forgets to close it ends all the same.
    """

    def __init__(self, owner: str) -> None:
        """`owner` is who the errors speak of, for instance "client"."""
        forking.enter(self)
        self._owner = owner
        # Reentrant, because the garbage collector may close a generator of `iterate` while this thread holds it.
        self._lock = threading.RLock()
        self._readings: set[_Reading] = set()
        opened: Future[asyncio.AbstractEventLoop] = Future()
        self._closing = asyncio.Event()
        self._thread = threading.Thread(target=self._work, args=(opened,), name=f"queue-manager-{owner}", daemon=True)
        self._thread.start()
        self._loop: asyncio.AbstractEventLoop | None = opened.result()

    @classmethod
    def opened(
        cls,
        owner: str,
        first: Callable[[], Coroutine[Any, Any, object]],
        last: Callable[[], Coroutine[Any, Any, None]],
    ) -> Self:
        """A thread in which `first` has been run. Where that fails, `last` is run and the thread is gone."""
        thread = cls(owner)
        try:
            thread.run(first())
        except BaseException:
            thread.close(last)
            raise
        return thread

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run it in the loop and wait for what it returns or raises. It is cancelled where the wait is interrupted.

        `RuntimeError`: closed before or meanwhile; called in the loop's own thread, which would wait for itself; or in
        a process that was forked off, which has no such thread.
        """
        try:
            self._refuse_own_thread()
        except RuntimeError:
            coroutine.close()
            raise
        future = self._submit(coroutine)
        try:
            return future.result()
        except CancelledError:
            raise RuntimeError(f"the {self._owner} was closed during the call") from None
        except BaseException:
            future.cancel()  # nothing happens where it is the coroutine's own exception; else it was Ctrl-C
            raise
        finally:
            del future  # it holds the exception, whose traceback would hold it

    def iterate(self, items: AsyncGenerator[Item, None]) -> Generator[Item, None, None]:
        """The same iteration, one item at a time: none is asked for before the caller wants it."""
        reading = _Reading(items, self._readings)
        try:
            while True:
                item = self.run(reading.next())
                if item is _END:
                    return
                yield item
        finally:
            self._tidy(reading.close())

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `last`, cancel what is under way, and end the thread. May be repeated.

        `RuntimeError` in the loop's own thread. In a process that was forked off there is nothing to end.
        """
        if forking.lost():
            return
        self._refuse_own_thread()
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            try:
                asyncio.run_coroutine_threadsafe(self._end(last), loop).result()
            finally:
                loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()
        forking.leave(self)

    def _work(self, opened: Future[asyncio.AbstractEventLoop]) -> None:
        async def until_closed() -> None:
            opened.set_result(asyncio.get_running_loop())
            await self._closing.wait()

        try:
            with asyncio.Runner() as runner:  # in the end it cancels what is left, and closes asynchronous generators
                runner.run(until_closed())
        except BaseException as e:
            if opened.done():
                raise
            opened.set_exception(e)  # no loop could be made (out of file descriptors): whoever waits for it is told

    async def _end(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await last()
        for reading in tuple(self._readings):  # one by one: the loop's own end would close what is nested side by side
            await reading.close()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Hand it to the loop. Raises `RuntimeError` where that will never come to it."""
        try:
            forking.check()
            with self._lock:  # so that the loop is not told to end in between
                if self._loop is None:
                    raise RuntimeError(f"the {self._owner} is closed")
                return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            raise

    def _refuse_own_thread(self) -> None:
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                f"the {self._owner} cannot be called from its own thread (in a callback): it would wait for itself"
            )

    def _tidy(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what ends an iteration. The garbage collector may be doing this, in whatever thread, at whatever time."""
        if sys.is_finalizing():  # daemons do not run any more
            coroutine.close()
            return
        with suppress(RuntimeError, CancelledError):  # closed, and with it everything that was open
            future = self._submit(coroutine)
            if threading.current_thread() is not self._thread:
                future.result()


class _Reading:
    """One asynchronous iteration, from the loop's side."""

    def __init__(self, items: AsyncGenerator[Any, None], begun: set[_Reading]) -> None:
        """`begun`: where it stands from its first item to its end."""
        self._items = items
        self._begun = begun
        self._reader: asyncio.Task[Any] | None = None

    async def next(self) -> Any:
        """The next item, or `_END`."""
        self._begun.add(self)
        self._reader = asyncio.current_task()
        try:
            return await anext(self._items, _END)
        finally:
            self._reader = None

    async def close(self) -> None:
        """End the iteration. A read that was interrupted may not have noticed yet, and goes first."""
        self._begun.discard(self)
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        await self._items.aclose()
