"""A worker in a process of its own, over its standard input and output."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from tests.support.local_workers import PATIENCE


class Running:
    """A worker that runs, and what it has said so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def states(self) -> list[str]:
        """The statuses of what it said, repetitions of `loading` left out."""
        states = [str(message.get("status", message.get("event"))) for message in self.said]
        return [state for n, state in enumerate(states) if state != "loading" or n == 0 or states[n - 1] != "loading"]

    @property
    def words(self) -> list[tuple[object, object]]:
        """The status of each of its messages that has one, and whether it was flagged as the last."""
        return [(message["status"], message["finished"]) for message in self.said if "status" in message]

    def command(self, **fields: object) -> None:
        """Send it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(fields).encode() + b"\n")

    async def hear(self, status: str) -> dict[str, Any]:
        """Read on until it says something of that status, or event."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self.process.stdout.readline():
                self.said.append(json.loads(line))
                if status in (self.said[-1].get("status"), self.said[-1].get("event")):
                    return self.said[-1]
        raise AssertionError(f"it ended without {status!r}: {self.said}")

    async def falls_silent(self, seconds: float) -> None:
        """Read on until it has said nothing for so long, though it has not ended."""
        assert self.process.stdout is not None
        while True:
            try:
                async with asyncio.timeout(seconds):
                    assert await self.process.stdout.readline()
            except TimeoutError:
                return

    async def end(self) -> int:
        """Read on to its end; answers the exit code."""
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            async for line in self.process.stdout:
                self.said.append(json.loads(line))
            return await self.process.wait()


@asynccontextmanager
async def running(*command: str, environment: Mapping[str, str], quiet: bool = False) -> AsyncIterator[Running]:
    """Start one, and end it if it has not ended. `quiet`: what it says on standard error is dropped."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL if quiet else None,
    )
    try:
        yield Running(process)
    finally:
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        assert process.stdout is not None
        await process.stdout.read()  # to its end, so that the pipe is closed
        await process.wait()
