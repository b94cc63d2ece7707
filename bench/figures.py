"""What the benchmark found: figures beside their yardsticks, as a table and as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import ceil
from statistics import median

from rich.console import Console
from rich.table import Table


class Verdict(StrEnum):
    """What became of a target."""

    MET = "met"
    MISSED = "missed"
    FAR = "far"
    """Missed by more than half: what the short benchmark fails for."""
    NONE = ""
    """There is none."""


@dataclass(frozen=True, slots=True)
class Target:
    """A bound, of the ratio or of the value itself."""

    bound: float
    at_least: bool
    of_value: bool = False

    def verdict(self, found: float) -> Verdict:
        """How a figure stands to it."""
        if found >= self.bound if self.at_least else found <= self.bound:
            return Verdict.MET
        near = found >= self.bound / 2 if self.at_least else found <= self.bound * 2
        return Verdict.MISSED if near else Verdict.FAR

    def __str__(self) -> str:
        """As people write it."""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}" + ("" if self.of_value else " ×")


def at_least(bound: float) -> Target:
    """No less than so many times the yardstick."""
    return Target(bound, at_least=True)


def at_most(bound: float) -> Target:
    """No more than so many times the yardstick."""
    return Target(bound, at_least=False)


def no_more_than(value: float) -> Target:
    """A bound of the value itself, in its unit."""
    return Target(value, at_least=False, of_value=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    name: str
    value: float
    unit: str
    bare: float | None = None
    """The yardstick's value, in the same unit."""
    ratio: float | None = None
    """To the yardstick; of several rounds the median of their ratios."""
    target: Target | None = None
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether it meets its target."""
        if self.target is None:
            return Verdict.NONE
        if self.target.of_value:
            return self.target.verdict(self.value)
        assert self.ratio is not None, f"{self.name} has a target for a ratio, and none"
        return self.target.verdict(self.ratio)

    def json(self) -> str:
        """One JSON object on one line."""
        return json.dumps({**asdict(self), "target": str(self.target or ""), "verdict": self.verdict})


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that is not exceeded by so many per cent of them."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]


def compared(
    name: str,
    unit: str,
    rounds: Sequence[tuple[float, float]],
    *,
    target: Target | None = None,
    note: str = "",
) -> Figure:
    """A figure from rounds of (ours, the yardstick's)."""
    ours, bare = zip(*rounds, strict=True)
    ratios = [our / its for our, its in rounds if its]
    return Figure(name, median(ours), unit, median(bare), median(ratios) if ratios else None, target, note)


def show(figures: Iterable[Figure]) -> None:
    """Print them as a table, as wide as the terminal, or as they need in a pipe."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("figure", no_wrap=True)
    for heading in ("value", "bare", "ratio", "target"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("note", overflow="fold")
    styles = {Verdict.MET: "green", Verdict.MISSED: "yellow", Verdict.FAR: "red", Verdict.NONE: ""}
    for figure in figures:
        table.add_row(
            figure.name,
            f"{_number(figure.value)} {figure.unit}",
            "" if figure.bare is None else _number(figure.bare),
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            str(figure.target or ""),
            f"[{styles[figure.verdict]}]{figure.verdict}[/]" if figure.verdict else "",
            figure.note,
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    console.print(table)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
