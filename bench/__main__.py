"""`python -m bench`: measure, print the table, and one JSON line a figure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Final

import typer
import uvloop

from bench import at_rest, calls, stored, watching
from bench.figures import Figure, Verdict, show
from bench.scale import FULL, SHORT, Scale

Measurement = Callable[[Scale, Path], Coroutine[Any, Any, list[Figure]]]

MEASUREMENTS: Final[Mapping[str, Measurement]] = {
    "get": calls.get,
    "start": calls.start,
    "watch-hot": watching.hot,
    "watch-warm": watching.warm,
    "watch-idle": watching.silent,
    "list": stored.listing,
    "start-up": stored.start_up,
    "idle": at_rest.idle,
    "queuectl": at_rest.command_line,
}


def main(
    only: Annotated[list[str] | None, typer.Argument(help=f"Some of: {', '.join(MEASUREMENTS)}. Default: all.")] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Measure less, and fail only where a figure is below half its target.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the JSON lines to this file, too.")] = None,
) -> None:
    """Measure the Queue Manager beside a bare grpc.aio service.

    Exit code 1 where a target is missed: by anything, or with --short by more than half.
    """
    if unknown := set(only or ()) - set(MEASUREMENTS):
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there is {', '.join(MEASUREMENTS)}")
    figures: list[Figure] = []
    for name, measure in MEASUREMENTS.items():
        if only and name not in only:
            continue
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        with TemporaryDirectory(prefix="bench-") as folder:
            figures += uvloop.run(measure(SHORT if short else FULL, Path(folder)))
    show(figures)
    lines = [figure.json() for figure in figures]
    print("\n".join(lines))
    if json is not None:
        json.write_text("\n".join(lines) + "\n")
    too_bad = {Verdict.FAR} if short else {Verdict.FAR, Verdict.MISSED}
    raise typer.Exit(any(figure.verdict in too_bad for figure in figures))


if __name__ == "__main__":
    typer.run(main)
