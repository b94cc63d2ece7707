"""What README.md tells its reader to type, typed; and that it prints what README.md says, in essence.

An HTML comment before a fenced block says what it is: `<!-- run: NAME -->` is run by bash or Python in the project's
folder, `<!-- shows: NAME -->` is what that prints. A line `…` there stands for any lines, and a line's trailing `…` for
its rest; ids, times, numbers and names of users may differ, and so may spaces, and which changes of jobs come in one line.
"""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shutil
import sys
import termios
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, grpcurl
from tests.e2e.server_process import ServerProcess
from tests.support.gateway_process import GatewayProcess

BLOCK = re.compile(r"^<!-- (run|shows): ([a-z]+) -->\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ADDRESS = "127.0.0.1:50051"
GATEWAY = "127.0.0.1:8080"
"""As README.md writes them."""
PATIENCE = 60.0

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
DIFFERS: tuple[tuple[str, str], ...] = (
    (r"wf-[a-z0-9-]+-[a-z0-9]{6}\b", "ID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"stopped by [^ :]+", "stopped by SOMEBODY"),
    (r"\d[\d,.:]*", "N"),
    (r"\brecord\b", "records"),
    (r"\s+", " "),
)
"""What is not the same each time, and what it is compared as."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a document."""

    kind: str
    name: str
    language: str
    text: str


def blocks(document: str) -> list[Block]:
    """The marked blocks of a document."""
    return [Block(*found) for found in BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))]


def block(kind: str, name: str) -> Block:
    """README.md's block of this kind and name."""
    found = [b for b in blocks("README.md") if (b.kind, b.name) == (kind, name)]
    assert len(found) == 1, f"README.md must have <!-- {kind}: {name} --> once"
    return found[0]


TOGETHER = re.compile(r"^(TIME rev N) (.+)$")
"""Changes that came in one update stand in one line, after "; " each; which do is a matter of time."""


def normalised(text: str) -> Iterator[str]:
    """The lines that are not empty, less what differs each time."""
    for line in ESCAPES.sub("", text).replace("\r", "\n").splitlines():
        for pattern, replacement in DIFFERS:
            line = re.sub(pattern, replacement, line)  # noqa: PLW2901
        line = line.strip()  # noqa: PLW2901
        if changes := TOGETHER.match(line):
            yield from (f"{changes[1]} {change}" for change in changes[2].split("; "))
        elif line:
            yield line


def missing(printed: str, shown: str) -> str:
    """The first line of what is shown that was not printed after those before it; empty: all were."""
    lines = normalised(printed)
    for line in normalised(shown):
        if line == "…":
            continue
        whole, begin = not line.endswith("…"), line.removesuffix("…").strip()
        if not any(actual == begin if whole else actual.startswith(begin) for actual in lines):
            return line
    return ""


def command(code: Block, address: str) -> list[str]:
    """How a block is run, with the server's address in the place of the one that README.md writes."""
    text = code.text.replace(ADDRESS, address)
    return [sys.executable, "-c", text] if code.language == "python" else ["bash", "-euc", text]


def environment(address: str) -> Mapping[str, str]:
    """As after `. .venv/bin/activate`, with the server at this address."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "QM_SERVER": address, "PYTHONUNBUFFERED": "1"}


async def run(*words: str, address: str, terminal: bool = False) -> tuple[int, str]:
    """Run something in the project's folder; its exit code and what it printed, into a pipe or on a terminal."""
    master, output = pty.openpty() if terminal else os.pipe()
    if terminal:
        termios.tcsetwinsize(output, (40, 110))
    process = await asyncio.create_subprocess_exec(
        *words,
        cwd=ROOT,
        env={**environment(address), "TERM": "xterm"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
    os.close(output)
    reading = asyncio.create_task(asyncio.to_thread(read_all, master))
    try:
        code = await asyncio.wait_for(process.wait(), PATIENCE)
    except TimeoutError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        code = await process.wait()
    return code, await asyncio.wait_for(reading, 10)


def read_all(descriptor: int) -> str:
    """All that comes, until nobody has the other end any more (a terminal then answers EIO)."""
    parts = []
    with suppress(OSError):
        while part := os.read(descriptor, 65536):
            parts.append(part)
    os.close(descriptor)
    return b"".join(parts).decode()


async def fault(name: str, *words: str, address: str, terminal: bool = False) -> str:
    """Run what README.md calls `name`, and say what was not as it says; empty: nothing."""
    code, printed = await run(*words, address=address, terminal=terminal)
    if code != 0:
        return f"{name} ended with exit code {code}:\n{printed[-3000:]}"
    line = missing(printed, block("shows", name).text)
    return f"{name} did not print {line!r} in its place:\n{printed[-3000:]}" if line else ""


async def test_the_demo_and_the_examples(server: ServerProcess) -> None:
    """The demo, queuectl and the Python program of README.md, and docs/client.md's, side by side: they take a while."""
    address = server.address
    client = re.search(r"```python\n(.*?)```", (ROOT / "docs/client.md").read_text(encoding="utf-8"), re.DOTALL)
    assert client is not None
    *results, (code, printed) = await asyncio.gather(
        fault("demo", sys.executable, "scripts/demo.py", address=address, terminal=True),
        fault("queuectl", *command(block("run", "queuectl"), address), address=address),
        fault("python", *command(block("run", "python"), address), address=address),
        run(sys.executable, "-c", client[1], address=address),
    )
    faults = [found for found in results if found]
    if code != 0 or "QUEUE_STATE_FINISHED" not in printed:
        faults.append(f"docs/client.md ended with exit code {code}:\n{printed[-3000:]}")
    assert not faults, "\n".join(faults)
    assert not server.worker_pids(), "every example ends what it has started"


async def test_the_curl_example(server: ServerProcess, tmp_path: Path) -> None:
    """Start, watch and stop through the gateway."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not on the PATH")
    async with GatewayProcess(server.address, tmp_path) as gateway:
        code = replace(block("run", "curl"), text=block("run", "curl").text.replace(f"http://{GATEWAY}", gateway.url))
        found = await fault("curl", *command(code, server.address), address=server.address)
    assert not found, found
    assert not server.worker_pids()


async def test_the_grpcurl_example(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start, watch and stop by grpcurl, with reflection."""
    monkeypatch.setenv("PATH", f"{Path(grpcurl()).parent}{os.pathsep}{os.environ['PATH']}")
    code = block("run", "grpcurl")
    found = await fault("grpcurl", *command(code, server.address), address=server.address)
    assert not found, found
    assert not server.worker_pids()


def test_every_marked_block_is_of_use() -> None:
    """None is marked that no test runs."""
    names = {(b.kind, b.name) for b in blocks("README.md")}
    assert {name for kind, name in names if kind == "run"} == {"queuectl", "curl", "grpcurl", "python"}
    assert {name for kind, name in names if kind == "shows"} == {"demo", "queuectl", "curl", "grpcurl", "python"}


def test_what_was_not_printed_is_found() -> None:
    """The comparison itself: order matters, ids and numbers do not."""
    printed = "wf-a-b-abc123 FINISHED after 0:12\n\nrev 3 one; two\nrev 9 three\n"
    assert not missing(printed, "wf-a-c-xyz789  FINISHED after 0:07\n…\nrev 5 three")
    assert not missing(printed, "rev 1 one; …")
    assert missing(printed, "rev 1 three\nrev 1 one; two") == "rev N one; two"
    assert missing(printed, "wf-a-b-abc123 FAILED after 0:12") == "ID FAILED after N"
    watched = "\n".join(
        (
            "2026-11-24T08:46:05Z rev 3 a RUNNING; b RUNNING",
            "2026-11-24T08:46:06Z rev 4 a FINISHED (DRAINED: read); c LOST",
        )
    )
    shown = "2026-11-24T08:46:05Z rev 8 a RUNNING; …\n2026-11-24T08:46:05Z rev 9 a FINISHED (DRAINED: read)"
    assert not missing(watched, shown)
    assert missing(watched, "2026-11-24T08:46:05Z rev 8 a FINISHED") == "TIME rev N a FINISHED"
