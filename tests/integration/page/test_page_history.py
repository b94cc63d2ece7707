"""The live page of a queue whose history no longer reaches back: what was not seen is not said to have been."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import aiohttp
import pytest
from playwright.async_api import Route, expect

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2
from tests.integration.page.seen import ledger, reaches
from tests.integration.page.test_page import payload_of
from tests.support.browser import Tab, needs_browser
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, needs_browser]


async def test_what_came_as_one_state_is_told_from_what_was_followed(
    tab: Tab, gateway: GatewayProcess, client: AsyncClient
) -> None:
    """A RESYNC at the beginning, later on, or for everything; the real frames of a queue, some of them forgotten."""
    queue = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    async with asyncio.timeout(30), aclosing(client.watch(queue)) as followed:
        async for frame in followed:
            if frame.queue.state == queue_pb2.QUEUE_STATE_RUNNING:
                break
    await client.stop_queue(queue, wait=True)
    watch = f"{gateway.url}/v1/queues/{queue}:watch?after_revision=0"
    async with aiohttp.ClientSession() as session, session.get(watch, headers={"Accept": "application/x-ndjson"}) as it:
        frames: list[dict[str, Any]] = [json.loads(line) for line in (await it.text()).splitlines()]
    changes = len(frames) - 1  # the last one is the END
    assert changes >= 4
    newest = frames[-1]["revision"]
    page = tab.page

    async def shown(first: int, last: int) -> str:
        """The ledger where RESYNC stands for these frames, counted from 1."""
        resync = {**frames[last - 1], "kind": "FRAME_KIND_RESYNC"}
        del resync["event"]
        before = int(frames[first - 2]["revision"]) if first > 1 else 0
        resync["revisions_merged"] = str(int(resync["revision"]) - before)
        told = [*frames[: first - 1], resync, *frames[last:]]

        async def answer(route: Route) -> None:
            events = (f"event: {each['kind'][len('FRAME_KIND_') :]}\ndata: {json.dumps(each)}\n\n" for each in told)
            await route.fulfill(body="".join(events), content_type="text/event-stream")

        await page.goto(f"{gateway.url}/#/")
        await page.route("**/*:watch?*", answer)
        await page.goto(f"{gateway.url}/#/queues/{queue}")
        await reaches(page, "STOPPED")
        await expect(page.locator("#connection")).to_have_text("ended")
        assert (await ledger(page)).adds_up
        await page.unroute_all()
        return await page.locator("#ledger").inner_text()

    third = frames[2]["revision"]
    assert await shown(1, 3) == (
        f"Revision {newest}: the first {third} revisions came as one state, "
        f"every change since in {changes - 3} frame{'s' * (changes > 4)}, no gap between them."
    )
    await expect(page.locator("#events li").last).to_contain_text("the changes from 1 on are no longer kept")
    assert await shown(2, 3) == (
        f"Revision {newest}: revisions {int(frames[0]['revision']) + 1} to {third} came as one state, "
        f"every other change in {changes - 2} frames, no gap between them."
    )
    assert await shown(1, changes) == (
        f"Revision {newest}: the first {newest} revisions came as one state, no change since, no gap between them."
    )
