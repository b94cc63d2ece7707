"""Every Python example of the client's pages, run as it stands, against a server in this process.

The blocks of a page are run one after the other, in one namespace and in the project's folder; a ```text block right
behind one is what it prints, exactly. Blocks that define tests make up one file, behind the page's first block, which
pytest runs. Where a page's examples take something for granted (an open client, a queue), `GRANTED` makes it.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from queue_manager.client.testing import TestServer

ROOT = Path(__file__).parents[3]
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n\n^```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
DEFINES_TESTS = re.compile(r"^(?:async )?def test_", re.MULTILINE)
MILLION = 1_000_000

Namespace = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Example:
    """A block of Python, and what it is said to print, if anything."""

    code: str
    printed: str

    @property
    def defines_tests(self) -> bool:
        """Whether pytest is to run it."""
        return DEFINES_TESTS.search(self.code) is not None


def examples(page: str) -> list[Example]:
    """Those of a page, in its order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = [Example(*groups) for groups in BLOCK.findall(text)]
    assert len(found) == text.count("```python\n"), "a block is not read as one"
    return found


@asynccontextmanager
async def nothing(server: TestServer) -> AsyncIterator[Namespace]:
    """The page's first example makes what the others use."""
    yield {}


@asynccontextmanager
async def client_and_queue(server: TestServer) -> AsyncIterator[Namespace]:
    """What docs/client.md speaks of."""
    payload = json.loads((ROOT / "examples/historical-pipeline.json").read_text())
    async with server.async_client() as client:
        queue_id = (await client.start_queue(payload)).queue.queue_id
        yield {"client": client, "payload": payload, "queue_id": queue_id}


GRANTED: dict[str, Callable[[TestServer], AbstractAsyncContextManager[Namespace]]] = {
    "client.md": client_and_queue,
    "client-sync.md": nothing,
    "client-testing.md": nothing,
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Where the examples find it; its workers finish, because the examples wait for that."""
    monkeypatch.chdir(ROOT)
    with TestServer() as server:
        monkeypatch.setenv("QM_SERVER", server.address)
        server.finish_when_launched(records_written=2 * MILLION)
        yield server


@pytest.mark.parametrize("page", GRANTED)
def test_the_examples_do_what_the_page_says(page: str, server: TestServer, capsys: pytest.CaptureFixture[str]) -> None:
    with asyncio.Runner() as runner:
        granted = GRANTED[page](server)
        namespace = {"__name__": "__main__", **runner.run(granted.__aenter__())}
        for number, example in enumerate(examples(page)):
            if example.defines_tests:
                continue
            code = compile(example.code, f"{page}, example {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
            waiting = eval(code, namespace)  # it is a coroutine where the example awaits something
            if inspect.iscoroutine(waiting):
                runner.run(waiting)
            printed = capsys.readouterr().out
            if example.printed:
                assert printed == example.printed
            elif number == 0:
                assert "QUEUE_STATE_FINISHED" in printed.splitlines()[-1]
        runner.run(granted.__aexit__(None, None, None))


@pytest.mark.parametrize("page", [page for page in GRANTED if any(one.defines_tests for one in examples(page))])
def test_the_tests_among_the_examples_pass(page: str, tmp_path: Path) -> None:
    first, *others = examples(page)
    file = tmp_path / "test_example.py"
    file.write_text("\n\n".join([first.code, *(one.code for one in others if one.defines_tests)]), encoding="utf-8")
    settings = ("asyncio_mode=auto", "asyncio_default_fixture_loop_scope=function", "filterwarnings=error")
    options = ("-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", *(f"-o{setting}" for setting in settings))
    done = subprocess.run([sys.executable, "-m", "pytest", *options, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{sum(len(DEFINES_TESTS.findall(one.code)) for one in others)} passed" in done.stdout


def test_every_page_of_the_client_is_run() -> None:
    """A new page's examples would otherwise not be."""
    assert {page.name for page in (ROOT / "docs").glob("client*.md")} == set(GRANTED)
