"""`python -m bench`: measure, print the table, and one JSON line a figure."""

from __future__ import annotations

import typer

from bench import at_rest, calls, stored, watching
from bench.report import command
from bench.scale import FULL, SHORT

if __name__ == "__main__":
    measurements = {
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
    what = "Measure the Queue Manager beside a bare grpc.aio service."
    typer.run(command(what, measurements, full=FULL, short=SHORT))
