"""`python -m queue_manager.server.simulated_worker [TARGET]`."""

from __future__ import annotations

import os
import sys

from queue_manager.server.simulated_worker.channel import Channel
from queue_manager.server.simulated_worker.life import Life
from queue_manager.server.simulated_worker.settings import Settings


def main() -> int:
    """Read the environment and live."""
    try:
        settings = Settings(os.environ, sys.argv[1:])
    except ValueError as error:
        sys.stderr.write(f"simulated worker: {error}\n")
        return 2
    return Life(settings, Channel(settings)).run()


if __name__ == "__main__":
    sys.exit(main())
