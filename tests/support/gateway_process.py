"""A gateway process as a user would start it, on a port of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import aiohttp

from tests.e2e.server_process import free_port

READY_WITHIN = 30.0


class GatewayProcess:
    """`async with` starts it and waits until it answers; leaving kills it. It keeps its port when it is started again."""

    command: ClassVar[Sequence[str]] = (sys.executable, "-m", "queue_manager.server", "gateway")

    def __init__(self, server: str, folder: Path, **environment: str) -> None:
        """`server`: the address of the server that it stands in front of; `folder`: its working directory and log."""
        self.folder = folder
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("QM_")},
            "QM_HTTP_LISTEN": f"127.0.0.1:{port}",
            "QM_SERVER": server,
            "QM_LOG_FORMAT": "json",
            **environment,
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        """Start it."""
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it."""
        await self.kill()

    async def start(self, *, answers: bool = True) -> None:
        """Start the process; until it answers calls, or with `answers=False` anything at all."""
        with (self.folder / "gateway.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(READY_WITHIN), aiohttp.ClientSession() as session:
            while True:
                with suppress(aiohttp.ClientError):
                    async with session.get(f"{self.url}/v1/targets") as answer:
                        if answer.ok or not answers:
                            return
                assert self._process.returncode is None, (self.folder / "gateway.log").read_text()[-2000:]
                await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """`kill -9`."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        await process.wait()
