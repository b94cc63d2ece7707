"""The page that shows the document: it needs nothing from elsewhere, and nothing that a strict policy would forbid."""

from __future__ import annotations

import re
from pathlib import Path

import queue_manager.gateway

STATIC = Path(queue_manager.gateway.__file__).parent / "static"
PAGE = (STATIC / "docs.html").read_text(encoding="utf-8")


def test_everything_that_it_loads_is_here() -> None:
    """By paths relative to the page, so that it also works behind a prefix."""
    loaded = re.findall(r'<(?:script|link)[^>]* (?:src|href)="([^"]+)"', PAGE)
    assert len(loaded) > 4
    assert [path for path in loaded if not (STATIC.parent / path).is_file()] == []


def test_nothing_in_it_is_inline() -> None:
    """Neither scripts nor styles nor handlers, which `default-src 'self'` would refuse."""
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=", PAGE) == []
    assert "http" not in (STATIC / "docs.css").read_text(encoding="utf-8")
