"""The worker kit over standard input and output, as a process: what a worker made with it says, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support import running_worker
from tests.support.running_worker import Running

QUEUE = "wf-btcusdt-run-20240601-a1b2c3"
ENVIRONMENT = {"QUEUE_ID": QUEUE, "TELEMETRY_PRODUCER_ID": "mine__a1b2c3", "SYMBOL": "BTCUSDT", "TYPE": "run"}

HEAD = "import asyncio\nfrom queue_manager.worker import Exit, Worker, run\n"


@asynccontextmanager
async def worker(source: str, **variables: str) -> AsyncIterator[Running]:
    """Start one, and end it if it has not ended."""
    environment = {"PATH": os.environ["PATH"], **ENVIRONMENT, **variables}
    program = HEAD + textwrap.dedent(source)
    async with running_worker.running(sys.executable, "-c", program, environment=environment, quiet=True) as running:
        yield running


WAITS = """
    async def work(worker: Worker) -> None:
        await worker.loading("half", records_written=5, progress=0.5, shard=None, lag=3)
        await asyncio.Event().wait()
    run(work)
"""


async def test_a_function_that_returns_has_finished() -> None:
    """Whom it works for stands in every message."""
    source = """
        async def work(worker: Worker) -> None:
            assert worker.environment.symbol == "BTCUSDT"
            await worker.loading("half", records_written=5, progress=0.5, shard=None, lag=3)
            await worker.note("a record is broken")
        run(work)
    """
    async with worker(source) as running:
        assert (await running.end(), running.words) == (
            0,
            [("started", False), ("loading", False), ("error", False), ("finished", True)],
        )
    assert {(one["queue_id"], one["telemetry_id"], one["type"]) for one in running.said} == {
        (QUEUE, "mine__a1b2c3", "run")
    }
    loading = running.said[1]
    assert (loading["records_written"], loading["progress"], loading["lag"], "shard" in loading) == (5, 0.5, 3, False)


@pytest.mark.parametrize("how", ["command", "signal", "both, twice"])
async def test_a_stop_is_one_cancellation(how: str) -> None:
    """Whichever way it comes, and however often."""
    source = """
        async def work(worker: Worker) -> None:
            try:
                await worker.loading()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0.1)  # tidying up is not cut off by the next stop
                await worker.loading("tidied up")
                raise
        run(work)
    """
    async with worker(source) as running:
        await running.hear("loading")
        running.command(command="stop", queue_id="wf-somebody-elses")
        for _ in range(2 if how == "both, twice" else 1):
            if how != "signal":
                running.command(command="stop", queue_id=QUEUE)
            if how != "command":
                running.process.send_signal(signal.SIGTERM)
        code = await running.end()
    assert code == 0
    assert running.words == [
        ("started", False),
        ("loading", False),
        ("loading", False),
        ("interrupted", False),
        ("finished", True),
    ]


async def test_one_that_returns_when_it_is_stopped_was_stopped_all_the_same() -> None:
    """Its work is not done."""
    source = """
        async def work(worker: Worker) -> None:
            try:
                await worker.loading()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return
        run(work)
    """
    async with worker(source) as running:
        await running.hear("loading")
        running.command(command="stop", queue_id=QUEUE)
        assert (await running.end(), running.words) == (
            0,
            [("started", False), ("loading", False), ("interrupted", False), ("finished", True)],
        )


async def test_a_function_that_raises_has_failed() -> None:
    """With its words, and exit code 1."""
    source = """
        async def work(worker: Worker) -> None:
            raise LookupError("no such symbol")
        run(work)
    """
    async with worker(source) as running:
        assert (await running.end(), running.words) == (1, [("started", False), ("error", True)])
    assert running.said[-1]["error_message"] == "no such symbol"


async def test_an_error_of_any_length_is_told() -> None:
    """As much of it as the manager keeps: a broker would not take a whole record, and nobody would hear of the end."""
    source = """
        async def work(worker: Worker) -> None:
            await worker.note("n" * 2_000_000)
            raise LookupError("e" * 2_000_000)
        run(work)
    """
    async with worker(source) as running:
        assert (await running.end(), running.words) == (1, [("started", False), ("error", False), ("error", True)])
    assert [one["error_message"] for one in running.said[1:]] == ["n" * 4096, "e" * 4096]


async def test_an_exit_code_can_be_chosen() -> None:
    """What there is to say was said before; after the last words nothing is said."""
    source = """
        async def work(worker: Worker) -> None:
            await worker.failed("it is broken")
            await worker.loading("not heard")
            raise Exit(64)
        run(work)
    """
    async with worker(source) as running:
        assert (await running.end(), running.words) == (64, [("started", False), ("error", True)])


async def test_a_ping_is_answered_and_what_is_no_command_is_passed_over() -> None:
    """With the time that it carried; a pong has no status."""
    async with worker(WAITS) as running:
        await running.hear("loading")
        assert running.process.stdin is not None
        running.process.stdin.write(b'nonsense\n[]\n"stop"\n{"command": "stop"}\n')
        running.command(command="simulate-loading", queue_id=QUEUE)
        running.command(command="ping", queue_id=QUEUE, sent_at=1722500000.123)
        pong = await running.hear("pong")
        assert pong["ping_ts"] == 1722500000.123
        assert "status" not in pong
        running.command(command="stop", queue_id=QUEUE)
        assert await running.end() == 0


async def test_it_works_on_where_nobody_listens_and_nobody_speaks() -> None:
    """Standard input and output are closed."""
    source = """
        async def work(worker: Worker) -> None:
            for _ in range(3):
                await worker.loading()
        run(work)
    """
    async with worker(source) as running:
        assert running.process.stdin is not None
        running.process.stdin.close()
        assert await running.end() == 0


def test_without_its_environment_it_says_what_is_missing() -> None:
    """And who sets it."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + "run(None)"],
        env={"PATH": os.environ["PATH"], "QUEUE_ID": QUEUE},
        capture_output=True,
        check=False,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("TELEMETRY_PRODUCER_ID must be set: a worker is started by the Queue Manager")
