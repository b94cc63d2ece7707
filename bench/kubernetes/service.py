"""The least that a service which starts queues does: a `grpc.aio` service that creates six prepared Jobs for each call.

It watches its Jobs, as whoever is to say how they stand must. It checks nothing, keeps nothing, and reads nothing of what
the API answers, which it asks for as little as the manager does: what a Queue Manager can be at best, in this language and
beside the API server that it talks to.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any, Final, TypeAlias

import grpc

from bench.control import obey, run
from bench.kubernetes.cluster import Cluster
from queue_manager.server.adapters.kubernetes.api import METADATA_ONLY
from queue_manager.server.adapters.kubernetes.runner import AS_IT_IS

SERVICE: Final = "bench.Starter"
IN_FLIGHT: Final = 64
"""Creates under way at once, as many as the manager has."""
Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[bytes, bytes]"


class Starter:
    """The service, and what the driver tells it."""

    def __init__(self, cluster: Cluster) -> None:
        """Nothing to create yet."""
        self._cluster = cluster
        self._manifests: list[bytes] = []
        self._numbers = count()
        self._creating = asyncio.Semaphore(IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, namespace: str, manifests: list[str]) -> None:
        """Watch this namespace; these are the Jobs of a queue, which has `SUFFIX` where its own suffix belongs."""
        self._cluster.name = namespace
        self._manifests = [manifest.encode() for manifest in manifests]
        self._keep(self._watch())

    async def start(self, request: bytes, _context: Context) -> bytes:
        """Create the Jobs of one more queue. Answered at once, with the request."""
        suffix = f"{next(self._numbers):06d}".encode()
        for manifest in self._manifests:
            self._keep(self._create(manifest.replace(b"SUFFIX", suffix)))
        return request

    async def _create(self, body: bytes) -> None:
        async with self._creating:
            await self._cluster.call("POST", self._cluster.jobs, body, query=AS_IT_IS, accept=METADATA_ONLY)

    async def _watch(self) -> None:
        async with self._cluster.watched("") as frames:
            async for _ in frames:
                pass

    def _keep(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve() -> None:
    server = grpc.aio.server()
    async with Cluster() as cluster:
        starter = Starter(cluster)
        methods: dict[str, Handler] = {"Start": grpc.unary_unary_rpc_method_handler(starter.start)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        await obey(port, {"begin": starter.begin})
        await server.stop(0)


if __name__ == "__main__":
    run(_serve)
