"""The least that a service which starts queues does: a `grpc.aio` service that creates six prepared Jobs for each call.

It stores what it is sent before it answers, and once more when the Jobs are there, as whoever is not to lose a queue
must, and watches its Jobs, as whoever is to say how they stand must. It checks nothing, and reads nothing of what it is
sent, stores or is answered. The Jobs are bytes that were made beforehand, and what it asks of the API is as little as the
manager asks: what a Queue Manager can be at best, in this language and beside the API server that it talks to.
"""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import msgspec

from bench.control import obey, run
from bench.kubernetes.cluster import Cluster
from queue_manager.server.adapters.kubernetes.api import METADATA_ONLY, PROTOBUF
from queue_manager.server.adapters.kubernetes.encoding import encode
from queue_manager.server.adapters.kubernetes.runner import AS_IT_IS

STARTER: Final = "bench.Starter"
IN_FLIGHT: Final = 64
"""Creates under way at once, as many as the manager has."""
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


_TABLE: Final = "CREATE TABLE queues (id TEXT PRIMARY KEY, body BLOB)"


class Store:
    """A file that has what it was given when `put` returns. `run` writes all that waits together, in a thread."""

    def __init__(self, path: Path) -> None:
        """Nothing is in it yet."""
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", _TABLE):
            self._file.execute(statement)
        self._waiting: list[tuple[str, bytes, asyncio.Future[None]]] = []
        self._more = asyncio.Event()

    async def put(self, name: str, body: bytes) -> None:
        """Keep it, in place of what is there of that name."""
        written = asyncio.get_running_loop().create_future()
        self._waiting.append((name, body, written))
        self._more.set()
        await written

    async def run(self) -> None:
        """Until it is cancelled."""
        while await self._more.wait():
            self._more.clear()
            batch, self._waiting = self._waiting, []
            failure = None
            try:
                await asyncio.to_thread(self._write, batch)
            except sqlite3.Error as error:
                failure = error
            for _, _, written in batch:
                if written.done():  # who waited was cancelled
                    continue
                if failure is None:
                    written.set_result(None)
                else:
                    written.set_exception(failure)

    def _write(self, batch: list[tuple[str, bytes, asyncio.Future[None]]]) -> None:
        self._file.execute("BEGIN")
        self._file.executemany("INSERT OR REPLACE INTO queues VALUES (?, ?)", [(name, body) for name, body, _ in batch])
        self._file.execute("COMMIT")


class Starter:
    """The service, and what the driver tells it."""

    def __init__(self, cluster: Cluster, store: Store) -> None:
        """Nothing to create yet."""
        self._cluster = cluster
        self._store = store
        self._manifests: list[bytes] = []
        self._numbers = count()
        self._creating = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, namespace: str, manifests: list[str]) -> None:
        """Watch this namespace; these are the Jobs of a queue, which has `SUFFIX` where its own suffix belongs.

        That is as long, as it has to be where protobuf says how long a text is.
        """
        self._cluster.name = namespace
        self._manifests = [_encoded(manifest) for manifest in manifests]
        self._keep(self._store.run())
        self._keep(self._watch())

    async def start(self, request: bytes, _context: Context) -> bytes:
        """Have the Jobs of one more queue created. Answered with the request."""
        suffix = f"{next(self._numbers):06d}"
        await self._store.put(suffix, request)
        self._keep(self._launch(suffix, request))
        return request

    async def _launch(self, suffix: str, request: bytes) -> None:
        jobs = [manifest.replace(b"SUFFIX", suffix.encode()) for manifest in self._manifests]
        await asyncio.gather(*(self._create(job) for job in jobs))
        await self._store.put(suffix, request)

    async def _create(self, body: bytes) -> None:
        async with self._creating:
            path, accept = self._cluster.jobs, METADATA_ONLY
            await self._cluster.call("POST", path, body, kind=PROTOBUF, query=AS_IT_IS, accept=accept)

    async def _watch(self) -> None:
        async with self._cluster.watched("") as frames:
            async for _ in frames:
                pass

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _encoded(manifest: str) -> bytes:
    job = encode(msgspec.json.decode(manifest))
    if job is None:
        raise SystemExit("a Job of the manager has what cannot be said in protobuf")
    return job


async def _serve() -> None:
    server = grpc.aio.server()
    with tempfile.TemporaryDirectory() as folder:
        async with Cluster() as cluster:
            starter = Starter(cluster, Store(Path(folder) / "queues.db"))
            methods: dict[str, Handler] = {"Start": grpc.unary_unary_rpc_method_handler(starter.start)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(STARTER, methods),))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            await obey(port, {"begin": starter.begin})
            await server.stop(0)


if __name__ == "__main__":
    run(_serve)
