"""What the benchmarks have in common as commands: choosing measurements, the table, the JSON lines, the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, TypeVar

import typer
import uvloop

from bench.figures import Figure, Verdict, show

Scale = TypeVar("Scale")


def command(
    what: str,
    measurements: Mapping[str, Callable[[Scale, Path], Coroutine[Any, Any, list[Figure]]]],
    *,
    full: Scale,
    short: Scale,
) -> Callable[..., None]:
    """A command that makes these measurements, each in an empty folder. `what`: its help."""
    names = ", ".join(measurements)

    def main(
        only: Annotated[list[str] | None, typer.Argument(help="What to measure, by name. Default: all.")] = None,
        is_short: Annotated[
            bool, typer.Option("--short", help="Measure less, and fail only where a figure is below half its target.")
        ] = False,
        json: Annotated[Path | None, typer.Option(help="Write the JSON lines to this file, too.")] = None,
    ) -> None:
        if unknown := set(only or ()) - set(measurements):
            raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there is {names}")
        figures: list[Figure] = []
        for name, measure in measurements.items():
            if only and name not in only:
                continue
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            with TemporaryDirectory(prefix="bench-") as folder:
                figures += uvloop.run(measure(short if is_short else full, Path(folder)))
        show(figures)
        lines = [figure.json() for figure in figures]
        print("\n".join(lines))
        if json is not None:
            json.write_text("\n".join(lines) + "\n")
        too_bad = {Verdict.FAR} if is_short else {Verdict.FAR, Verdict.MISSED}
        raise typer.Exit(any(figure.verdict in too_bad for figure in figures))

    code = "Exit code 1 where a target is missed: by anything, or with --short by more than half."
    main.__doc__ = f"{what}\n\nThere is: {names}. {code}"
    return main
