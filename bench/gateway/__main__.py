"""`python -m bench.gateway`: measure, print the table, and one JSON line a figure."""

from __future__ import annotations

import typer

from bench.gateway import getting, watching
from bench.report import command
from bench.scale import FULL, SHORT

if __name__ == "__main__":
    measurements = {"get": getting.get, "hot": watching.hot, "warm": watching.warm, "silent": watching.silent}
    what = "Measure the HTTP gateway beside a bare aiohttp handler that returns the same bytes after one gRPC call."
    typer.run(command(what, measurements, full=FULL, short=SHORT))
