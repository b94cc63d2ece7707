"""A gateway in the test's own process, and a client of it that also sends what no client would."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from queue_manager.gateway.app import running
from queue_manager.gateway.options import Options

START = {
    "symbol": "BTCUSDT",
    "time_range": "2024-06-01:2024-06-30",
    "requests": [{"target": "loader-producer", "type": "api_trades"}],
}


class Web:
    """A client of a gateway."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        """`url`: of the gateway."""
        self.url = url
        self.session = session
        self.port = urlsplit(url).port

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any, Mapping[str, str]]:
        """Status, JSON and headers of an answer. The path goes out as it is."""
        async with self.session.request(method, URL(self.url + path, encoded=True), **options) as answer:
            body = await answer.read()
            return answer.status, json.loads(body) if body else None, answer.headers

    async def raw(self, data: bytes, *, more: bytes = b"", after: float = 0.0) -> bytes:
        """Bytes out, and all that comes back until the connection is closed."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            if more:
                await asyncio.sleep(after)
                writer.write(more)
            async with asyncio.timeout(10):
                return await reader.read()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def gateway(server: str, **options: Any) -> AsyncIterator[Web]:
    """A gateway in this process."""
    async with (
        running(Options(port=0, server=server, **options)) as url,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session,
    ):
        yield Web(url, session)
        await session.close()
        await asyncio.sleep(0)  # aiohttp closes its transports with the loop's next turn


def reason(told: Any) -> str:
    """The stable reason of an error; every error has the same form."""
    assert set(told) == {"code", "message", "details"}, told
    assert told["message"]
    info = next(each for each in told["details"] if each["@type"].endswith("/google.rpc.ErrorInfo"))
    assert info["domain"] == "queue-manager.streamforge"
    return str(info["reason"])


def fields(told: Any) -> list[str]:
    """The fields of its violations."""
    found = [each for each in told["details"] if each["@type"].endswith("/google.rpc.BadRequest")]
    return [violation.get("field", "") for each in found for violation in each["field_violations"]]
