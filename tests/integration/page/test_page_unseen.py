"""The live page in a tab that nobody looks at: it lets go of its connection, and its title still tells."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect

from queue_manager.client import AsyncClient
from queue_manager.v1.service_pb2 import StopMode
from tests.integration.page.seen import reaches
from tests.integration.page.test_page_dialogs import ONE_JOB
from tests.support import browser as browsers
from tests.support.browser import needs_browser
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, needs_browser]

HIDES = """(() => {
  let hidden = HIDDEN;
  let onDraw = null;
  const undrawn = [];
  const paint = () => hidden || onDraw || undrawn.splice(0).forEach((draw) => draw(0));
  const next = requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (draw) => { undrawn.push(draw); onDraw ? onDraw() : next(paint); };
  Object.defineProperty(document, "hidden", { get: () => hidden });
  window.hide = (now) => { hidden = now; document.dispatchEvent(new Event("visibilitychange")); next(paint); };
  window.untilADrawingWaits = () => new Promise((waits) => { onDraw = waits; });
})();"""
"""A headless browser shows all its tabs. This hides one as a browser does: nothing is painted then, and a tab that was
opened in the background is not told that it is hidden."""


@asynccontextmanager
async def unseen(chromium: Browser, *, hidden: bool = False) -> AsyncIterator[Page]:
    """A tab that can be hidden, or is from the beginning."""
    async with browsers.tab(chromium) as opened:
        await opened.page.add_init_script(HIDES.replace("HIDDEN", str(hidden).lower()))
        yield opened.page


@pytest.fixture
async def queue(client: AsyncClient) -> AsyncIterator[str]:
    """One that runs until it is stopped."""
    queue_id = (await client.start_queue(ONE_JOB)).queue.queue_id
    yield queue_id
    await client.stop_queue(queue_id, mode=StopMode.STOP_MODE_FORCE)


@pytest.mark.parametrize("from_the_start", [True, False], ids=["opened in the background", "hidden later"])
async def test_a_tab_that_nobody_sees_lets_go_of_its_connection(
    chromium: Browser, gateway: GatewayProcess, queue: str, from_the_start: bool
) -> None:
    """Browsers allow six to one host: as many such tabs would block all others. Once it is seen, it goes on."""
    async with unseen(chromium, hidden=from_the_start) as page:
        connection = page.locator("#connection")
        await page.clock.install()
        await page.goto(f"{gateway.url}/#/queues/{queue}")
        await expect(connection).to_have_text("live")
        await page.evaluate("document.hidden || hide(true)")
        await page.clock.run_for(20_000)
        await expect(connection).to_have_text("live")
        await page.clock.run_for(11_000)
        await expect(connection).to_have_text("paused")
        await page.evaluate("hide(false)")
        await expect(connection).to_have_text("live")
        await page.clock.run_for(31_000)
        await expect(connection).to_have_text("live")


async def test_a_tab_that_is_hidden_before_it_has_drawn_still_tells(
    chromium: Browser, gateway: GatewayProcess, client: AsyncClient, queue: str
) -> None:
    """A frame of the screen that never comes is not waited for."""
    async with unseen(chromium) as page:
        await page.goto(f"{gateway.url}/#/queues/{queue}")
        await reaches(page, "RUNNING")
        await page.evaluate("untilADrawingWaits()")
        await page.evaluate("hide(true)")
        await client.stop_queue(queue, mode=StopMode.STOP_MODE_FORCE, wait=True)
        await expect(page).to_have_title(f"STOPPED · {queue} · Queue Manager")
