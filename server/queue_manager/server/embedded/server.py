"""Puts a server together in memory, listens on a loopback port, and can be out of reach for a while.

Its connections can be cut while its core goes on: what a caller sees of a network that fails, or of a server that is
restarted.
"""

from __future__ import annotations

import asyncio
import socket
import uuid
from contextlib import AsyncExitStack
from random import Random
from typing import Final, Self

import grpc

from queue_manager.server.adapters.inprocess.clock import SystemClock
from queue_manager.server.adapters.inprocess.store import MemoryStore
from queue_manager.server.application.core import Core, CoreSettings
from queue_manager.server.application.instruments import Instruments
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.launch import Platform
from queue_manager.server.domain.timings import Timings
from queue_manager.server.embedded.bus import ScriptedBus
from queue_manager.server.embedded.director import Director
from queue_manager.server.embedded.launches import Launches
from queue_manager.server.embedded.quiet_log import quiet_log
from queue_manager.server.embedded.recorded import Recorded
from queue_manager.server.embedded.runner import ScriptedRunner
from queue_manager.server.rpc.convert import encode_event
from queue_manager.server.rpc.encoder import QueueEncoder
from queue_manager.server.rpc.health import Health
from queue_manager.server.rpc.server import build, listen
from queue_manager.server.rpc.servicer import Servicer

HOST: Final = "127.0.0.1"
MAX_MESSAGE_BYTES: Final = 2**20
"""The default of a real server."""
CLOSING_GRACE: Final = 0.2
"""Seconds that streams have to take their last frame when the server is closed."""
DELETE_GRACE: Final = 0.1
"""Seconds from SIGTERM to SIGKILL of a worker that ignores the first."""
LINGER_GRACE: Final = 0.2
"""Seconds that a worker may go on after it has said that it has finished."""
DRAIN_SETTLE: Final = 0.01
"""Seconds that a reader must have had nothing left before it is ended as done: nothing is on its way here."""
LAG_POLL: Final = 0.05
"""Seconds between two looks at what a reader has left; a direction doesn't wait for the next."""


class _Unobserved:
    """Nobody counts the calls."""

    def call_began(self, method: str) -> float:  # noqa: ARG002 - see CallObserver
        """Nothing."""
        return 0.0

    def call_ended(self, method: str, code: str, began: float) -> None:
        """Nothing."""


class EmbeddedServer:
    """Used as `async with`, in the event loop that it is to run in; `director` and `launches` say what workers do."""

    director: Director
    launches: Launches

    def __init__(self, *, stop_grace: float) -> None:
        """`stop_grace`: seconds that workers which ignore a stop are left, where the request does not say."""
        self._stop_grace = stop_grace
        self._stack = AsyncExitStack()
        self._port = 0
        self._grpc: grpc.aio.Server | None = None
        self._reserved: socket.socket | None = None
        self._servicer: Servicer
        self._health: Health

    @property
    def address(self) -> str:
        """Where it listens, or will again: always the same."""
        return f"{HOST}:{self._port}"

    async def __aenter__(self) -> Self:
        """Start; it serves when this returns."""
        async with AsyncExitStack() as stack:
            stack.enter_context(quiet_log())
            core = self._assemble(stack)
            working = asyncio.create_task(core.run(), name="core")
            stack.push_async_callback(_ended, working)
            await core.ready.wait()
            self._health = Health(core.problems)
            await self._health.refresh()
            self._servicer = Servicer(core.service, core.dead_letters, core.diagnose)
            await self.listen()
            stack.push_async_callback(self._shut_down, core)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop: streams end after a last frame, calls in flight are answered, the port is closed."""
        await self._stack.aclose()

    async def listen(self) -> None:
        """Be reachable, at the same address as ever. Raises `RuntimeError` where it is already."""
        if self._grpc is not None:
            raise RuntimeError("this server is reachable already")
        server = build(
            self._servicer,
            self._health,
            observer=_Unobserved(),
            new_id=_new_id,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        self._give_up_port()
        self._port = listen(server, self.address, "port")
        await server.start()
        self._grpc = server

    async def go_away(self) -> None:
        """Cut all connections at once and refuse new ones; the core goes on. `RuntimeError` where it is away already."""
        if self._grpc is None:
            raise RuntimeError("this server is away already")
        server, self._grpc = self._grpc, None
        await server.stop(None)
        self._reserve_port()

    def _assemble(self, stack: AsyncExitStack) -> Core:
        clock = SystemClock()
        runner = ScriptedRunner(clock=clock, new_uid=_new_id)
        stack.callback(runner.close)
        bus = ScriptedBus(runner)
        timings = Timings(
            stop_grace=self._stop_grace,
            delete_grace=DELETE_GRACE,
            linger_grace=LINGER_GRACE,
            drain_settle=DRAIN_SETTLE,
            lag_poll=LAG_POLL,
        )
        catalogue = builtin_catalogue()
        core = Core(
            store=MemoryStore(),
            runner=runner,
            bus=bus,
            clock=clock,
            rng=Random(),  # noqa: S311 - ids and jitter, not secrets
            catalogue=catalogue,
            platform=Platform(),
            settings=CoreSettings(timings=timings, telemetry_window=0.0),
            encode_queue=QueueEncoder(),
            encode_event=encode_event,
            instruments=Instruments(),
        )
        recorded = Recorded(core, runner)
        self.director = Director(core, recorded, runner=runner, bus=bus, clock=clock)
        self.launches = Launches(catalogue, recorded, runner, self.director)
        stack.push_async_callback(self.launches.close)
        return core

    async def _shut_down(self, core: Core) -> None:
        await self._health.close()
        core.hub.close()
        if self._grpc is not None:
            await self._grpc.stop(CLOSING_GRACE)
        self._grpc, self._port = None, 0
        await core.service.drain()
        await core.dead_letters.drain()
        self._give_up_port()

    def _reserve_port(self) -> None:
        """Keep the port from everybody else. Nobody listens on it, so connections are refused."""
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((HOST, self._port))

    def _give_up_port(self) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            reserved.close()


async def _ended(task: asyncio.Task[None]) -> None:
    """End a task. Raises what it failed with, if it did."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
