"""The measured servers as processes: started, told what to do, weighed, ended."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

ROOT = Path(__file__).resolve().parent.parent


def cpu_seconds(process: psutil.Process) -> float:
    """What a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


class ServerUnderTest:
    """`async with` starts `python -m MODULE ARGUMENTS`; `ask` has it do something; leaving ends it."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """A module that obeys `bench.control`; `environment` goes over our own."""
        self._command = (sys.executable, "-m", module, *arguments)
        self._environment = {**os.environ, **(environment or {})}
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""
        self.facts: dict[str, Any] = {}
        """What it has said of its start."""

    async def __aenter__(self) -> Self:
        """Start it."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=2**28,
        )
        self.facts = await self._line()
        self.address = f"127.0.0.1:{self.facts['port']}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def ask(self, action: str, **arguments: Any) -> Any:
        """Have it do something; its answer. Raises `TimeoutError` where it was given up."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps({"do": action, **arguments}) + "\n").encode())
        said = await self._line()
        if "failed" in said:
            raise TimeoutError(f"{action}: {said['failed']}")
        return said["answer"]

    @property
    def cpu(self) -> float:
        """CPU seconds that it has used."""
        return cpu_seconds(self.process)

    @property
    def resident(self) -> int:
        """Bytes of memory that it has resident."""
        return int(self.process.memory_info().rss)

    @property
    def process(self) -> psutil.Process:
        """The process."""
        assert self._process is not None
        return psutil.Process(self._process.pid)

    async def _line(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} has ended; run it by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass(frozen=True, slots=True)
class Served:
    """`queue-manager serve` that runs, and where."""

    process: psutil.Process
    grpc: str
    metrics: str


@asynccontextmanager
async def serving(folder: Path, environment: Mapping[str, str] | None = None) -> AsyncIterator[Served]:
    """`queue-manager serve` on free ports with its state in `folder`, once it serves."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QM_", "KAFKA_", "ARANGO_", "K8S_", "CA_PATH"))
    }
    own = {"QM_GRPC_LISTEN": "127.0.0.1:0", "QM_METRICS_LISTEN": "127.0.0.1:0", "QM_LOG_FORMAT": "json"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "queue_manager.server", "serve"),
        cwd=folder,
        env={**inherited, **own, **(environment or {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    draining = None
    try:
        async with asyncio.timeout(60):
            while (said := json.loads(await process.stderr.readline()))["event"] != "serving":
                pass
        draining = asyncio.create_task(process.stderr.read())  # a full pipe would stop it
        yield Served(psutil.Process(process.pid), said["grpc"], said["metrics"])
    finally:
        process.terminate()
        await process.wait()
        if draining is not None:
            await draining
