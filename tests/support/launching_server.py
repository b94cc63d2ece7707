"""A server that does nothing but launch, to be killed at any moment: `python -m tests.support.launching_server DIR MARKS`.

Importing takes far longer than launching, so it is imported once and forked for each life: for every line
`<seconds> <name> <name> …` on standard input, a child opens a runner and launches those workers side by side, and is
killed with SIGKILL after so many seconds. `killed` is printed when it is gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.support.local_workers import local_runner, spec


def script(marks: Path, name: str) -> str:
    """A worker that leaves a mark each time it runs, says something, and stays."""
    return f'echo started >> {marks}/{name}; echo "{{\\"said\\":\\"{name}\\"}}"; exec sleep 300'


async def live(data_dir: Path, marks: Path, names: Sequence[str]) -> None:
    """Launch, and go on living."""
    async with local_runner(data_dir) as runner:
        await asyncio.gather(*(runner.launch(spec(name, script(marks, name))) for name in names))
        await asyncio.sleep(60)


def main() -> None:
    """Fork and kill."""
    data_dir, marks = Path(sys.argv[1]), Path(sys.argv[2])
    for line in sys.stdin:
        seconds, *names = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(live(data_dir, marks, names))
            os._exit(0)
        time.sleep(float(seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.stdout.write("killed\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
