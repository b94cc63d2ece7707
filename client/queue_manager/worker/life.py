"""A worker's life: from its environment to its exit code."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import NoReturn

from queue_manager.worker.channel import Channel, Hear, StandardChannel
from queue_manager.worker.environment import Environment
from queue_manager.worker.worker import Worker

Work = Callable[[Worker], Awaitable[None]]

MISUSED = 2
"""The exit code of a worker whose environment cannot be used."""


class Exit(Exception):
    """Raise it to end with this exit code; what there is to say of that was said before."""

    def __init__(self, code: int) -> None:
        """0 to 255."""
        super().__init__(code)
        self.code = code


def run(work: Work, *, opening: str = "", heeds_stop: bool = True, speaks: bool = True) -> NoReturn:
    """Live, and exit the process: with 0 where `work` returns or is stopped, with 1 where it raises, or as `Exit` says.

    `opening`: the message that goes with `started`. `heeds_stop=False`: neither `stop` nor SIGTERM does anything;
    `speaks=False`: nothing is ever said. Both are for those who play a worker that hangs.
    """
    try:
        environment = Environment.read()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(MISUSED)
    sys.exit(asyncio.run(_live(work, environment, opening=opening, heeds_stop=heeds_stop, speaks=speaks)))


async def _live(work: Work, environment: Environment, *, opening: str, heeds_stop: bool, speaks: bool) -> int:
    inbox: asyncio.Queue[bytes] = asyncio.Queue()
    async with _channel(environment, inbox.put_nowait) as channel:
        worker = Worker(environment, channel.send)
        worker.silent = not speaks
        await worker.started(opening, records_written=0)
        working = asyncio.ensure_future(work(worker))

        stopped = asyncio.Event()

        def stop() -> None:
            if heeds_stop and not stopped.is_set():  # one cancellation, however often it is told
                stopped.set()
                working.cancel()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stop)
        listening = asyncio.create_task(_obey(inbox, worker, stop), name="obey")
        try:
            await asyncio.wait([working])
            return await _ended(worker, working, stopped=stopped.is_set())
        finally:
            listening.cancel()
            loop.remove_signal_handler(signal.SIGTERM)


async def _ended(worker: Worker, working: asyncio.Future[None], *, stopped: bool) -> int:
    """Tell how it ended; the exit code. One that tidied up when it was stopped, and returned, was stopped all the same."""
    if working.cancelled() or (stopped and working.exception() is None):
        await worker.interrupted()
        await worker.finished("stopped")
        return 0
    match working.exception():
        case None:
            await worker.finished()
            return 0
        case Exit() as wished:
            return wished.code
        case error:
            traceback.print_exception(error)
            await worker.failed(str(error) or type(error).__name__)
            return 1


async def _obey(inbox: asyncio.Queue[bytes], worker: Worker, stop: Callable[[], None]) -> None:
    """Commands of this queue; what cannot be read, or is not known, is somebody else's."""
    while True:
        raw = await inbox.get()
        try:
            command = json.loads(raw)
        except ValueError:
            continue
        if worker.deaf or not isinstance(command, dict) or command.get("queue_id") != worker.environment.queue_id:
            continue
        if command.get("command") == "stop":
            stop()
        elif command.get("command") == "ping":
            await worker.pong(command)


def _channel(environment: Environment, hear: Hear) -> Channel:
    if not environment.bootstrap_servers:
        return StandardChannel(hear)
    from queue_manager.worker.kafka import KafkaChannel  # noqa: PLC0415 - half a second, where there is no broker

    return KafkaChannel(environment, hear)
