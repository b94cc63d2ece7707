"""The `StateStore` port on one SQLite file, for one server: the default that needs nothing installed.

Writes go through the one `writer`, reads to a few read-only connections in threads, and the event loop never waits for
the disk. What is kept in memory of queues is the application's business (`Records`): nothing is cached here.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from types import TracebackType
from typing import Final, Self, TypeVar

from queue_manager.server.adapters.sqlite import query as queries
from queue_manager.server.adapters.sqlite.documents import decode_entry, decode_queue, decode_record, read_record
from queue_manager.server.adapters.sqlite.faults import RETRY_AFTER, translate
from queue_manager.server.adapters.sqlite.files import DataDir
from queue_manager.server.adapters.sqlite.schema import APPLICATION_ID, VERSION, open_reader, open_writer
from queue_manager.server.adapters.sqlite.writer import Observe, Writer, ignore
from queue_manager.server.adapters.sqlite.writes import Create, Delete, Probe, Replace, Write
from queue_manager.server.application.ports import Cursor, QueueFilter, Record
from queue_manager.server.domain.errors import Conflict, Unavailable
from queue_manager.server.domain.history import Entry
from queue_manager.server.domain.model import Queue

T = TypeVar("T")

READERS: Final = 2
"""Threads that read. Decoding holds the interpreter's lock, so more would not read faster."""


class SqliteStore:
    """Queues in `<data_dir>/queues.sqlite3`. Use it as an async context manager; it belongs to one event loop."""

    name = "sqlite"
    exclusive = True

    def __init__(
        self,
        data_dir: Path,
        *,
        keep: int = 512,
        timeout: float = 15.0,
        max_pending: int = 10_000,
        max_pending_bytes: int = 64 * 2**20,
        observe: Observe = ignore,
    ) -> None:
        """`keep`: history entries a queue, at least 1; up to a quarter more are kept at times.

        `timeout`: seconds after which a call is answered with `Unavailable` because the disk does not answer; a write
        may then still take effect. `max_pending`, `max_pending_bytes`: calls that may wait at a time, writes and reads
        each, and what the writes hold; those beyond are `Unavailable`. `observe` is called on the event loop for each
        call, and as `commit` for each transaction.
        """
        self._data_dir = DataDir(data_dir)
        self._keep = max(keep, 1)
        self._timeout = timeout
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._observe = observe
        self._writer: Writer | None = None
        self._readers: SimpleQueue[sqlite3.Connection] = SimpleQueue()
        self._executor: ThreadPoolExecutor | None = None
        self._reading = 0

    @property
    def path(self) -> Path:
        """The state file."""
        return self._data_dir.file

    async def open(self) -> None:
        """Claim the data directory, examine the file, bring it to this release's schema. Raises `StateFileError`."""
        connection = await asyncio.to_thread(self._open)
        self._executor = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._writer = Writer(
            connection,
            self.path,
            timeout=self._timeout,
            max_pending=self._max_pending,
            max_bytes=self._max_pending_bytes,
            observe=self._observe,
        )

    async def close(self) -> None:
        """Finish reads and writes that wait, bring everything into the one file, release the directory."""
        executor, writer = self._executor, self._writer
        self._executor = None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown)
            while not self._readers.empty():
                self._readers.get_nowait().close()
        if writer is not None:
            await writer.close()
            self._writer = None
        self._data_dir.release()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        await self.close()

    # --- the port -----------------------------------------------------------------------------------------------------

    async def create(self, queue: Queue, entry: Entry) -> Record:
        """See `StateStore.create`."""
        return await self._write(Create(queue, entry))

    async def get(self, queue_id: str) -> Record | None:
        """See `StateStore.get`."""
        return await self._read(
            "get",
            lambda connection: decode_record(
                connection.execute("SELECT body, version FROM queues WHERE queue_id = ?", (queue_id,)).fetchone()
            ),
        )

    async def get_by_request_id(self, request_id: str) -> Record | None:
        """See `StateStore.get_by_request_id`."""
        sql = "SELECT body, version FROM queues WHERE request_id = ? AND request_id <> ''"
        return await self._read(
            "get_by_request_id",
            lambda connection: decode_record(connection.execute(sql, (request_id,)).fetchone()),
        )

    async def replace(self, queue: Queue, *, version: str, entry: Entry | None) -> Record:
        """See `StateStore.replace`."""
        return await self._write(Replace(queue, version, entry, keep=self._keep))

    async def list(self, query: QueueFilter, *, after: Cursor | None, limit: int) -> Sequence[Queue]:
        """See `StateStore.list`."""
        return await self._read(
            "list",
            lambda connection: [decode_queue(body) for body in queries.run(connection, query, after, limit)],
        )

    async def unsettled(self, *, after: str, limit: int) -> Sequence[Record]:
        """See `StateStore.unsettled`."""
        return await self._read(
            "unsettled",
            lambda connection: [read_record(row) for row in connection.execute(queries.UNSETTLED, (after, limit))],
        )

    async def history(self, queue_id: str) -> Sequence[Entry]:
        """See `StateStore.history`."""
        sql = "SELECT body FROM history WHERE queue_id = ? ORDER BY revision"
        return await self._read(
            "history",
            lambda connection: [decode_entry(body) for (body,) in connection.execute(sql, (queue_id,)).fetchall()],
        )

    async def ended_before(self, time: float, *, limit: int) -> Sequence[str]:
        """See `StateStore.ended_before`."""
        return await self._read(
            "ended_before",
            lambda connection: [row[0] for row in connection.execute(queries.ENDED, (time, limit))],
        )

    async def delete(self, queue_id: str) -> None:
        """See `StateStore.delete`."""
        await self._write(Delete(queue_id))

    async def check(self) -> None:
        """See `StateStore.check`. After a failed commit it writes, to tell when writing works again."""
        writer = self._writer
        await self._write(Probe(really=writer is not None and writer.failing))
        await self._read("check", lambda connection: connection.execute("SELECT 1 FROM queues LIMIT 1").fetchone())

    # --- how ----------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        self._data_dir.claim()
        try:
            if not self._data_dir.is_new():
                self._data_dir.verify(application_id=APPLICATION_ID, newest_version=VERSION)
            connection = open_writer(self.path)
            for _ in range(READERS):
                self._readers.put(open_reader(self.path))
        except BaseException:
            while not self._readers.empty():
                self._readers.get_nowait().close()
            self._data_dir.release()
            raise
        return connection

    async def _write(self, write: Write[T]) -> T:
        if self._writer is None:
            raise Unavailable("the store is closed")
        return await self._answered(write.operation, self._writer.submit(write))

    async def _read(self, operation: str, function: Callable[[sqlite3.Connection], T]) -> T:
        if self._writer is None or self._executor is None:
            raise Unavailable("the store is closed")
        if self._reading >= self._max_pending:
            message = f"the store has {self._reading} reads waiting, which is its limit; try again"
            raise Unavailable(message, retry_after=RETRY_AFTER)
        return await self._answered(operation, self._in_thread(function))

    async def _in_thread(self, function: Callable[[sqlite3.Connection], T]) -> T:
        self._reading += 1
        try:
            async with asyncio.timeout(self._timeout):
                if self._writer is not None:
                    await self._writer.barrier()
                if self._executor is None:
                    raise Unavailable("the store is closed")
                return await asyncio.get_running_loop().run_in_executor(self._executor, self._with_reader, function)
        finally:
            self._reading -= 1

    def _with_reader(self, function: Callable[[sqlite3.Connection], T]) -> T:
        connection = self._readers.get_nowait()  # there are as many as threads
        try:
            return function(connection)
        except Exception as error:
            translated = translate(error, self.path)
            if translated is error:
                raise
            raise translated from error
        finally:
            self._readers.put(connection)

    async def _answered(self, operation: str, call: Coroutine[object, object, T]) -> T:
        began, ok = perf_counter(), False
        try:
            result = await call
            ok = True
            return result
        except Conflict:
            ok = True
            raise
        except TimeoutError as error:
            message = f"the store {self.path} has not answered for {self._timeout:g} s: its disk hangs or is overloaded"
            raise Unavailable(message, retry_after=RETRY_AFTER) from error
        finally:
            self._observe(operation, perf_counter() - began, ok)
