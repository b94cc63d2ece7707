"""What is there before anybody calls: an idle server, and how soon `queuectl` answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from time import perf_counter

from bench.figures import Figure, compared, no_more_than
from bench.load import start_queue
from bench.processes import ROOT, ServerUnderTest, cpu_seconds, serving
from bench.scale import Scale

SERVER_PACKAGES = ("queue_manager.server", "kubernetes_asyncio", "pydantic", "structlog", "msgspec", "uvloop")
QUEUECTL = "from queue_manager.client.cli import main; main()"
COUNT = """
import atexit, json, sys
atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))
"""


async def idle(scale: Scale, folder: Path) -> list[Figure]:
    """`queue-manager serve` with its embedded parts and nothing to do, beside the bare service."""
    async with serving(folder) as served, ServerUnderTest("bench.bare") as bare:
        process = served.process
        await asyncio.sleep(2.0)  # what it does once after its start is over
        ours_before, bare_before, began = cpu_seconds(process), bare.cpu, perf_counter()
        await asyncio.sleep(scale.idle)
        took = perf_counter() - began
        shares = ((cpu_seconds(process) - ours_before) / took * 100, (bare.cpu - bare_before) / took * 100)
        sizes = (process.memory_info().rss / 2**20, bare.resident / 2**20)
        return [
            compared("idle server, memory", "MiB", [sizes], note="queue-manager serve; bare: grpc.aio alone"),
            compared("idle server, CPU", "%", [shares], note=f"of one core, over {scale.idle:g} s"),
        ]


async def command_line(scale: Scale, folder: Path) -> list[Figure]:
    """`queuectl --help` and `queuectl get`, each a process of its own; what they import."""
    async with ServerUnderTest("bench.manager", "memory", str(folder)) as server:
        queue_id = (await start_queue(server.address)).queue_id
        return [
            await _command(scale, "queuectl --help", server.address, "--help"),
            await _command(scale, "queuectl get", server.address, "get", queue_id, "-o", "json"),
        ]


async def _command(scale: Scale, name: str, address: str, *arguments: str) -> Figure:
    """How long the command takes; fails where it imports what is the server's."""
    modules = json.loads((await _python(address, COUNT + QUEUECTL, *arguments))[1].splitlines()[-1])
    foreign = [module for module in modules if module.startswith(SERVER_PACKAGES)]
    if foreign:
        raise AssertionError(f"{name} imports {', '.join(foreign[:5])}")
    rounds = []
    for _ in range(scale.starts):
        times = []
        for code in (QUEUECTL, "import grpc.aio"):
            began = perf_counter()
            await _python(address, code, *arguments)
            times.append((perf_counter() - began) * 1e3)
        rounds.append((times[0], times[1]))
    note = f"{len(modules)} modules, none of the server's; bare: python -c 'import grpc.aio'"
    return compared(name, "ms", rounds, target=no_more_than(300), note=note)


async def _python(address: str, code: str, *arguments: str) -> tuple[str, str]:
    """Run Python code with arguments; its standard output and error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"import sys; sys.argv[0] = 'queuectl'\n{code}",
        *arguments,
        cwd=ROOT,
        env={**os.environ, "QM_SERVER": address},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"queuectl {' '.join(arguments)} ended with {process.returncode}: {err.decode()}")
    return out.decode(), err.decode()
