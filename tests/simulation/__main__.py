"""`python -m tests.simulation [--seeds N] [--first S]`: play seeds, say which fail; `--first S --seeds 1` replays one."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from os import cpu_count

from tests.simulation.run import simulate


def play(seed: int) -> tuple[int, str]:
    """A seed and what went wrong with it, if anything did."""
    try:
        simulate(seed)
    except AssertionError as error:
        return seed, str(error)
    except Exception:
        return seed, f"seed {seed}: {traceback.format_exc()}"
    return seed, ""


def main() -> None:
    """Play seeds on all processors."""
    parser = argparse.ArgumentParser(description="Simulate the Queue Manager.")
    parser.add_argument("--seeds", type=int, default=500, help="how many seeds to play (default 500)")
    parser.add_argument("--first", type=int, default=0, help="the first one (default 0)")
    arguments = parser.parse_args()
    began = time.monotonic()
    failed = 0
    with ProcessPoolExecutor(cpu_count()) as pool:
        for _, problem in pool.map(play, range(arguments.first, arguments.first + arguments.seeds), chunksize=4):
            if problem:
                failed += 1
                print(problem)
    print(f"{arguments.seeds} seeds in {time.monotonic() - began:.1f} s, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
