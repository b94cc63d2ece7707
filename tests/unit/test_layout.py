"""How the code is laid out, and what only its edges may touch: clocks, randomness, sockets, processes."""

from __future__ import annotations

import ast
import asyncio
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import left_behind

REPOSITORY = Path(__file__).parents[2]
SERVER = REPOSITORY / "server" / "queue_manager" / "server"

EDGES = ("adapters", "observability", "app.py", "embedded", "__main__.py")
"""The parts of the server that may touch the world."""
WORKER = "simulated_worker"
"""A program of its own, which stands in for the workers' images: nothing of the manager runs in it."""

FORBIDDEN = {
    "time",
    "uuid",
    "secrets",
    "socket",
    "ssl",
    "subprocess",
    "multiprocessing",
    "threading",
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    "asyncio.open_connection",
    "asyncio.open_unix_connection",
    "asyncio.start_server",
    "asyncio.start_unix_server",
    "datetime.datetime.now",
    "datetime.datetime.utcnow",
    "datetime.datetime.today",
    "datetime.date.today",
    "os.urandom",
    "os.fork",
    "os.system",
}
"""What reads a clock, sleeps on it, makes randomness or ids, or reaches outside the process; modules as a whole."""
MODULES = frozenset(name for name in FORBIDDEN if "." not in name)


def test_no_package_hides_the_other_roots_of_the_namespace() -> None:
    """An `__init__.py` directly in a root's `queue_manager` would."""
    for root in ("server", "client", "gen", "gateway"):
        assert not (REPOSITORY / root / "queue_manager" / "__init__.py").exists()


def test_the_image_is_built_from_every_root() -> None:
    """The Dockerfile copies what the wheel is made of, and `.dockerignore` lets it through."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    copied = (REPOSITORY / "Dockerfile").read_text().splitlines()
    allowed = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for root in project["tool"]["hatch"]["build"]["targets"]["wheel"]["sources"]:
        assert f"COPY {root} {root}" in copied
        assert f"!{root}" in allowed


def inner_modules() -> list[Path]:
    """Every module of the server that is no edge of it."""
    found = []
    for path in sorted(SERVER.rglob("*.py")):
        part = path.relative_to(SERVER).parts[0]
        if part not in EDGES and part != WORKER:
            found.append(path)
    return found


def touches(source: str) -> Iterator[str]:
    """What a module uses of the outside world, as `line: name`."""
    tree = ast.parse(source)
    names: dict[str, str] = {}  # what a name in the module stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                yield from _judged(node, alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                yield from _judged(node, f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node, names)):
            yield from _judged(node, dotted)


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of `a.b.c`, as far as the imports tell; empty where they do not."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value, names)):
        return f"{inner}.{node.attr}"
    return ""


def _judged(node: ast.stmt | ast.expr, name: str) -> Iterator[str]:
    drawn = name.startswith("random.") and name.split(".")[1] != "Random"
    if name in FORBIDDEN or name.split(".", maxsplit=1)[0] in MODULES or drawn:
        yield f"{node.lineno}: {name}"


@pytest.mark.parametrize("path", inner_modules(), ids=lambda path: str(path.relative_to(SERVER)))
def test_only_the_edges_touch_the_world(path: Path) -> None:
    """Time, randomness, ids and the ports come in from outside, so that the whole manager runs on virtual time."""
    assert list(touches(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import time",
        "import time as t",
        "import uuid",
        "from secrets import token_hex",
        "import random\nrandom.choice([1])",
        "from random import choice",
        "import random as r\nr.random()",
        "from random import SystemRandom",
        "import datetime\ndatetime.datetime.now()",
        "from datetime import datetime\ndatetime.now(UTC)",
        "from datetime import datetime as d\nnow = d.utcnow",
        "from datetime import date\ndate.today()",
        "import socket",
        "from subprocess import run",
        "def f():\n    import subprocess",
        "import asyncio\nasyncio.create_subprocess_exec('ls')",
        "from asyncio import open_connection",
        "import os\nos.urandom(4)",
    ],
)
def test_the_scan_finds_what_it_looks_for(source: str) -> None:
    """However it is imported."""
    assert list(touches(source))


@pytest.mark.parametrize(
    "source",
    [
        "from random import Random\nRandom(1).choice([1])",
        "import random\ndef f(rng: random.Random) -> None: ...",
        "from datetime import datetime\ndatetime.fromisoformat('2024-01-01')",
        "import asyncio\nasyncio.get_running_loop().time()\nasyncio.sleep(1)",
        "class Clock:\n    def now(self) -> float: ...\nClock().now()",
    ],
)
def test_the_scan_lets_pass_what_comes_from_outside(source: str) -> None:
    """A `Random` that is handed in, the loop's clock, times that are parsed."""
    assert list(touches(source)) == []


async def test_a_task_that_is_left_behind_is_found() -> None:
    """What fails every test that leaves one: one that ends by itself is none."""
    before = asyncio.all_tasks()
    ending = asyncio.create_task(asyncio.sleep(0), name="ends")
    assert await left_behind(before) == []
    assert ending.done()


@pytest.mark.virtual_time
async def test_a_task_that_waits_for_ever_is_named() -> None:
    """So that the failure says which."""
    before = asyncio.all_tasks()
    forgotten = asyncio.create_task(asyncio.sleep(1e6), name="forgotten")
    (found,) = await left_behind(before)
    assert found.startswith("forgotten: ")
    forgotten.cancel()
