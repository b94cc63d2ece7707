"""The live page's files: whole, and such that a strict content security policy has nothing to forbid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).resolve().parents[2] / "gateway" / "queue_manager" / "gateway" / "static"
INDEX = (STATIC / "index.html").read_text(encoding="utf-8")
SCRIPTS = sorted((STATIC / "page").glob("*.js"))

MARKUP_FROM_DATA = re.compile(
    r"\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\([^)]*[\"']style[\"']"
)


def test_the_document_has_no_inline_script_style_or_handler() -> None:
    """`default-src 'self'` forbids them all."""
    assert not re.search(r"<script(?![^>]*\bsrc=)", INDEX)
    assert not re.search(r"<style\b|\sstyle=|\son[a-z]+=", INDEX)


def test_what_the_document_refers_to_is_there_and_ours() -> None:
    """Nothing comes from elsewhere."""
    for address in re.findall(r"(?:src|href)=\"([^\"]+)\"", INDEX):
        assert address.startswith(("/static/", "/docs", "#")), address
        if address.startswith("/static/"):
            assert (STATIC / address.removeprefix("/static/")).is_file(), address


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_a_module_makes_no_markup_of_data_and_says_what_it_is_for(script: Path) -> None:
    """Queues carry what anybody wrote into a reason, a label or a message."""
    text = script.read_text(encoding="utf-8")
    assert not MARKUP_FROM_DATA.search(text)
    assert text.startswith("/**")
    assert len(text.splitlines()) <= 250


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.name))
def test_a_module_names_only_what_there_is(script: Path) -> None:
    """Elements that the document has, modules that are there, and of them what they export."""
    text = script.read_text(encoding="utf-8")
    for element in re.findall(r"byId\(\"([^\"]+)\"\)", text):
        assert f'id="{element}"' in INDEX, element
    for names, module in re.findall(r"^import \{([^}]+)\} from \"\./([^\"]+)\";$", text, re.MULTILINE):
        exported = (STATIC / "page" / module).read_text(encoding="utf-8")
        for name in (each.strip() for each in names.split(",")):
            assert re.search(rf"^export (async )?(function|class|const) {name}\b", exported, re.MULTILINE), name
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is imported and not used"
