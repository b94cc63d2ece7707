"""The OpenAPI document as it is served: with the targets that the server has now as choices.

Who asks for it causes one `ListTargets`; the document is made again where that answers something new. A server that is away
leaves the choices as they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import grpc
import msgspec
from aiohttp import web

from queue_manager.gateway import bodies
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.openapi.choices import TARGETS
from queue_manager.gateway.openapi.document import as_yaml, document
from queue_manager.gateway.upstream import Upstream

PATIENCE: Final = 2.0
"""Seconds for the server to tell its targets."""


class Documents:
    """What `/openapi.json` and `/openapi.yaml` answer."""

    def __init__(self, contract: Contract, upstream: Upstream, version: str) -> None:
        """Nothing is asked for yet."""
        self._upstream = upstream
        self._version = version
        self._contract = contract
        service, _, name = TARGETS.method.rpartition(".")
        self._choices = f"/{service}/{name}"
        self._response = next(
            (each.method.response for each in contract.bindings if each.method.path == self._choices), None
        )
        self._raw: bytes | None = None
        self._made: dict[str, tuple[bytes, str]] = {}

    def answers(self) -> Mapping[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
        """By path."""
        return {
            "/openapi.json": lambda http: self._answer(http, "application/json", msgspec.json.encode),
            "/openapi.yaml": lambda http: self._answer(http, "application/yaml", lambda made: as_yaml(made).encode()),
        }

    async def _answer(self, http: web.BaseRequest, kind: str, write: Callable[[Any], bytes]) -> web.Response:
        await self._ask()
        if kind not in self._made:
            text = write(self._document())
            self._made[kind] = text, f'"{hashlib.sha256(text).hexdigest()[:16]}"'
        text, etag = self._made[kind]
        return bodies.answer(http, text, {"ETag": etag, "Cache-Control": "no-cache", "Content-Type": kind})

    async def _ask(self) -> None:
        if self._response is None:
            return
        try:
            raw = await self._upstream.unary(self._choices, b"", (), PATIENCE)
        except grpc.aio.AioRpcError:
            return
        if raw != self._raw:
            self._raw = raw
            self._made.clear()

    def _document(self) -> dict[str, Any]:
        items = () if self._response is None or self._raw is None else self._response.FromString(self._raw)
        return document(self._contract, version=self._version, targets=getattr(items, TARGETS.items) if items else ())
