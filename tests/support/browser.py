"""A browser for tests of pages: Debian's Chromium, or the one that CHROMIUM names, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is neither on the PATH nor named by CHROMIUM")

HTTP_ERROR = "Failed to load resource"
"""How Chromium's console begins where a request failed: not the page's fault, but some test's intention."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a page is looked at."""

    name: str
    colours: Literal["light", "dark"] = "light"
    width: int = 1280
    height: int = 900


LOOKS = (Look(name="light"), Look(name="dark", colours="dark"), Look(name="narrow", width=360, height=780))


@dataclass
class Tab:
    """A page in a browser, and what its console complained about: errors, violations of the content security policy."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Listen from the beginning."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def forgive_http_errors(self) -> None:
        """The test has had requests fail."""
        self.complaints = [each for each in self.complaints if not each.startswith(HTTP_ERROR)]

    async def tab_to(self, selector: str, *, at_most: int = 40) -> None:
        """Press Tab until the focus is there, and be shown that it is."""
        for _ in range(at_most):
            await self.page.keyboard.press("Tab")
            if await self.page.evaluate("(it) => document.activeElement?.matches(it) ?? false", selector):
                assert await self.page.evaluate(SHOWS_FOCUS), f"the focus on {selector} is not to be seen"
                return
        pytest.fail(f"Tab does not lead to {selector}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


SHOWS_FOCUS = """() => {
  const it = document.activeElement;
  const candidates = [[it, null], [it, "::after"], [it.nextElementSibling, null]];
  return candidates.some(([each, part]) => each && getComputedStyle(each, part).outlineStyle !== "none");
}"""


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A browser of its own."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def tab(chromium: Browser, look: Look = LOOKS[0]) -> AsyncIterator[Tab]:
    """A tab with nothing in it. What its console complained about by the end fails the test."""
    context = await chromium.new_context(
        color_scheme=look.colours, viewport={"width": look.width, "height": look.height}
    )
    opened = Tab(await context.new_page())
    yield opened
    await context.close()
    assert not opened.complaints


def screenshots(otherwise: Path) -> Path:
    """Where pictures go: the folder that SCREENSHOTS names, or the test's own."""
    folder = Path(os.environ.get("SCREENSHOTS") or otherwise)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
