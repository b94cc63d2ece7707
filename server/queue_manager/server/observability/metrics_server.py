"""Serves `/metrics` over HTTP, and nothing else. Scrapes run in threads of prometheus_client's own WSGI server."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from queue_manager.server.domain.errors import ListenError
from queue_manager.server.observability.metrics import Metrics

SAMPLE_TIMEOUT: Final = 1.0
"""Seconds that a scrape waits for the event loop; then it serves the last samples, so a stuck loop is still seen."""
CLIENT_TIMEOUT: Final = 5.0
"""Seconds that a client may take to send its request."""


class MetricsServer:
    """An async context manager; `port` is known once it is entered."""

    def __init__(self, metrics: Metrics, *, host: str, port: int) -> None:
        """Port 0 picks a free one."""
        self._metrics = metrics
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return self._port if self._server is None else self._server.server_port

    async def __aenter__(self) -> Self:
        """Listen. Raises `ListenError`."""
        self._loop = asyncio.get_running_loop()
        try:
            addresses = await self._loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            self._server = _Server(addresses[0][0], addresses[0][4][:2], self._answer())
        except OSError as error:
            host = f"[{self._host}]" if ":" in self._host else self._host
            why = error.strerror or str(error)
            raise ListenError("QM_METRICS_LISTEN", f"{host}:{self._port}", why) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics-server", daemon=True
        )
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening; requests under way are cut off."""
        server, thread = self._server, self._thread
        if server is not None and thread is not None:
            self._loop = None  # a scrape under way does not wait for the loop, which waits for it
            await asyncio.to_thread(server.stop)
            await asyncio.to_thread(thread.join)
            self._server = self._thread = None

    def _answer(self) -> _Application:
        metrics = make_wsgi_app(self._metrics.registry)

        def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            if environ.get("PATH_INFO", "").rstrip("/") != "/metrics":
                start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
                return [b"metrics are at /metrics\n"]
            self._sample()
            return metrics(environ, start_response)  # type: ignore[no-any-return]  # a WSGI answer

        return application

    def _sample(self) -> None:
        """Have the gauges asked on the event loop, from a scrape's thread."""
        loop, done = self._loop, Future[None]()

        def run() -> None:
            try:
                self._metrics.sample()
            finally:
                done.set_result(None)

        if loop is not None:
            with suppress(RuntimeError, TimeoutError):  # the loop is closed or stuck
                loop.call_soon_threadsafe(run)
                done.result(timeout=SAMPLE_TIMEOUT)


_Application = Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Scrapes are not logged."""


class _Server(ThreadingWSGIServer):
    request_queue_size = 64
    daemon_threads = False  # so that closing waits for them; `stop` has cut them off by then

    def __init__(self, family: socket.AddressFamily, address: Any, application: _Application) -> None:
        self.address_family = family
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)
        self.set_app(application)

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks the name service for this machine's name: that can take many seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]  # of TCP it is host, port
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was cut off, is nobody's concern."""

    def stop(self) -> None:
        self.shutdown()
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()
