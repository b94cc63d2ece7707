"""The documentation names nothing that there isn't: pages, settings, metrics, verbs, files, options, states, reasons."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeGuard
from urllib.parse import unquote

import grpc
import pytest
import typer

from queue_manager.client.cli.app import app
from queue_manager.gateway.metrics import Metrics as GatewayMetrics
from queue_manager.server.adapters.local.command import TOPICS_VARIABLE
from queue_manager.server.domain import errors
from queue_manager.server.observability.metrics import Metrics
from queue_manager.server.settings.groups import GATEWAY, GROUPS
from queue_manager.v1 import queue_pb2, service_pb2, target_pb2

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")

QUEUECTL_DEBUG = "QM_DEBUG"
"""What queuectl reads beside `QM_SERVER`."""


def words_of(page: Path) -> str:
    """A page's text."""
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """A page's text without its fenced blocks."""
    return FENCE.sub("", words_of(page))


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """The anchors that a page's headings make."""
    headings = re.findall(r"^#+ (.+)$", prose_of(page), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def files() -> tuple[str, ...]:
    """Every file of the project that is not made by a tool."""
    folders = ("protos", "gen", "server", "client", "bench", "tests", "scripts", "docs", "examples")
    return tuple(path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*"))


def is_error(value: object) -> TypeGuard[type[errors.QueueManagerError]]:
    """Whether this is one of the core's errors."""
    return isinstance(value, type) and issubclass(value, errors.QueueManagerError)


def by_page(pattern: str, *, prose: bool = False) -> Iterator[tuple[str, str]]:
    """What matches on each page: (page, match)."""
    for page in PAGES:
        text = prose_of(page) if prose else words_of(page)
        for found in sorted(set(re.findall(pattern, text))):
            yield page.relative_to(ROOT).as_posix(), found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Within the project: to a file or folder, and to a heading where it names one."""
    for link in LINK.findall(prose_of(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the project"
        assert not anchor or anchor in anchors_of(target), f"{link}: no such heading"


def test_every_page_is_in_the_index() -> None:
    """docs/README.md leads to every guide, and docs/decisions/README.md to every decision."""
    for index in (ROOT / "docs/README.md", ROOT / "docs/decisions/README.md"):
        linked = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(words_of(index))}
        missing = [page.name for page in index.parent.glob("*.md") if page != index and page not in linked]
        assert not missing, f"{index}: {missing}"


def test_every_setting_that_is_named_exists() -> None:
    """Variables that begin with QM_, read by the server, the client, queuectl or local workers."""
    known = {str(field.validation_alias) for group in (*GROUPS, *GATEWAY) for field in group.model_fields.values()}
    known |= {TOPICS_VARIABLE, QUEUECTL_DEBUG}
    assert [found for found in by_page(r"\bQM_[A-Z_]*[A-Z]\b") if found[1] not in known] == []


def test_every_metric_that_is_named_exists() -> None:
    """By its full name."""
    known = {metric.name for each in (Metrics(version=""), GatewayMetrics()) for metric in each.descriptions}
    assert [found for found in by_page(r"\bqueue_manager_[a-z_]*[a-z]\b") if found[1] not in known] == []


def test_every_make_verb_that_is_named_exists() -> None:
    """`make VERB` in code font or in a block."""
    verbs = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert [found for found in by_page(r"(?:`|^|\$ )make ([a-z-]+)") if found[1] not in verbs] == []


def test_every_file_that_is_named_exists() -> None:
    """A path in code font, from the project's folder or from any folder below it."""
    named = by_page(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)+\.(?:py|proto|json|md))`", prose=True)
    assert [(page, path) for page, path in named if not any(f"/{file}".endswith(f"/{path}") for file in files())] == []


def test_every_option_of_queuectl_that_is_named_exists() -> None:
    """Also a command's short ones, which stand in code font after a command or alone."""
    command = typer.main.get_command(app)
    commands = getattr(command, "commands", {})
    leaves = [leaf for each in commands.values() for leaf in getattr(each, "commands", {"": each}).values()]
    parameters = [*command.params, *(parameter for leaf in leaves for parameter in leaf.params)]
    known = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    text = words_of(ROOT / "docs/queuectl.md")
    assert sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - known) == []
    assert set(re.findall(r"^\| `([a-z]+)", text, re.MULTILINE)) == set(commands)


def test_every_state_and_reason_in_the_api_guide_exists() -> None:
    """What is in capitals in code font: a value of an enum, with or without its prefix, a gRPC code, an error's reason."""
    known = {code.name for code in grpc.StatusCode}
    known |= {error.reason for error in vars(errors).values() if is_error(error)}
    for file in (queue_pb2, service_pb2, target_pb2):
        for enum in file.DESCRIPTOR.enum_types_by_name.values():
            prefix = enum.values[0].name.removesuffix("UNSPECIFIED")
            known |= {form for value in enum.values for form in (value.name, value.name.removeprefix(prefix))}
    named = set(
        re.findall(r"^[A-Z][A-Z_]+$", "\n".join(CODE.findall(prose_of(ROOT / "docs/api-guide.md"))), re.MULTILINE)
    )
    settings = {name for name in named if name.startswith("QM_")}
    assert sorted(named - settings - known) == []


def test_the_api_guide_explains_every_reason() -> None:
    """The closed list is explained as a whole."""
    text = prose_of(ROOT / "docs/api-guide.md")
    names = [value.name.removeprefix("REASON_") for value in queue_pb2.Reason.DESCRIPTOR.values][1:]
    assert [name for name in names if f"`{name}`" not in text] == []
