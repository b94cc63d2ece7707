"""An API server that answers as a test tells it to: for what a real one cannot be made to do at will."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from kubernetes_asyncio.client import Configuration

from queue_manager.server.adapters.kubernetes.api import TIMEOUT, Api
from queue_manager.server.adapters.kubernetes.credentials import Credentials, Load
from queue_manager.server.adapters.kubernetes.objects import MAGIC
from queue_manager.wire import kubernetes_pb2 as wire

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
        """The queries of all requests that were let in."""
        self.token = ""
        """Whoever has another one is not let in; empty: everybody is."""
        self.turned_away = 0

    def add(self, name: str, version: str) -> dict[str, Any]:
        """A Job that is listed from now on."""
        self.items[name] = {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": version}}
        self.version = version
        return self.items[name]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Any request."""
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            self.turned_away += 1
            return web.Response(body=encoded(wire.Status, {"code": 401, "reason": "Unauthorized"}), status=401)
        self.requests.append(dict(request.query))
        if "watch" in request.query:
            answer = self.watches.popleft() if self.watches else hang
            return await answer(request)
        if self.lists:
            return await self.lists.popleft()(request)
        return web.Response(body=listed(wire.JobList, list(self.items.values()), version=self.version))

    @property
    def watched_from(self) -> list[str]:
        """The versions from which was watched, in order."""
        return [query["resourceVersion"] for query in self.requests if "watch" in query]

    @asynccontextmanager
    async def serve(
        self, load: Load | None = None, *, timeout: float = TIMEOUT, rate: float = 0.0
    ) -> AsyncIterator[Api]:
        """Serve on a free port; a client of it, which is told by `load` who it is."""
        app = web.Application()
        app[ENDED] = ended = asyncio.Event()
        app.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        configuration = Configuration(host=f"http://{host}:{port}")
        async with Api(Credentials(configuration, load or _nothing), "workers", timeout=timeout, rate=rate) as api:
            yield api
        ended.set()
        await runner.cleanup()


def encoded(kind: type[Message], fields: Mapping[str, Any]) -> bytes:
    """An object as the API gives it, from how it is written as JSON; fields that are not read are passed over."""
    message = kind()
    _fill(message, fields)
    return MAGIC + wire.Unknown(raw=message.SerializeToString()).SerializeToString()


def _fill(message: Any, fields: Mapping[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        value = fields.get(field.json_name)
        if value is None:
            continue
        inside = getattr(message, field.name)
        if isinstance(inside, Timestamp):
            inside.FromJsonString(value)
        elif field.message_type is None:
            setattr(message, field.name, value.encode() if field.type == field.TYPE_BYTES else value)
        elif isinstance(value, Mapping) and isinstance(inside, Message):
            inside.SetInParent()
            _fill(inside, value)
        else:
            pairs = (
                [{"key": key, "value": text} for key, text in value.items()] if isinstance(value, Mapping) else value
            )
            for item in pairs:
                _fill(inside.add(), item)


def listed(kind: type[Message], items: Sequence[Mapping[str, Any]], *, version: str = "1", more: str = "") -> bytes:
    """A page of a list."""
    return encoded(kind, {"metadata": {"resourceVersion": version, "continueToken": more}, "items": items})


def frame(what: str, item: Mapping[str, Any], kind: type[Message] = wire.Job) -> bytes:
    """A frame of a watch."""
    raw = encoded(wire.Status if what == "ERROR" else kind, item)
    event = wire.WatchEvent(type=what.encode(), object=wire.RawExtension(raw=raw)).SerializeToString()
    return len(event).to_bytes(4, "big") + event


def frames(*events: dict[str, Any], ends: bool = True) -> Answer:
    """A watch that says these events, and ends or falls silent."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for event in events:
            await response.write(frame(event["type"], event["object"]))
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
        body = encoded(wire.Status, {"code": code, "reason": "Expired", "message": "too old"})
        return web.Response(body=body, status=code, headers=headers)

    return answer


async def hang(request: web.Request) -> web.StreamResponse:
    """A watch on which nothing is said."""
    response = web.StreamResponse()
    await response.prepare(request)
    await request.app[ENDED].wait()
    return response


async def _nothing(configuration: Configuration) -> None:
    """No token."""
