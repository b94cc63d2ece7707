"""Write `docs/metrics.md` from the metrics' own descriptions, or with `--check` say whether it is stale (exit 1)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from queue_manager.gateway.metrics import Metrics as GatewayMetrics
from queue_manager.server.observability.metrics import Metrics

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"


class Described(Protocol):
    """What is said of a metric."""

    @property
    def name(self) -> str:
        """Its full name."""

    @property
    def kind(self) -> str:
        """Counter, gauge or histogram."""

    @property
    def labels(self) -> Sequence[str]:
        """Their names."""

    @property
    def help(self) -> str:
        """What it counts."""


INTRODUCTION = """# Metrics

<!-- Made by scripts/metrics_reference.py; do not edit. -->

The server serves these at `http://<QM_METRICS_LISTEN>/metrics` in the Prometheus text format, beside the usual
`process_*` and `python_*` ones. Durations are seconds. A label has few values, and never a queue's id: what one queue
does is in its events and in the log.

"""


GATEWAY = """
## The gateway

It serves these at `/metrics` of its own address (`QM_HTTP_LISTEN`).

"""


def page() -> str:
    """The page in Markdown."""
    return INTRODUCTION + table(Metrics(version="").descriptions) + GATEWAY + table(GatewayMetrics().descriptions)


def table(metrics: Iterable[Described]) -> str:
    """The metrics of one process."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in metrics:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write or check."""
    if "--check" not in sys.argv:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/metrics.md is stale; run scripts/metrics_reference.py")


if __name__ == "__main__":
    main()
