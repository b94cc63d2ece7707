"""Real servers that are broken on purpose, by commands that the environment has."""

from __future__ import annotations

import asyncio
import os
from typing import Final

import pytest

HOW: Final = ("PAUSE", "RESUME", "KILL", "RESTART")
"""SIGSTOP, SIGCONT, SIGKILL, and back again with its data."""

PATIENCE: Final = 90.0


class Breaking:
    """The commands `<PREFIX>_PAUSE`, …, of one server."""

    def __init__(self, prefix: str) -> None:
        self._commands = {name: os.environ.get(f"{prefix}_{name}", "") for name in HOW}
        self.needed = pytest.mark.skipif(
            not all(self._commands.values()),
            reason=f"{prefix}_PAUSE, _RESUME, _KILL and _RESTART do not all say how to break it",
        )
        """Marks tests that break it."""

    async def order(self, what: str) -> None:
        """Have one of the commands carried out."""
        process = await asyncio.create_subprocess_shell(
            self._commands[what], stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, said.decode()
