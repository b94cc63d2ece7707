"""`python -m bench.kubernetes`: measure, print the table, and one JSON line a figure."""

from __future__ import annotations

import typer

from bench.kubernetes import bursting, living, starting, watching
from bench.kubernetes.scale import FULL, SHORT
from bench.report import command

if __name__ == "__main__":
    measurements = {"burst": bursting.burst, "one": starting.one, "condition": watching.condition, "live": living.live}
    what = "Measure the Queue Manager with its workers on the Kubernetes that KUBECONFIG names, beside bare aiohttp."
    typer.run(command(what, measurements, full=FULL, short=SHORT))
