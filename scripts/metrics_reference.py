"""Write `docs/metrics.md` from the metrics' own descriptions, or with `--check` say whether it is stale (exit 1)."""

from __future__ import annotations

import sys
from pathlib import Path

from queue_manager.server.observability.metrics import Metrics

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"

INTRODUCTION = """# Metrics

<!-- Made by scripts/metrics_reference.py; do not edit. -->

The server serves these at `http://<QM_METRICS_LISTEN>/metrics` in the Prometheus text format, beside the usual
`process_*` and `python_*` ones. Durations are seconds. A label has few values, and never a queue's id: what one queue
does is in its events and in the log.

"""


def page() -> str:
    """The page in Markdown."""
    lines = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in Metrics(version="").descriptions:
        labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return INTRODUCTION + "\n".join(lines) + "\n"


def main() -> None:
    """Write or check."""
    if "--check" not in sys.argv:
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(), encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page():
        sys.exit("docs/metrics.md is stale; run scripts/metrics_reference.py")


if __name__ == "__main__":
    main()
