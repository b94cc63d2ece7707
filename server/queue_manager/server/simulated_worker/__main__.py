"""`python -m queue_manager.server.simulated_worker [TARGET]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from queue_manager.server.simulated_worker.channel import Channel
from queue_manager.server.simulated_worker.life import Life
from queue_manager.server.simulated_worker.settings import Settings


def main(arguments: Sequence[str]) -> int:
    """Read the environment and live; the exit code."""
    try:
        settings = Settings(os.environ, arguments)
    except ValueError as error:
        sys.stderr.write(f"simulated worker: {error}\n")
        return 2
    return Life(settings, Channel(settings)).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
