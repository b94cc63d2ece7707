"""What can be seen of a queue on its page, and whether it adds up."""

from __future__ import annotations

import re
from dataclasses import dataclass

from playwright.async_api import Page, expect

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2

PATIENCE = 60_000.0
"""Milliseconds that a queue may take to get somewhere: the simulated workers need a quarter of it."""


@dataclass(frozen=True)
class Ledger:
    """What the page says about the frames that it got, and the entries of its list of events, oldest first."""

    revision: int
    frames: int
    gaps: int
    entries: tuple[tuple[int, int], ...]
    """Revision, and how many revisions it stands for."""

    @property
    def adds_up(self) -> bool:
        """Whether every entry follows on the one before, from the first revision to the newest: none lost, none twice."""
        before = 0
        for revision, merged in self.entries:
            if before + merged != revision:
                return False
            before = revision
        return self.gaps == 0 and before == self.revision


async def ledger(page: Page) -> Ledger:
    """As it is now."""
    article = page.locator("#queue")
    numbers = {
        name: int(await article.get_attribute(f"data-{name}") or "-1") for name in ("revision", "frames", "gaps")
    }
    entries: list[list[str]] = await page.locator("#events li").evaluate_all(
        "(all) => all.map((each) => [each.dataset.revision, each.dataset.merged])"
    )
    return Ledger(**numbers, entries=tuple((int(a), int(b)) for a, b in reversed(entries)))


async def start(page: Page, example: str = "historical") -> str:
    """Start an example as somebody with a mouse would; the id of the queue, whose page is then shown."""
    await page.locator("#start-open").click()
    await page.locator(f"#start input[value={example}]").check()
    await expect(page.locator("#start-body")).to_have_value(re.compile(r"\{.*\}", re.DOTALL))
    await page.locator("#start-submit").click()
    await expect(page.locator("#queue")).to_be_visible()
    return await queue_id(page)


async def queue_id(page: Page) -> str:
    """Of the page that is shown."""
    return await page.locator("#queue-title").inner_text()


async def reaches(page: Page, state: str) -> None:
    """The queue that is shown gets to a state."""
    await expect(page.locator("#queue")).to_have_attribute("data-state", state, timeout=PATIENCE)


async def kept_history(client: AsyncClient, queue: str) -> list[int]:
    """The revisions of a queue, once it has ended, that changed a state: the server keeps all of them."""
    return [
        frame.revision
        async for frame in client.watch(queue, after_revision=0)
        if frame.HasField("event") and frame.event.type != queue_pb2.EVENT_TYPE_PROGRESS
    ]
