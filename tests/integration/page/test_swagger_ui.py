"""Swagger UI in a real browser: the user's pipeline is started there, followed and stopped, by clicks alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser, Locator, Page, expect

from queue_manager.client import AsyncClient
from queue_manager.v1.queue_pb2 import QueueState
from tests.e2e.conftest import payload
from tests.support import browser as browsers
from tests.support.browser import Tab, needs_browser, screenshots
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, needs_browser, pytest.mark.timeout(180)]

BODY = "textarea.body-param__text"


@pytest.fixture
async def docs(tab: Tab, gateway: GatewayProcess) -> Page:
    """The page, with the document shown."""
    await tab.page.goto(f"{gateway.url}/docs")
    await expect(tab.page.locator(".opblock").first).to_be_visible()
    return tab.page


async def operation(docs: Page, name: str) -> Locator:
    """An operation, opened."""
    block = docs.locator(f"#operations-QueueManager-{name}")
    await block.locator(".opblock-summary-control").click()
    await expect(block.locator(".execute")).to_be_visible()
    return block


async def chosen(block: Locator, text: str) -> Locator:
    """Choose the example whose name begins so; the list of them."""
    choice = block.locator(".opblock-section-request-body select.examples-select-element").first
    names = await choice.locator("option").all_inner_texts()
    await choice.select_option(index=next(at for at, name in enumerate(names) if name.startswith(text)))
    return choice


async def answered(block: Locator, status: int, *, within: float = 20_000) -> str:
    """Execute it; what is answered. `within` so many milliseconds: a stream is shown when it has ended."""
    await block.locator(".execute").click()
    live = block.locator(".live-responses-table .response")
    await expect(live.locator(".response-col_status").first).to_contain_text(str(status), timeout=within)
    return await live.locator(".highlight-code code, .microlight").first.inner_text()


async def test_the_users_pipeline_is_started_followed_and_finished(
    docs: Page, tab: Tab, client: AsyncClient, tmp_path: Path
) -> None:
    """Its payload is there already; the answer tells the queue, which other operations are given."""
    start = await operation(docs, "StartQueue")
    preloaded = json.loads(await start.locator(BODY).input_value())
    assert preloaded == json.loads(payload("historical").read_text())
    queue_id = json.loads(await answered(start, 200))["queue"]["queue_id"]

    watch = await operation(docs, "WatchQueue")
    await watch.locator("input[placeholder=queue_id]").fill(queue_id)
    stream = await answered(watch, 200, within=60_000)
    assert "event: SNAPSHOT" in stream
    assert "event: UPDATE" in stream
    await start.screenshot(path=screenshots(tmp_path) / "docs-start.png")

    get = await operation(docs, "GetQueue")
    await get.locator("input[placeholder=queue_id]").fill(queue_id)
    final = [frame async for frame in client.watch(queue_id)][-1]
    assert final.queue.state == QueueState.QUEUE_STATE_FINISHED
    assert json.loads(await answered(get, 200))["state"] == "QUEUE_STATE_FINISHED"
    assert tab.complaints == []


async def test_the_targets_are_choices(docs: Page, client: AsyncClient) -> None:
    """Each target and type that the running server has can be chosen, and what is shown for it is in order."""
    start = await operation(docs, "StartQueue")
    choice = await chosen(start, "gnn-trainer gnn_train")
    body = json.loads(await start.locator(BODY).input_value())
    assert body["requests"][0]["target"] == "gnn-trainer"
    offered = " ".join(await choice.locator("option").all_inner_texts())
    for target in await client.list_targets():
        assert target.name in offered
    await start.locator(BODY).fill(json.dumps({**body, "validate_only": True}))
    assert len(json.loads(await answered(start, 200))["plan"]) == 1


async def test_a_realtime_queue_is_stopped(docs: Page, client: AsyncClient) -> None:
    """Started from the second example, stopped by an example, too."""
    start = await operation(docs, "StartQueue")
    choice = start.locator(
        ".opblock-section-request-body select.examples-select-element, .examples-select select"
    ).first
    options = await choice.locator("option").evaluate_all("all => all.map(each => each.value)")
    await choice.select_option(options[1])
    body = json.loads(await start.locator(BODY).input_value())
    assert body == json.loads(payload("realtime").read_text())
    queue_id = json.loads(await answered(start, 200))["queue"]["queue_id"]
    stop = await operation(docs, "StopQueue")
    await stop.locator("input[placeholder=queue_id]").fill(queue_id)
    assert json.loads(await answered(stop, 200))["state"] in {"QUEUE_STATE_STOPPING", "QUEUE_STATE_STOPPED"}
    final = [frame async for frame in client.watch(queue_id)][-1]
    assert final.queue.state == QueueState.QUEUE_STATE_STOPPED


async def test_what_is_refused_is_shown(docs: Page, tab: Tab) -> None:
    """With every violation."""
    start = await operation(docs, "StartQueue")
    await start.locator(BODY).fill('{"symbol": "BTCUSDT", "requests": [{"target": "loader"}]}')
    told = json.loads(await answered(start, 400))
    assert told["code"] == 3
    tab.forgive_http_errors()
    assert tab.complaints == []


@pytest.mark.parametrize("look", browsers.LOOKS, ids=lambda look: str(look.name))
async def test_how_it_looks(chromium: Browser, gateway: GatewayProcess, tmp_path: Path, look: browsers.Look) -> None:
    """Light, dark and narrow; nothing comes from elsewhere."""
    async with browsers.tab(chromium, look) as tab:
        asked: list[str] = []
        tab.page.on("request", lambda request: asked.append(request.url))
        await tab.page.goto(f"{gateway.url}/docs")
        await expect(tab.page.locator(".opblock").first).to_be_visible()
        await tab.page.screenshot(path=screenshots(tmp_path) / f"{look.name}-docs.png")
        assert all(url.startswith((gateway.url, "data:")) for url in asked)
        assert tab.complaints == []
