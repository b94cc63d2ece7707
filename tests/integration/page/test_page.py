"""The live page in a browser, as somebody at a desk uses it: by mouse, by keyboard, on a narrow screen.

SCREENSHOTS names a folder for the pictures.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.async_api import Browser, Error, Request, Route, expect

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2
from queue_manager.v1.service_pb2 import StopMode
from tests.e2e.conftest import payload
from tests.integration.page.seen import kept_history, ledger, queue_id, reaches, start
from tests.support import browser as browsers
from tests.support.browser import LOOKS, Look, Tab, needs_browser, screenshots
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.integration, needs_browser]


async def test_a_historical_queue_is_started_and_followed_to_its_end(tab: Tab, client: AsyncClient) -> None:
    """Every change of it is shown once, and the page says that nothing is missing."""
    page = tab.page
    await expect(page.locator("#list-empty")).to_contain_text("Start one from an example")

    queue = await start(page)

    await expect(page).to_have_url(re.compile(f"#/queues/{queue}$"))
    await expect(page).to_have_title(re.compile(queue))
    await expect(page.locator("#jobs tbody")).to_have_count(6)
    await expect(page.locator("#connection")).to_have_text("live")
    bar = page.get_by_role("progressbar", name="Progress of loader-producer", exact=True)
    await expect(bar).to_have_js_property("value", 1, timeout=60_000)
    await reaches(page, "FINISHED")
    await expect(page.locator("#connection")).to_have_text("ended")
    await expect(page.locator("#stop-open")).to_be_hidden()
    await expect(page.locator("#jobs .badge")).to_have_text([re.compile("FINISHED")] * 6)
    await expect(page.locator("[data-key=arango-connector] .reason")).to_have_text(re.compile("^Drained: "))
    shown = await ledger(page)
    assert shown.adds_up, shown
    assert set(await kept_history(client, queue)) <= {revision for revision, _ in shown.entries}
    stored = (await client.get_queue(queue)).records_written
    await expect(page.locator("#queue-facts")).to_contain_text(f"{stored:,}")
    assert (await client.get_queue(queue)).requested_by == "live page"


async def test_the_history_of_a_queue_that_has_ended_is_shown(tab: Tab, client: AsyncClient) -> None:
    """From its first revision, though nobody looked at the time."""
    queue = (await client.start_queue(payload_of("historical"))).queue.queue_id
    kept = await kept_history(client, queue)

    await tab.page.goto(f"{tab.page.url}#/queues/{queue}")

    await reaches(tab.page, "FINISHED")
    shown = await ledger(tab.page)
    assert shown.adds_up, shown
    assert [revision for revision, _ in shown.entries] == kept


async def test_a_realtime_queue_is_stopped_only_after_it_has_been_confirmed(tab: Tab, client: AsyncClient) -> None:
    """The dialog names the queue; the reason that is given, whatever stands in it, is shown as it is."""
    page = tab.page
    queue = await start(page, "realtime")
    await reaches(page, "RUNNING")
    await expect(page.locator("#queue-progress")).to_contain_text("runs until it is stopped")

    await page.locator("#stop-open").click()
    await expect(page.locator("#stop-id")).to_have_text(queue)
    await page.get_by_role("button", name="Let it run").click()
    await expect(page.locator("#stop")).to_be_hidden()
    assert (await client.get_queue(queue)).state == queue_pb2.QUEUE_STATE_RUNNING

    await page.locator("#stop-open").click()
    await page.locator("#stop-reason").fill("seen <b>enough</b>")
    await page.get_by_role("button", name="Stop the queue").click()
    await reaches(page, "STOPPED")
    await expect(page.locator("#queue-reason")).to_have_text("Stopped by live page: seen <b>enough</b>")
    await expect(page.locator("#jobs .badge")).to_have_text([re.compile("STOPPED")] * 7)
    assert (await ledger(page)).adds_up
    assert (await client.get_queue(queue)).stop_reason == "seen <b>enough</b>"


async def test_a_stop_that_takes_long_is_followed_by_one_by_force(tab: Tab, client: AsyncClient) -> None:
    """While it is being stopped the dialog offers that."""
    page = tab.page
    queue = await start(page, "realtime")
    await reaches(page, "RUNNING")
    worker = (await client.get_queue(queue)).jobs[0].runner.pid
    os.kill(worker, signal.SIGSTOP)  # this one hears nobody
    await page.locator("#stop-open").click()
    await page.get_by_role("button", name="Stop the queue").click()
    await reaches(page, "STOPPING")
    await expect(page.locator("#queue-facts")).to_contain_text("Workers are deleted")

    await page.locator("#stop-open").click()
    await expect(page.locator("#stop-title")).to_have_text("It is being stopped. Stop it by force?")
    await page.get_by_role("button", name="Stop the queue").click()
    await reaches(page, "STOPPED")
    await expect(page.locator("#events")).to_contain_text("FORCE stop requested")
    assert (await ledger(page)).adds_up


async def test_the_list_is_filtered_by_state_and_the_back_button_returns_to_it(tab: Tab, client: AsyncClient) -> None:
    """Filter and focus are as they were left."""
    page = tab.page
    running = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    stopped = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    await client.stop_queue(stopped, wait=True)
    rows = page.locator("#queue-rows tr")
    await expect(rows).to_have_count(2)  # the list asks again by itself
    await expect(rows.first).to_have_attribute("data-key", stopped)  # the newest first

    await page.get_by_role("checkbox", name="stopped", exact=True).check()
    await expect(rows).to_have_count(1)
    await expect(page).to_have_url(re.compile(r"#/\?states=STOPPED$"))
    await page.get_by_role("checkbox", name="running", exact=True).check()
    await expect(rows).to_have_count(2)
    await page.get_by_role("checkbox", name="stopped", exact=True).uncheck()
    await expect(rows).to_have_count(1)

    await page.get_by_role("link", name=running).click()
    await reaches(page, "RUNNING")
    await page.go_back()
    await expect(page).to_have_title("Queues · Queue Manager")
    await expect(rows).to_have_count(1)
    await expect(page.get_by_role("checkbox", name="running", exact=True)).to_be_checked()
    await expect(page.get_by_role("link", name=running)).to_be_focused()
    await page.go_forward()
    await reaches(page, "RUNNING")
    await page.get_by_role("link", name="← All queues").click()
    await expect(page).to_have_url(re.compile(r"#/\?states=RUNNING$"))

    await page.get_by_role("checkbox", name="running", exact=True).uncheck()
    await page.get_by_role("checkbox", name="failed", exact=True).check()
    await expect(page.locator("#list-empty")).to_contain_text("None is failed")


async def test_a_queue_is_started_and_stopped_by_keyboard_alone(tab: Tab) -> None:
    """Tab leads everywhere and shows where it is; Enter, the arrows and Escape do what they do everywhere."""
    page = tab.page
    await tab.tab_to("#start-open")
    await page.keyboard.press("Enter")
    await tab.tab_to("#start input[type=radio]")
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#start-body")).to_have_value(re.compile("ws_candles_1m"))
    await tab.tab_to("#start-check")
    await page.keyboard.press("Enter")
    await expect(page.locator("#start-outcome")).to_contain_text("It would launch 7 jobs")
    await tab.tab_to("#start-submit")
    await page.keyboard.press("Enter")
    await reaches(page, "RUNNING")
    await expect(page.locator("#queue-title")).to_be_focused()

    await tab.tab_to(".opener")
    await page.keyboard.press("Enter")
    await expect(page.locator("#job-loader-producer")).to_contain_text("ws_candles_1m")
    await page.keyboard.press("Enter")
    await expect(page.locator("#job-loader-producer")).to_be_hidden()

    await page.locator("#queue-title").focus()
    await tab.tab_to("#stop-open")
    await page.keyboard.press("Enter")
    await expect(page.locator("#stop-reason")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#stop-open")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.type("by keyboard")
    await page.keyboard.press("Enter")
    await reaches(page, "STOPPED")

    queue = await queue_id(page)
    await page.locator("#back").focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("link", name=queue)).to_be_focused()
    await page.keyboard.press("Enter")
    await reaches(page, "STOPPED")


async def test_what_is_wrong_with_a_request_is_shown_with_its_place(tab: Tab, client: AsyncClient) -> None:
    """All violations at once, beside the request, which stays as it was typed; and nothing is started."""
    page = tab.page
    await page.locator("#start-open").click()
    body, outcome = page.locator("#start-body"), page.locator("#start-outcome")
    await expect(body).to_have_value(re.compile("BTCUSDT"))
    bad = json.dumps({"symbol": "", "requests": [{"target": "nobody", "type": "x"}, {"target": "graph-builder"}]})
    for button in ("#start-check", "#start-submit"):
        await body.fill(bad)
        await page.locator(button).click()
        await expect(outcome.locator("[data-field=symbol]")).to_contain_text("is required")
        await expect(outcome.locator("[data-field='requests[0].target']")).to_contain_text("not a known target")
        await expect(outcome.locator("[data-field='requests[1].type']")).to_contain_text("is required")
        await expect(body).to_have_value(bad)
        await body.fill('{"symbol": }')
        await page.locator(button).click()
        await expect(outcome).to_contain_text("not JSON that can be read")
    await body.fill(bad.replace("symbol", "symbl"))
    await page.locator("#start-check").click()
    await expect(outcome).to_contain_text("symbl")

    await page.get_by_label("Real-time").check()
    await expect(body).to_have_value(re.compile("ws_trades"))
    await expect(outcome).to_be_empty()
    await page.get_by_label("Historical").check()
    await expect(body).to_have_value(bad.replace("symbol", "symbl"))  # what was typed is still there
    assert not [queue async for queue in client.list_queues()]
    tab.forgive_http_errors()


async def test_a_request_is_sent_as_it_was_typed(tab: Tab, client: AsyncClient) -> None:
    """With a key twice, which is refused, and all digits of a number; the page adds its field and changes nothing."""
    page = tab.page
    await page.locator("#start-open").click()
    body, outcome = page.locator("#start-body"), page.locator("#start-outcome")
    await expect(body).to_have_value(re.compile("BTCUSDT"))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.post_data or ""))
    for button, field in (("#start-check", "validate_only"), ("#start-submit", "request_id")):
        rest = ' "symbol":"BTCUSDT",\n "symbol" : "ETHUSDT", "max_jobs": 12345678901234567890.10, "requests": []}'
        await body.fill("\n{" + rest)
        await page.locator(button).click()
        await expect(outcome.locator("[data-field=symbol]")).to_contain_text("more than once")
        assert re.fullmatch(r'\n\{"' + field + '": [^,{}]*, ' + re.escape(rest), sent[-1]), sent[-1]
        await body.fill("{ }")
        await page.locator(button).click()
        await expect(outcome.locator("[data-field=symbol]")).to_contain_text("is required")
        assert re.fullmatch(r'\{"' + field + r'": [^,{}]* \}', sent[-1]), sent[-1]

    for said, button in (('"requestId": "mine"', "#start-submit"), ('"validateOnly": true', "#start-check")):
        await body.fill("{" + said + "}")
        await page.locator(button).click()
        await expect(outcome.locator("[data-field=symbol]")).to_be_visible()
        assert sent[-1] == "{" + said + "}"
    await body.fill('{"validate_only": false}')
    many = len(sent)
    await page.locator("#start-check").click()
    await expect(outcome).to_contain_text("Take validate_only out of the request")
    assert len(sent) == many
    assert not [queue async for queue in client.list_queues()]
    tab.forgive_http_errors()


async def test_an_answer_that_got_lost_starts_nothing_twice(tab: Tab, client: AsyncClient) -> None:
    """Start, pressed again, is the same request with the same id."""
    page = tab.page
    await page.locator("#start-open").click()
    await expect(page.locator("#start-body")).to_have_value(re.compile("BTCUSDT"))

    async def lose(route: Route) -> None:
        await route.fetch()
        await route.abort()

    await page.route("**/v1/queues", lose)
    await page.locator("#start-submit").click()
    await expect(page.locator("#start-outcome")).to_contain_text("it is not started twice")
    await page.unroute("**/v1/queues", lose)
    await page.locator("#start-submit").click()
    await reaches(page, "RUNNING")
    assert [queue.queue_id async for queue in client.list_queues()] == [await queue_id(page)]
    tab.forgive_http_errors()


async def test_a_queue_that_is_not_there_is_said_to_be_so(tab: Tab) -> None:
    """And the page does not ask for ever."""
    await tab.page.goto(f"{tab.page.url}#/queues/wf-nobody")
    await expect(tab.page.locator("#queue-error")).to_contain_text("does not exist")
    await expect(tab.page.locator("#connection")).to_have_text("not there")
    await expect(tab.page).to_have_title(re.compile("Not there"))
    tab.forgive_http_errors()


async def test_older_queues_are_a_page_further(tab: Tab, client: AsyncClient) -> None:
    """By a link, which carries the filter along; and back by another."""
    page = tab.page
    queue = (await client.start_queue(payload_of("historical"))).queue.queue_id
    asked: list[str] = []

    async def two_pages(route: Route) -> None:
        asked.append(route.request.url)
        answer = await (await route.fetch(url=route.request.url.partition("?")[0])).json()
        if "page_token" not in route.request.url:
            answer |= {"queues": [], "next_page_token": "a+b/c="}
        await route.fulfill(json=answer)

    await page.route(re.compile(r"/v1/queues\?"), two_pages)
    await page.get_by_role("checkbox", name="running", exact=True).check()
    await page.get_by_role("link", name="Older →").click()
    await expect(page.get_by_role("link", name=queue)).to_be_visible()
    assert asked[-1].endswith("?page_size=20&states=QUEUE_STATE_RUNNING&page_token=a%2Bb%2Fc%3D")
    await page.get_by_role("link", name="← Newest").click()
    await expect(page.get_by_role("link", name="← Newest")).to_be_hidden()
    await expect(page.locator("#list-empty")).to_be_visible()
    await page.unroute_all(behavior="ignoreErrors")


async def test_the_list_is_shown_on_a_slow_line(
    chromium: Browser, gateway: GatewayProcess, client: AsyncClient
) -> None:
    """A page of it is small enough, and is waited for long enough; one question at a time."""
    for _ in range(25):
        queue = (await client.start_queue(payload_of("historical"))).queue.queue_id
        await client.stop_queue(queue, mode=StopMode.STOP_MODE_FORCE, wait=True)
    under_way: set[Request] = set()
    most = 0

    def asked(request: Request) -> None:
        nonlocal most
        if "/v1/queues?" in request.url:
            under_way.add(request)
            most = max(most, len(under_way))

    def over(request: Request) -> None:
        under_way.discard(request)

    async with browsers.tab(chromium) as opened:
        page = opened.page
        page.on("request", asked)
        page.on("requestfinished", over)
        page.on("requestfailed", over)
        await page.goto(f"{gateway.url}/#/queues/{queue}")
        await reaches(page, "STOPPED")
        line = await page.context.new_cdp_session(page)
        await line.send("Network.enable")
        speed = 80_000 / 8  # bytes a second
        await line.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 100, "downloadThroughput": speed, "uploadThroughput": speed},
        )
        await page.locator("#back").click()
        await expect(page.locator("#queue-rows tr")).to_have_count(20, timeout=25_000)
        await expect(page.locator("#list-error")).to_be_hidden()
        await expect(page.locator("#connection")).to_have_text(re.compile("live|slow…"))
        await expect(page.get_by_role("link", name="Older →")).to_be_visible()
        await asyncio.sleep(5)
        assert most == 1


async def test_a_list_that_is_long_in_coming_is_waited_for(tab: Tab, client: AsyncClient) -> None:
    """What is shown stays, and the line is said to be slow; only after half a minute is it an error."""
    page = tab.page
    queue = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    row = page.get_by_role("link", name=queue)
    await expect(row).to_be_visible()
    gate = asyncio.Event()
    held = asyncio.Event()

    async def hold(route: Route) -> None:
        held.set()
        await gate.wait()
        with suppress(Error):  # the page may have given it up
            await route.continue_()

    await page.route(re.compile(r"/v1/queues\?"), hold)
    await page.clock.install()
    await page.reload()
    await asyncio.wait_for(held.wait(), 10)
    now: int = await page.evaluate("Date.now()")
    await page.clock.pause_at(now / 1_000 + 12)  # else it would ask again before we have looked
    await expect(page.locator("#connection")).to_have_text("slow…")
    await expect(page.locator("#list-error")).to_be_hidden()
    gate.set()
    await expect(row).to_be_visible()
    await expect(page.locator("#connection")).to_have_text("slow…")  # it was
    await page.clock.fast_forward(2_000)
    await expect(page.locator("#connection")).to_have_text("live")

    gate.clear()
    held.clear()
    await page.clock.fast_forward(2_000)
    await asyncio.wait_for(held.wait(), 10)
    await page.clock.fast_forward(31_000)
    await expect(page.locator("#list-error")).to_contain_text("No answer within 30 s")
    await expect(row).to_be_visible()
    gate.set()
    await page.unroute_all(behavior="ignoreErrors")


@pytest.mark.parametrize("look", LOOKS, ids=lambda look: str(look.name))
async def test_it_fits(
    chromium: Browser, gateway: GatewayProcess, client: AsyncClient, look: Look, tmp_path: Path
) -> None:
    """Nothing sticks out, in light, in dark, and on a narrow screen; the pictures are for people to look at."""
    folder = screenshots(tmp_path)
    ends = (await client.start_queue(payload_of("historical"), labels={"team": "research"})).queue.queue_id
    runs = (await client.start_queue(payload_of("realtime"), labels={"team": "research"})).queue.queue_id
    stopped = (await client.start_queue(payload_of("realtime"))).queue.queue_id
    await client.stop_queue(stopped, wait=True, reason="a picture")

    async with browsers.tab(chromium, look) as opened:
        page = opened.page

        async def picture(name: str, *, whole: bool = True) -> None:
            await page.screenshot(path=folder / f"{look.name}-{name}.png", full_page=whole)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name

        await page.goto(gateway.url)
        await expect(page.locator("#queue-rows tr")).to_have_count(3)
        await picture("list")
        await page.locator("#start-open").click()
        await page.locator("#start-check").click()
        await expect(page.locator("#start-outcome")).to_contain_text("It would launch")
        await picture("start", whole=False)
        await page.keyboard.press("Escape")
        await page.get_by_role("link", name=runs).click()
        await reaches(page, "RUNNING")
        await page.locator(".opener").first.click()
        await picture("queue")
        await page.locator("#stop-open").click()
        await picture("stop", whole=False)
        await page.keyboard.press("Escape")
        for queue, state in ((stopped, "STOPPED"), (ends, "FINISHED")):
            await page.goto(f"{gateway.url}/#/queues/{queue}")
            await reaches(page, state)
            await picture(state.lower())


def payload_of(name: str) -> dict[str, object]:
    """An example as the API takes it."""
    read: dict[str, object] = json.loads(payload(name).read_bytes())
    return read
