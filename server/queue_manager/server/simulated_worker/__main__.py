"""`python -m queue_manager.server.simulated_worker [TARGET]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from queue_manager.server.simulated_worker.life import Life
from queue_manager.server.simulated_worker.settings import Settings
from queue_manager.worker import run


def main(arguments: Sequence[str]) -> NoReturn:
    """Read the environment and live; exits."""
    try:
        settings = Settings(os.environ, arguments)
    except ValueError as error:
        sys.stderr.write(f"simulated worker: {error}\n")
        sys.exit(2)
    run(
        Life(settings),
        opening=f"simulated {settings.kind} started",
        heeds_stop=not settings.ignore_stop,
        speaks=settings.outcome != "silent",
    )


if __name__ == "__main__":
    main(sys.argv[1:])
