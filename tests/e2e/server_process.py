"""A server process as a user would start it, on a port and a data directory of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

READY_WITHIN = 30.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class ServerProcess:
    """`async with` starts it and waits until it serves; leaving kills it, and the workers that it left."""

    def __init__(self, folder: Path, **environment: str) -> None:
        """`folder`: its working directory; the state is in `<folder>/data`."""
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.log: list[dict[str, Any]] = []
        self.exit_code: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("QM_", "KAFKA_", "ARANGO_", "CA_PATH"))},
            "QM_GRPC_LISTEN": f"127.0.0.1:{self.port}",
            "QM_METRICS_LISTEN": "127.0.0.1:0",
            "QM_DATA_DIR": str(self.data),
            "QM_LOG_FORMAT": "json",
            **environment,
        }

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return f"127.0.0.1:{self.port}"

    @property
    def metrics_address(self) -> str:
        """Where it serves metrics."""
        return str(next(line["metrics"] for line in reversed(self.log) if line.get("event") == "serving"))

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it and whatever it left."""
        await self.kill()
        quiet = 0
        while quiet < 3:  # a worker may still be on its way to being started
            pids = self._left_behind()
            quiet = 0 if pids else quiet + 1
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)

    async def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, until it serves."""
        self._serving.clear()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "queue_manager.server",
            "serve",
            cwd=self.folder,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=2**22,
        )
        self._reader = asyncio.create_task(self._read(self._process))
        if wait:
            await self.serving()

    async def serving(self) -> None:
        """Wait until it serves; fail with its log where it ends before that."""
        waiter = asyncio.create_task(self._serving.wait())
        assert self._reader is not None
        await asyncio.wait({waiter, self._reader}, timeout=READY_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        assert self._serving.is_set(), f"it does not serve: {self.log[-5:]}"

    async def kill(self) -> None:
        """`kill -9`."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        """SIGTERM; its exit code."""
        await self._end(signal.SIGTERM)
        assert self.exit_code is not None
        return self.exit_code

    def environment_of(self, **more: str) -> Mapping[str, str]:
        """An environment in which the client finds this server."""
        return {**os.environ, "QM_SERVER": self.address, **more}

    def worker_pids(self) -> dict[str, list[int]]:
        """The live worker processes of this server by telemetry id, as the kernel knows them."""
        found: dict[str, list[int]] = {}
        marker = f"QM_LOCAL_TOPICS={self.data.absolute()}/".encode()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0")
                if not any(variable.startswith(marker[:-1]) for variable in variables):
                    continue
                state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
                who = [v for v in variables if v.startswith(b"TELEMETRY_PRODUCER_ID=")]
                if who and state not in "ZX":
                    found.setdefault(who[0].split(b"=", 1)[1].decode(), []).append(int(entry.name))
        return found

    def _left_behind(self) -> list[int]:
        """Workers, and the shims that stand over them: they have a path of ours in their command line."""
        found = [pid for pids in self.worker_pids().values() for pid in pids]
        marker = str(self.data.absolute()).encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    if marker in (entry / "cmdline").read_bytes():
                        found.append(int(entry.name))
        return found

    async def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
        self.exit_code = await process.wait()
        if self._reader is not None:
            await self._reader
        self._process = self._reader = None

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for raw in process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"event": raw.decode(errors="replace").rstrip()}
            self.log.append(line)
            if line.get("event") == "serving":
                self._serving.set()
