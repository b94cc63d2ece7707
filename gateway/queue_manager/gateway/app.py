"""The gateway as a process: everything is put together here, opened in order and closed in reverse."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Final

import structlog
from aiohttp import web

from queue_manager.gateway import assets
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.documents import Documents
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoints
from queue_manager.gateway.handler import Handler
from queue_manager.gateway.metrics import Metrics
from queue_manager.gateway.options import Options
from queue_manager.gateway.streaming import Streams
from queue_manager.gateway.upstream import Upstream
from queue_manager.gateway.watching import Watches
from queue_manager.gateway.web_server import Server

log = structlog.get_logger(__name__)

FINISHING: Final = 10.0
"""Seconds at most from SIGTERM to the end; requests in flight get a little less than half of it."""
BACKLOG: Final = 1024
"""Connections that may wait to be accepted: a thousand watchers come back at once."""


class CannotListen(Exception):
    """The address cannot be had; the message says why."""


@asynccontextmanager
async def running(options: Options) -> AsyncIterator[str]:
    """A gateway that serves; gives its URL. Raises `CannotListen`."""
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
    )
    runner = web.ServerRunner(Server(handler, header_timeout=options.body_timeout), shutdown_timeout=FINISHING / 2)
    await runner.setup()
    try:
        try:
            site = web.TCPSite(runner, options.host, options.port, backlog=BACKLOG)
            await site.start()
        except OSError as error:
            why = error.strerror or str(error)
            raise CannotListen(f"{options.host}:{options.port} cannot be listened on: {why}") from error
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        watches.end()
    finally:
        # aiohttp waits for requests, then once more after it has cancelled them; before that their calls are ended, so that
        # they are answered.
        await asyncio.gather(runner.cleanup(), upstream.close(FINISHING / 2 - 1))
        await watches.close()


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
