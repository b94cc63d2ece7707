"""Answers every request: the gateway's own paths, then the contract's.

One place turns what goes wrong into the error model, sets the headers that every answer has, and counts.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from time import perf_counter
from typing import Final

import grpc
import structlog
from aiohttp import web
from google.rpc import status_pb2

from queue_manager.gateway import bodies, body, guard, health
from queue_manager.gateway import status as statuses
from queue_manager.gateway.assets import Asset
from queue_manager.gateway.endpoints import Endpoint, Endpoints, allowed
from queue_manager.gateway.guard import Guard
from queue_manager.gateway.metrics import CONTENT_TYPE, Metrics
from queue_manager.gateway.options import Options
from queue_manager.gateway.path_template import BadPath, decode
from queue_manager.gateway.problems import Malformed, MethodNotAllowed, Refused, TooManyStreams, Violation
from queue_manager.gateway.status import Failed
from queue_manager.gateway.streaming import Streams, form_of, resume
from queue_manager.gateway.upstream import Upstream, metadata_of, printable, timeout_of

log = structlog.get_logger(__name__)

JSON: Final = "application/json"
MOST_PARAMETERS: Final = 1000
_API: Final = guard.SECURITY | {"Content-Security-Policy": guard.API_POLICY, "Cache-Control": "no-store"}
_PAGE: Final = guard.SECURITY | {"Content-Security-Policy": guard.PAGE_POLICY, "Cache-Control": "no-cache"}

_PAGES: Final = {"/": "index.html", "/docs": "docs.html", "/favicon.ico": "favicon.svg"}
_BY_ANY_NAME: Final = ("/health/", "/metrics")
"""Paths for probes and scrapers, which call pods by their addresses. They tell nothing that matters, and change nothing."""

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class _Asked:
    """What becomes known of a request on the way to its answer."""

    what: str = "none"
    """As it is counted."""
    headers: dict[str, str] = field(default_factory=lambda: dict(_API))
    """Of the answer."""


class Handler:
    """The handler of all requests."""

    def __init__(
        self,
        options: Options,
        *,
        upstream: Upstream,
        endpoints: Endpoints,
        streams: Streams,
        assets: Mapping[str, Asset],
        documents: Mapping[str, Answer],
        metrics: Metrics,
        guard: Guard,
    ) -> None:
        """`documents`: what else is answered to a GET, by path."""
        self._options = options
        self._upstream = upstream
        self._endpoints = endpoints
        self._streams = streams
        self._assets = assets
        self._documents = documents
        self._metrics = metrics
        self._open_streams = 0
        self._guard = guard

    async def __call__(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        began = perf_counter()
        asked = _Asked()
        try:
            response = await self._answer(http, asked)
        except ConnectionError:
            raise
        except Exception as error:
            response = self._error(error, asked)
        self._metrics.requests.labels(asked.what, str(response.status)).inc()
        if isinstance(response, web.Response):
            self._metrics.durations.labels(asked.what).observe(perf_counter() - began)
        return response

    async def _answer(self, http: web.BaseRequest, asked: _Asked) -> web.StreamResponse:
        headers = asked.headers
        headers |= self._guard.cors(http.headers)
        if request_id := http.headers.get("X-Request-Id"):
            headers["X-Request-Id"] = printable(request_id)
        if http.method == "OPTIONS" and http.raw_path == "*":
            return self._allow(http, allowed({"GET", "POST"}), headers)
        path, query = _split(http)
        if not path.startswith(_BY_ANY_NAME):
            self._guard.check(http.method, http.headers)
        if own := self._own(path):
            asked.what, answer = own
            return await self._answer_own(http, answer, headers)
        if http.method == "OPTIONS":
            return self._options_of(http, path, headers)
        endpoint, segments = self._endpoints.find(http.method, path)
        asked.what = endpoint.method.name
        return await self._call(http, endpoint, segments, query, headers)

    def _error(self, error: Exception, asked: _Asked) -> web.Response:
        """What has gone wrong, in the error model."""
        if isinstance(error, Refused):
            response = _told(statuses.of_refusal(error), asked.headers | error.headers, error.http_status)
            if error.closes:
                response.force_close()
            return response
        if isinstance(error, Failed):
            return _told(error.status, asked.headers)
        if isinstance(error, grpc.aio.AioRpcError):
            return _told(statuses.of_call(error, server=self._upstream.server), asked.headers)
        error_id = secrets.token_hex(8)
        log.error("a request has failed", error_id=error_id, exc_info=error)
        text = f"internal error; the gateway's log has it under error_id {error_id}"
        return _told(statuses.made(grpc.StatusCode.INTERNAL, "INTERNAL", text, error_id=error_id), asked.headers)

    async def _call(
        self,
        http: web.BaseRequest,
        endpoint: Endpoint,
        segments: Sequence[str],
        query: Sequence[tuple[str, str]],
        headers: dict[str, str],
    ) -> web.StreamResponse:
        """Call the method that a path is bound to."""
        options, method = self._options, endpoint.method
        form = form_of(http.headers) if method.streams else None
        timeout = timeout_of(http.headers)
        sent = await body.read(http, limit=options.max_body_bytes, timeout=options.body_timeout)
        if sent and not endpoint.takes_body:
            raise Malformed([Violation("", f"{http.method} takes no body here")])
        request = endpoint.request(segments, query, sent)
        metadata = metadata_of(http.headers, http.remote)
        if form is not None:
            resume(request, endpoint.resumes, http.headers)
            with self._one_more_stream(method.name):
                return await self._streams.answer(
                    http, endpoint, request, metadata, form=form, timeout=timeout, headers=headers
                )
        timeout = options.timeout if timeout is None else timeout
        raw = await self._upstream.unary(method.path, request.SerializeToString(), metadata, timeout)
        answered = endpoint.answer(raw)
        if answered.etag:
            headers["ETag"] = answered.etag
            headers["Cache-Control"] = "no-cache"  # keep it, and ask each time whether it still holds
        return bodies.answer(http, answered.body, headers | {"Content-Type": JSON})

    @contextmanager
    def _one_more_stream(self, method: str) -> Iterator[None]:
        """Raises `TooManyStreams`."""
        most = self._options.max_streams
        if self._open_streams >= most:
            raise TooManyStreams(
                f"{most} streams are open, and no more are kept (QM_HTTP_MAX_STREAMS)",
                headers={"Retry-After": str(statuses.RETRY_AFTER)},
            )
        self._open_streams += 1
        try:
            with self._metrics.streams.labels(method).track_inprogress():
                yield
        finally:
            self._open_streams -= 1

    def _options_of(self, http: web.BaseRequest, path: str, headers: dict[str, str]) -> web.Response:
        try:
            self._endpoints.find("OPTIONS", path)
        except MethodNotAllowed as known:
            return self._allow(http, known.headers["Allow"], headers)
        raise AssertionError("no method of a contract is called OPTIONS")

    def _allow(self, http: web.BaseRequest, allow: str, headers: dict[str, str]) -> web.Response:
        found = {**headers, "Allow": allow, **self._guard.preflight(http.headers, allow)}
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=found)

    def _own(self, path: str) -> tuple[str, Answer] | None:
        """What one of the gateway's own paths is counted as, and who answers it."""
        if answer := self._documents.get(path):
            return "document", answer
        if path == "/metrics":
            return "metrics", self._metrics_text
        if path.startswith("/health/") and (probe := path.removeprefix("/health/")) in health.PROBES:
            return "health", lambda http: self._health(http, probe)
        name = _PAGES.get(path) or (path.removeprefix("/static/") if path.startswith("/static/") else "")
        if asset := self._assets.get(name):
            return "static", lambda http: self._asset(http, asset)
        return None

    async def _answer_own(self, http: web.BaseRequest, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
        allow = allowed({"GET"})
        if http.method == "OPTIONS":
            return self._allow(http, allow, headers)
        if http.method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"{http.method} is not allowed here; {allow} are", headers={"Allow": allow})
        response = await answer(http)
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        return response

    async def _asset(self, http: web.BaseRequest, asset: Asset) -> web.Response:
        policy = _PAGE if asset.is_page else guard.SECURITY | {"Cache-Control": "no-cache"}
        return bodies.answer(http, asset.content, policy | {"ETag": asset.etag, "Content-Type": asset.content_type})

    async def _health(self, _: web.BaseRequest, probe: str) -> web.Response:
        well, text = await health.look(probe, self._upstream)
        return web.Response(
            body=text, status=HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, content_type=JSON
        )

    async def _metrics_text(self, _: web.BaseRequest) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _split(http: web.BaseRequest) -> tuple[str, list[tuple[str, str]]]:
    """The path as it was sent, and the query, decoded. Raises `Malformed`."""
    target = http.raw_path if http.raw_path.startswith("/") else http.rel_url.raw_path_qs
    if not target.startswith("/"):
        raise Malformed([Violation("path", "the request must name a path, e.g. /v1/queues")])
    path, _, query = target.partition("#")[0].partition("?")
    if not query:
        return path, []
    parts = query.split("&")
    if len(parts) > MOST_PARAMETERS:
        raise Malformed([Violation("", f"more than {MOST_PARAMETERS} query parameters")])
    found, wrong = [], []
    for part in filter(None, parts):
        name, _, value = part.replace("+", " ").partition("=")
        try:
            found.append((decode(name), decode(value)))
        except BadPath as error:
            wrong.append(Violation(name, str(error)))
    if wrong:
        raise Malformed(wrong)
    return path, found


def _told(status: status_pb2.Status, headers: Mapping[str, str], http_status: int | None = None) -> web.Response:
    return web.Response(
        body=statuses.to_json(status),
        status=http_status or statuses.http_status(status),
        headers={**headers, **statuses.headers(status)},
        content_type=JSON,
    )
