"""The live page while what it looks at is killed: it says so, comes back by itself, and shows every change once."""

from __future__ import annotations

import asyncio
import os
import re
import signal

import pytest
from playwright.async_api import Page, expect

from queue_manager.client import AsyncClient
from tests.e2e.server_process import ServerProcess
from tests.integration.page.seen import kept_history, ledger, queue_id, reaches, start
from tests.support.browser import Tab, needs_browser
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, needs_browser]

NOTICES_WITHIN = 10_000.0
"""Milliseconds until the page says that it is cut off: it asks after 2 s of silence, and is refused at once; the rest is
for a machine that is busy."""
RETURNS_WITHIN = 20_000.0
"""Milliseconds until it has come back: the longest pause between its attempts, and one of them."""


async def test_a_server_that_dies_and_comes_back_costs_no_change(
    tab: Tab, server: ServerProcess, client: AsyncClient
) -> None:
    """The gateway keeps the page's stream open meanwhile; the page still notices that nothing can come."""
    queue = await start(tab.page)
    await several_frames(tab.page)
    await server.kill()
    await expect(tab.page.locator("#connection")).to_have_text("reconnecting…", timeout=NOTICES_WITHIN)
    await server.start()
    await expect(tab.page.locator("#connection")).not_to_have_text("reconnecting…", timeout=RETURNS_WITHIN)
    await ends_whole(tab, client, queue)


async def test_a_gateway_that_dies_and_comes_back_costs_no_change(
    tab: Tab, gateway: GatewayProcess, client: AsyncClient
) -> None:
    """The browser comes back with the last id that it saw."""
    queue = await start(tab.page)
    await several_frames(tab.page)
    await gateway.kill()
    await expect(tab.page.locator("#connection")).to_have_text("reconnecting…", timeout=NOTICES_WITHIN)
    await gateway.start()
    await expect(tab.page.locator("#connection")).not_to_have_text("reconnecting…", timeout=RETURNS_WITHIN)
    await ends_whole(tab, client, queue)


async def test_both_die_and_the_gateway_is_back_before_its_server(
    tab: Tab, server: ServerProcess, gateway: GatewayProcess, client: AsyncClient
) -> None:
    """The stream is answered with an error then, after which a browser would give up."""
    queue = await start(tab.page)
    await several_frames(tab.page)
    await gateway.kill()
    await server.kill()
    async with tab.page.expect_response(lambda answer: answer.status == 503, timeout=RETURNS_WITHIN):
        await gateway.start(answers=False)
    await expect(tab.page.locator("#connection")).to_have_text("reconnecting…")
    await server.start()
    await expect(tab.page.locator("#connection")).not_to_have_text("reconnecting…", timeout=RETURNS_WITHIN)
    await ends_whole(tab, client, queue)


async def test_a_quiet_queue_costs_little(tab: Tab, server: ServerProcess, client: AsyncClient) -> None:
    """Its page asks every 2 s whether anything has changed, and is answered without a body."""
    await start(tab.page, "realtime")
    await reaches(tab.page, "RUNNING")
    asked: list[int] = []
    tab.page.on("response", lambda answer: asked.append(answer.status))
    queue = await client.get_queue(await queue_id(tab.page))
    workers = [job.runner.pid for job in queue.jobs]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)  # nothing more is heard of them
    await asyncio.sleep(8)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert 2 <= len(asked) <= 4
    assert set(asked) == {304}
    await expect(tab.page.locator("#connection")).to_have_text("live")


async def test_the_list_survives_a_gateway_that_dies(tab: Tab, gateway: GatewayProcess) -> None:
    """It keeps what it has, says that this may be old, and asks on."""
    queue = await start(tab.page, "realtime")
    await tab.page.locator("#back").click()
    link = tab.page.get_by_role("link", name=queue)
    await expect(link).to_be_visible()
    await gateway.kill()
    await expect(tab.page.locator("#list-error")).to_contain_text("cannot be reached")
    await expect(link).to_be_visible()
    await gateway.start()
    await expect(tab.page.locator("#list-error")).to_be_hidden()
    await expect(tab.page.locator("#connection")).to_have_text("live")
    tab.forgive_http_errors()


async def several_frames(page: Page) -> None:
    """The queue runs, and the page has seen some of it."""
    await reaches(page, "RUNNING")
    await expect(page.locator("#queue")).to_have_attribute("data-frames", re.compile(r"[5-9]|\d\d"))


async def ends_whole(tab: Tab, client: AsyncClient, queue: str) -> None:
    """It is seen to its end, and every change has been shown once."""
    await reaches(tab.page, "FINISHED")
    await expect(tab.page.locator("#connection")).to_have_text("ended")
    shown = await ledger(tab.page)
    assert shown.adds_up, shown
    assert set(await kept_history(client, queue)) <= {revision for revision, _ in shown.entries}
    tab.forgive_http_errors()
