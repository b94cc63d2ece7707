"""An event loop in a thread of its own: results, interruptions, iterations, and every way in which it can be over."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing

import pytest

from queue_manager.client.loop_thread import LoopThread

PATIENCE = 20.0


async def nothing() -> None:
    """What a thread does last."""


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread("client")
    yield thread
    thread.close(nothing)


class Endless:
    """A coroutine that waits until it is cancelled, and tells."""

    def __init__(self) -> None:
        self.begun, self.cancelled = threading.Event(), threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()


class Counting:
    """An endless iteration that says how far it was read, and whether it was closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Event()

    async def __call__(self) -> AsyncGenerator[int, None]:
        try:
            while True:
                self.made += 1
                yield self.made
        finally:
            self.closed.set()


def interrupt_when_waiting(begun: threading.Event) -> threading.Thread:
    """Press Ctrl-C once the main thread waits for a call that has begun."""
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        begun.wait(PATIENCE)
        tick = threading.Event()
        while sys._current_frames()[main].f_code.co_name != "wait":
            tick.wait(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    pressing = threading.Thread(target=press)
    pressing.start()
    return pressing


class TestRun:
    def test_it_returns_and_raises_what_the_coroutine_does(self, thread: LoopThread) -> None:
        async def double(number: int) -> int:
            if number < 0:
                raise ValueError("negative")
            return 2 * number

        assert thread.run(double(21)) == 42
        with pytest.raises(ValueError, match="negative"):
            thread.run(double(-1))

    def test_many_threads_may_wait_at_once(self, thread: LoopThread) -> None:
        """None of these calls could return without the others."""
        together = asyncio.Barrier(8)

        async def meet() -> int:
            async with together:
                return 1

        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(lambda: thread.run(meet())) for _ in range(8)]
            assert sum(call.result(PATIENCE) for call in calls) == 8

    async def test_it_may_be_called_inside_a_running_loop(self, thread: LoopThread) -> None:
        """As in a notebook."""
        assert thread.run(asyncio.sleep(0, "done")) == "done"

    def test_ctrl_c_cancels_what_is_waited_for(self, thread: LoopThread) -> None:
        endless = Endless()
        pressing = interrupt_when_waiting(endless.begun)
        with pytest.raises(KeyboardInterrupt):
            thread.run(endless())
        assert endless.cancelled.wait(PATIENCE)
        pressing.join()
        assert thread.run(asyncio.sleep(0, "as before")) == "as before"

    def test_its_own_thread_may_not_wait_for_itself(self, thread: LoopThread) -> None:
        async def calls_back() -> None:
            thread.run(nothing())

        async def closes() -> None:
            thread.close(nothing)

        for act in (calls_back, closes):
            with pytest.raises(RuntimeError, match="wait for itself"):
                thread.run(act())


class TestClose:
    def test_it_does_something_last_and_may_be_repeated(self) -> None:
        done = []

        async def last() -> None:
            done.append(threading.current_thread())

        thread = LoopThread("client")
        for _ in range(2):
            thread.close(last)
        (where,) = done
        assert where is not threading.current_thread()
        assert not where.is_alive()

    def test_a_call_under_way_elsewhere_is_told(self) -> None:
        """Also one that does not end by what is done last."""
        thread, endless = LoopThread("client"), Endless()
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(lambda: thread.run(endless()))
            assert endless.begun.wait(PATIENCE)
            thread.close(nothing)
            with pytest.raises(RuntimeError, match="the client was closed during the call"):
                call.result(PATIENCE)
        assert endless.cancelled.is_set()

    def test_afterwards_it_takes_no_calls(self) -> None:
        """And what it was handed is not left unawaited, which would be a warning."""
        thread = LoopThread("client")
        thread.close(nothing)
        with pytest.raises(RuntimeError, match="the client is closed"):
            thread.run(asyncio.sleep(0))
        with pytest.raises(RuntimeError, match="the client is closed"):
            next(thread.iterate(Counting()()))

    def test_a_loop_that_cannot_be_made_is_an_error_and_no_wait(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail() -> None:
            raise OSError("out of file descriptors")

        monkeypatch.setattr(asyncio, "Runner", fail)
        with pytest.raises(OSError, match="out of file descriptors"):
            LoopThread("client")


class TestIterate:
    def test_nothing_is_read_before_it_is_wanted(self, thread: LoopThread) -> None:
        """However fast the other side is: whoever does not read holds it back."""
        counting = Counting()
        items = thread.iterate(counting())
        assert counting.made == 0
        for wanted in (1, 2, 3):
            assert next(items) == wanted
            thread.run(asyncio.sleep(0))
            assert counting.made == wanted
        items.close()

    def test_it_ends_where_the_iteration_ends(self, thread: LoopThread) -> None:
        async def three() -> AsyncGenerator[int, None]:
            for number in range(3):
                yield number

        assert list(thread.iterate(three())) == [0, 1, 2]

    def test_it_raises_what_the_iteration_raises(self, thread: LoopThread) -> None:
        async def breaks() -> AsyncGenerator[int, None]:
            yield 1
            raise ValueError("broken")

        items = thread.iterate(breaks())
        assert next(items) == 1
        with pytest.raises(ValueError, match="broken"):
            next(items)

    def test_closing_it_closes_the_other_side_before_it_returns(self, thread: LoopThread) -> None:
        counting = Counting()
        with closing(thread.iterate(counting())) as items:
            next(items)
            assert not counting.closed.is_set()
        assert counting.closed.is_set()

    def test_leaving_the_loop_closes_the_other_side(self, thread: LoopThread) -> None:
        counting = Counting()
        for _ in thread.iterate(counting()):
            break
        assert counting.closed.is_set()

    def test_one_that_was_never_begun_may_be_dropped(self, thread: LoopThread) -> None:
        """Without a warning that something was never awaited."""
        thread.iterate(Counting()()).close()
        gc.collect()

    def test_the_garbage_collector_may_close_it_in_the_loops_own_thread(self, thread: LoopThread) -> None:
        """Nobody can choose where that happens; there it must not wait for itself."""
        counting = Counting()
        items = thread.iterate(counting())
        next(items)

        async def collect() -> None:
            items.close()

        thread.run(collect())
        assert counting.closed.wait(PATIENCE)

    def test_ctrl_c_ends_a_read_and_the_rest(self, thread: LoopThread) -> None:
        begun, closed = threading.Event(), threading.Event()

        async def stalls() -> AsyncGenerator[int, None]:
            try:
                begun.set()
                await asyncio.get_running_loop().create_future()
                yield 1
            finally:
                closed.set()

        pressing = interrupt_when_waiting(begun)
        with pytest.raises(KeyboardInterrupt):
            next(thread.iterate(stalls()))
        pressing.join()
        assert closed.is_set()

    def test_closing_the_thread_ends_it_between_two_items(self, caplog: pytest.LogCaptureFixture) -> None:
        """The other side is closed from the outermost on. The end of the loop alone would close what is nested side by
        side, and log that this went wrong."""
        left = threading.Event()

        @asynccontextmanager
        async def opened() -> AsyncIterator[None]:
            try:
                yield
            finally:
                await asyncio.sleep(0)
                left.set()

        async def nested() -> AsyncGenerator[int, None]:
            async with opened():
                yield 1
                yield 2

        thread = LoopThread("client")
        items = thread.iterate(nested())
        assert next(items) == 1
        thread.close(nothing)
        assert left.is_set()
        with pytest.raises(RuntimeError, match="the client is closed"):
            next(items)
        assert not caplog.records
