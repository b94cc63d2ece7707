"""A real server inside your own tests: `with TestServer() as server, server.client() as client:`.

Core, rules and gRPC are those of `queue-manager serve`, on a free loopback port. Its store is in memory, and it starts
no process: workers run until the test says what becomes of them. It needs the server's dependencies,
`pip install 'streamforge-queue-manager[server]'`; nothing else of the client does, and nothing else imports this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Final, Literal, Self

from queue_manager.client.async_client import AsyncClient
from queue_manager.client.backoff import Backoff
from queue_manager.client.loop_thread import LoopThread
from queue_manager.client.sync_client import Client

if TYPE_CHECKING:
    from queue_manager.server.embedded import EmbeddedServer

__all__ = ["TestServer"]

NOT_OPEN: Final = "the server is not open; use it inside `with TestServer() as server`"

Word = Literal["started", "loading", "finished", "interrupted", "error"]
"""What a worker can say of itself: the `status` of its telemetry."""


class TestServer:
    """A server with queues of its own; used as `with` or as `async with`.

    It runs in a thread of its own, so all of its methods are ordinary calls in asynchronous tests, too. They may be
    called from every thread, take some milliseconds, and return once the core has recorded what they say: whoever asks
    for the queue afterwards sees it. A worker that is still being launched is waited for.

    `LookupError`: there is no such queue or job; the message names those there are. `RuntimeError`: no worker of that
    job runs; the message says why, and which do. `ValueError`: no worker can say that.

    A worker that is asked to stop ends at once. Jobs have the names of their targets, and from the second of the same
    target on `-2`, `-3`, …
    """

    __test__: ClassVar[bool] = False  # pytest is not to take it for tests

    def __init__(self, *, stop_grace: float = 0.2) -> None:
        """`stop_grace`: seconds that workers which ignore a stop are left, where the stop itself does not say.

        Raises `ImportError` where the server's dependencies are missing.
        """
        self._server = _embedded_server(stop_grace)
        self._opened: LoopThread | None = None

    @property
    def address(self) -> str:
        """`host:port`, for a client's `target` or for `QM_SERVER`."""
        if self._opened is None:
            raise RuntimeError(NOT_OPEN)
        return self._server.address

    def client(
        self, *, timeout: float = 10.0, requested_by: str | None = None, backoff: Backoff | None = None
    ) -> Client:
        """A client of this server, not yet open. It tries again after shorter pauses than others, and always the same."""
        return Client(self.address, timeout=timeout, requested_by=requested_by, backoff=backoff or _quick())

    def async_client(
        self, *, timeout: float = 10.0, requested_by: str | None = None, backoff: Backoff | None = None
    ) -> AsyncClient:
        """The same for asyncio."""
        return AsyncClient(self.address, timeout=timeout, requested_by=requested_by, backoff=backoff or _quick())

    # --- what workers that run do now ---

    def report(
        self,
        queue_id: str,
        job: str,
        *,
        status: Word = "loading",
        records_written: int | None = None,
        progress: float | None = None,
        message: str | None = None,
    ) -> None:
        """The job's worker reports. `records_written`: in all, so it only grows; `progress`: from 0 to 1."""
        self._thread.run(
            self._server.director.report(
                queue_id, job, status=status, records_written=records_written, progress=progress, message=message
            )
        )

    def finish(
        self, queue_id: str, job: str, *, records_written: int | None = None, message: str | None = None
    ) -> None:
        """The job's worker says that it has finished, and exits with 0.

        The job is then FINISHED; one whose workers are to run until they are stopped (`ws_trades`) is FAILED.
        """
        self._thread.run(self._server.director.finish(queue_id, job, records_written=records_written, message=message))

    def fail(self, queue_id: str, job: str, *, exit_code: int = 1, message: str | None = None) -> None:
        """The job's worker reports an error, where there is a message, and exits: the job is FAILED."""
        self._thread.run(self._server.director.fail(queue_id, job, exit_code=exit_code, message=message))

    def lose(self, queue_id: str, job: str) -> None:
        """The job's worker vanishes, as if somebody had deleted it: the job is LOST."""
        self._thread.run(self._server.director.lose(queue_id, job))

    def drain(self, queue_id: str, job: str) -> None:
        """The job's worker, a historical connector, has read everything; the job is FINISHED (DRAINED).

        A real one does that by itself some time after the loaders that feed it have ended; here they must have, too.
        """
        self._thread.run(self._server.director.drain(queue_id, job))

    def ignore_stop(self, queue_id: str, job: str) -> None:
        """The job's worker does not obey a stop any more; it is killed when its grace is over."""
        self._thread.run(self._server.director.ignore_stop(queue_id, job))

    # --- what becomes of launches from now on, of one job or (None) of every job that was given nothing of its own ---

    def hold(self, job: str | None = None, *, message: str = "held by the test") -> None:
        """Workers are accepted and do not run: the job is STARTING, for the reason UNSCHEDULABLE, until `release`."""
        self._thread.run(self._server.launches.hold(job, message=message))

    def refuse(self, job: str | None = None, *, message: str = "refused by the test") -> None:
        """Workers are refused: the job is FAILED, for the reason CONFIG_ERROR."""
        self._thread.run(self._server.launches.refuse(job, message=message))

    def finish_when_launched(
        self, job: str | None = None, *, records_written: int | None = None, message: str | None = None
    ) -> None:
        """Workers do what `finish` says as soon as they run: for code that starts a queue and waits for its end."""
        self._thread.run(self._server.launches.finish(job, records_written=records_written, message=message))

    def fail_when_launched(self, job: str | None = None, *, exit_code: int = 1, message: str | None = None) -> None:
        """Workers do what `fail` says as soon as they run."""
        self._thread.run(self._server.launches.fail(job, exit_code=exit_code, message=message))

    def release(self, job: str | None = None) -> None:
        """Launches lead to workers that run, as at first. What is held runs now. None: all of that for every job."""
        self._thread.run(self._server.launches.release(job))

    # --- the connection ---

    def disconnect(self) -> None:
        """Cut all connections. Clients can come back at once."""
        self._thread.run(self._go_away_and_come_back())

    @contextmanager
    def outage(self) -> Iterator[None]:
        """While inside, all connections are cut and new ones refused. Queues go on, and so do the other methods."""
        self._thread.run(self._server.go_away())
        try:
            yield
        finally:
            self._thread.run(self._server.listen())

    # --- its life ---

    def __enter__(self) -> Self:
        """Start it; it serves when this returns."""
        if self._opened is not None:
            raise RuntimeError("this server is open already")
        self._opened = LoopThread.opened("server", self._server.__aenter__, self._server.__aexit__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End it; its queues are gone."""
        self.close()

    async def __aenter__(self) -> Self:
        """As `with`; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As `with`; the event loop goes on meanwhile."""
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """What leaving the context does. May be repeated."""
        thread, self._opened = self._opened, None
        if thread is not None:
            thread.close(self._server.__aexit__)

    @property
    def _thread(self) -> LoopThread:
        if self._opened is None:
            raise RuntimeError(NOT_OPEN)
        return self._opened

    async def _go_away_and_come_back(self) -> None:
        await self._server.go_away()
        await self._server.listen()


def _quick() -> Backoff:
    """Short pauses. Together, 1.8 s, they are longer than the longest pause that gRPC itself makes between connections."""
    return Backoff(initial=0.05, multiplier=1.5, maximum=0.2, attempts=12, uniform=lambda _, longest: longest)


def _embedded_server(stop_grace: float) -> EmbeddedServer:
    try:
        from queue_manager.server.embedded import EmbeddedServer  # noqa: PLC0415 - the client works without it
    except ModuleNotFoundError as e:
        raise ImportError(
            "queue_manager.client.testing runs a server, whose dependencies are not installed "
            f"({e.name} is missing): pip install 'streamforge-queue-manager[server]'"
        ) from e
    return EmbeddedServer(stop_grace=stop_grace)
