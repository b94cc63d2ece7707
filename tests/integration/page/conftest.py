"""What the tests of the live page share: a server, a gateway in front of it, and a browser that looks at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.e2e.conftest import client, server
from tests.e2e.server_process import ServerProcess
from tests.support import browser as browsers
from tests.support.browser import Tab
from tests.support.gateway_process import GatewayProcess

__all__ = ["client", "server"]


@pytest.fixture
async def gateway(server: ServerProcess, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway in front of it."""
    async with GatewayProcess(server.address, tmp_path) as running:
        yield running


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A browser."""
    async with browsers.browser() as opened:
        yield opened


@pytest.fixture
async def tab(chromium: Browser, gateway: GatewayProcess) -> AsyncIterator[Tab]:
    """A tab with the live page."""
    async with browsers.tab(chromium) as opened:
        await opened.page.goto(f"{gateway.url}/")
        yield opened
