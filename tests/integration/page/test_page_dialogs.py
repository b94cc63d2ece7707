"""The live page's dialogs when answers are late: each is about what it was asked for, and nothing is done twice."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress

import pytest
from playwright.async_api import Error, Page, Request, Route, expect

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2
from tests.integration.page.seen import queue_id, reaches
from tests.support.browser import Tab, needs_browser

pytestmark = [pytest.mark.integration, needs_browser]

STARTS = "**/v1/queues"
ONE_JOB = {"symbol": "BTCUSDT", "requests": [{"target": "loader-producer", "type": "ws_trades"}]}
EXAMPLE = {"historical": re.compile("api_candles"), "realtime": re.compile("ws_candles")}


class Late:
    """Answers that are held back, then given or lost."""

    def __init__(self, *, lost: bool = False) -> None:
        """The server has seen what is lost, too."""
        self.lost = lost
        self.held, self.gate, self.over = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, route: Route) -> None:
        """See `Page.route`."""
        answer = await route.fetch()
        self.held.set()
        await self.gate.wait()
        with suppress(Error):  # the page may have given it up
            await (route.abort() if self.lost else route.fulfill(response=answer))
        self.over.set()

    async def come(self) -> None:
        """Have it come now, and be taken."""
        self.gate.set()
        async with asyncio.timeout(10):
            await self.over.wait()
        await asyncio.sleep(0.3)  # what the page makes of it, nobody tells


async def open_to_start(page: Page) -> None:
    """The dialog that starts a queue, with its example."""
    await page.locator("#start-open").click()
    await expect(page.locator("#start-body")).to_have_value(EXAMPLE["historical"])


async def press_start_and_leave(page: Page, late: Late) -> None:
    """Before the answer has come."""
    await page.locator("#start-submit").click()
    async with asyncio.timeout(10):
        await late.held.wait()
    await page.keyboard.press("Escape")
    await expect(page.locator("#start")).to_be_hidden()


async def test_a_start_that_was_left_and_got_lost_is_not_made_twice(tab: Tab, client: AsyncClient) -> None:
    """The dialog, opened again, still knows the request that it sent: pressed once more, it is the same."""
    page = tab.page
    await open_to_start(page)
    first = Late(lost=True)
    await page.route(STARTS, first)
    await press_start_and_leave(page, first)
    await page.locator("#start-open").click()
    await first.come()
    await expect(page.locator("#start-outcome")).to_be_empty()  # that was told to another one

    await page.unroute(STARTS, first)
    await page.locator("#start-submit").click()
    await expect(page.locator("#queue")).to_be_visible()
    assert [queue.queue_id async for queue in client.list_queues()] == [await queue_id(page)]

    await page.locator("#back").click()
    await page.locator("#start-open").click()
    await page.locator("#start-submit").click()
    await expect(page.locator("#queue")).to_be_visible()
    assert len([queue async for queue in client.list_queues()]) == 2  # what has been started is done with
    tab.forgive_http_errors()


async def test_an_answer_to_a_start_that_was_left_disturbs_nobody(tab: Tab, client: AsyncClient) -> None:
    """Neither the dialog, opened again, nor the page that somebody has gone to; and Start leads to the same queue."""
    page = tab.page
    await open_to_start(page)
    first = Late()
    await page.route(STARTS, first)
    await press_start_and_leave(page, first)
    await page.locator("#start-open").click()
    await first.come()
    await expect(page.locator("#start")).to_be_visible()
    await expect(page.locator("#queue")).to_be_hidden()

    second = Late()
    await page.unroute(STARTS, first)
    await page.route(STARTS, second)
    await press_start_and_leave(page, second)
    await second.come()
    await expect(page.locator("#queue")).to_be_hidden()
    assert len([queue async for queue in client.list_queues()]) == 1
    await page.unroute(STARTS, second)


async def test_an_example_that_is_late_stays_what_it_is(tab: Tab) -> None:
    """What stands in the box meanwhile is not kept as its draft, and cannot be started in its name."""
    page, body = tab.page, tab.page.locator("#start-body")
    late = Late()
    await page.route("**/realtime-pipeline.json", late)
    await open_to_start(page)
    await page.get_by_label("Real-time").check()
    await expect(body).to_have_value("")
    await page.get_by_label("Historical").check()
    await expect(body).to_have_value(EXAMPLE["historical"])
    await late.come()
    await expect(body).to_have_value(EXAMPLE["historical"])
    await page.get_by_label("Real-time").check()
    await expect(body).to_have_value(EXAMPLE["realtime"])


async def test_an_example_that_could_not_be_had_is_asked_for_again(tab: Tab) -> None:
    """When it is chosen again, and when the dialog is opened again."""
    page, body = tab.page, tab.page.locator("#start-body")

    async def refuse(route: Route) -> None:
        await route.fulfill(status=503)

    await open_to_start(page)
    await page.route("**/realtime-pipeline.json", refuse)
    await page.get_by_label("Real-time").check()
    await expect(page.locator("#start-outcome")).to_contain_text("is not there (HTTP 503)")
    await page.get_by_label("Historical").check()
    await page.unroute_all()
    await page.get_by_label("Real-time").check()
    await expect(body).to_have_value(EXAMPLE["realtime"])

    await page.route("**/historical-pipeline.json", refuse)
    await page.reload()
    await page.locator("#start-open").click()
    await expect(page.locator("#start-outcome")).to_contain_text("is not there (HTTP 503)")
    await page.keyboard.press("Escape")
    await page.unroute_all()
    await open_to_start(page)
    tab.forgive_http_errors()


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "lost"])
async def test_an_answer_about_one_queue_is_not_taken_for_another(tab: Tab, client: AsyncClient, lost: bool) -> None:
    """The dialog that asks about the second one waits for its own; and that one can be stopped meanwhile."""
    page = tab.page
    first, second = [(await client.start_queue(ONE_JOB)).queue.queue_id for _ in range(2)]
    late = Late(lost=lost)
    await page.route(f"**/{first}:stop", late)
    stopped: list[str] = []

    def asked(request: Request) -> None:
        if request.url.endswith(":stop"):
            stopped.append(request.url.rpartition("/")[2].removesuffix(":stop"))

    page.on("request", asked)
    await page.get_by_role("link", name=first).click()
    await page.locator("#stop-open").click()
    await page.locator("#stop-submit").click()
    async with asyncio.timeout(10):
        await late.held.wait()
    await page.keyboard.press("Escape")
    await page.locator("#back").click()
    await page.get_by_role("link", name=second).click()
    await page.locator("#stop-open").click()
    await expect(page.locator("#stop-id")).to_have_text(second)
    await expect(page.locator("#stop")).to_have_attribute("aria-busy", "false")
    await late.come()
    await expect(page.locator("#stop")).to_be_visible()
    await expect(page.locator("#stop-outcome")).to_be_empty()
    await page.locator("#stop-submit").click()
    await reaches(page, "STOPPED")
    await expect(page.locator("#stop")).to_be_hidden()
    assert stopped == [first, second]
    tab.forgive_http_errors()


async def test_a_press_is_not_lost_on_an_answer_about_another_queue(tab: Tab, client: AsyncClient) -> None:
    """The second queue is asked to stop while the answer about the first has not come."""
    page = tab.page
    first, second = [(await client.start_queue(ONE_JOB)).queue.queue_id for _ in range(2)]
    late = Late()
    await page.route(f"**/{first}:stop", late)
    for queue in (first, second):
        await page.get_by_role("link", name=queue).click()
        await page.locator("#stop-open").click()
        await page.locator("#stop-submit").click()
        if queue == first:
            async with asyncio.timeout(10):
                await late.held.wait()
            await page.keyboard.press("Escape")
            await page.locator("#back").click()
    await reaches(page, "STOPPED")
    await expect(page.locator("#stop")).to_be_hidden()
    await late.come()
    assert (await client.get_queue(second)).state == queue_pb2.QUEUE_STATE_STOPPED
