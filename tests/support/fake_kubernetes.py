"""An API server that answers as a test tells it to: for what a real one cannot be made to do at will."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from queue_manager.server.adapters.kubernetes.api import Api

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
ENDED = web.AppKey("ended", asyncio.Event)


class FakeKubernetes:
    """Lists what is in `items`; each watch takes the next of `watches`, and hangs where there is none."""

    def __init__(self) -> None:
        """An empty cluster at version 1."""
        self.items: dict[str, dict[str, Any]] = {}
        self.version = "1"
        self.watches: deque[Answer] = deque()
        self.lists: deque[Answer] = deque()
        """Answers to give to the next lists, instead of the items."""
        self.requests: list[dict[str, str]] = []
        """The queries of all requests."""

    def add(self, name: str, version: str) -> dict[str, Any]:
        """A Job that is listed from now on."""
        self.items[name] = {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}}
        self.version = version
        return self.items[name]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        self.requests.append(dict(request.query))
        if "watch" in request.query:
            answer = self.watches.popleft() if self.watches else hang
            return await answer(request)
        if self.lists:
            return await self.lists.popleft()(request)
        return web.json_response({"metadata": {"resourceVersion": self.version}, "items": list(self.items.values())})

    @property
    def watched_from(self) -> list[str]:
        """The versions from which was watched, in order."""
        return [query["resourceVersion"] for query in self.requests if "watch" in query]

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[Api]:
        """Serve on a free port; a client of it."""
        app = web.Application()
        app[ENDED] = ended = asyncio.Event()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with Api(ApiClient(Configuration(host=f"http://{host}:{port}")), "workers") as api:
            yield api
        ended.set()
        await runner.cleanup()


def lines(*events: dict[str, Any], ends: bool = True) -> Answer:
    """A watch that says these events, and ends or falls silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(json.dumps(event).encode() + b"\n")
        if not ends:
            await request.app[ENDED].wait()
        return response

    return answer


def status(code: int, *, text: str | None = None, retry_after: str = "") -> Answer:
    """A refusal, in Kubernetes' form or as plain text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        headers = {"Retry-After": retry_after} if retry_after else {}
        if text is not None:
            return web.Response(status=code, text=text, headers=headers)
        body = {"kind": "Status", "code": code, "reason": "Expired", "message": "too old"}
        return web.json_response(body, status=code, headers=headers)

    return answer


async def hang(request: web.Request) -> web.StreamResponse:
    """A watch on which nothing is said."""
    response = web.StreamResponse()
    await response.prepare(request)
    await request.app[ENDED].wait()
    return response
