"""The gateway as a process: everything is put together here, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from socket import socket
from typing import Final

import structlog
from aiohttp import web

from queue_manager.gateway import assets
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.documents import Documents
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoints
from queue_manager.gateway.guard import Guard
from queue_manager.gateway.handler import Handler
from queue_manager.gateway.listening import BACKLOG, CannotListen, listening, names_on_loopback, on_loopback, url_of
from queue_manager.gateway.metrics import Metrics
from queue_manager.gateway.options import Options
from queue_manager.gateway.streaming import Streams
from queue_manager.gateway.upstream import Upstream
from queue_manager.gateway.watching import Watches
from queue_manager.gateway.web_server import Server

__all__ = ["CannotListen", "running", "serve"]

log = structlog.get_logger(__name__)

FINISHING: Final = 10.0
"""Seconds at most from SIGTERM to the end; requests in flight get a little less than half of it."""


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[str]:
    """A gateway that serves; gives its URL. Raises `CannotListen`."""
    async with listening(options.host, options.port) as sockets, _serving(options, sockets):
        yield url_of(sockets)


@asynccontextmanager
async def _serving(options: Options, sockets: Sequence[socket]) -> AsyncIterator[None]:
    contract = Contract.load()
    encoder = Encoder(contract.pool)
    metrics = Metrics()
    upstream = Upstream(options.server)
    watches = Watches(upstream, metrics, Random())  # noqa: S311 - it spreads attempts in time
    handler = Handler(
        options,
        upstream=upstream,
        endpoints=Endpoints(contract, encoder),
        streams=Streams(upstream, watches),
        assets=assets.load(),
        documents=Documents(contract, upstream, options.version).answers(),
        metrics=metrics,
        guard=_guard(options, sockets),
    )
    runner = web.ServerRunner(Server(handler, header_timeout=options.body_timeout), shutdown_timeout=FINISHING / 2)
    await runner.setup()
    try:
        for one in sockets:
            await web.SockSite(runner, one, backlog=BACKLOG).start()
        yield
        watches.end()
    finally:
        # aiohttp waits for requests, then once more after it has cancelled them; before that their calls are ended, so that
        # they are answered.
        await asyncio.gather(runner.cleanup(), upstream.close(FINISHING / 2 - 1))
        await watches.close()


def _guard(options: Options, sockets: Sequence[socket]) -> Guard:
    """The rules for where we listen; a word in the log where others than this machine can reach us."""
    if on_loopback(sockets):
        return Guard(origins=options.origins, hosts=options.hosts or names_on_loopback(options.host))
    warning = "others than this machine reach the gateway, and nobody is authenticated: they may start and stop queues"
    if not options.hosts:
        warning += "; QM_HTTP_HOSTS is not set, so it answers to any name"
    log.warning(warning, listen=url_of(sockets))
    return Guard(origins=options.origins, hosts=options.hosts)


async def serve(options: Options, *, notices: Sequence[str] = ()) -> None:
    """Serve until SIGTERM or SIGINT. `notices`: of what is odd, for the log. Raises `CannotListen`."""
    for notice in notices:
        log.warning(notice)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # shells give 1024, and each stream is a descriptor
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with running(options) as url:
        log.info("serving", http=url, server=options.server)
        await ended.wait()
        log.info("shutting down")
    log.info("stopped")
