"""`python -m bench.kafka`: measure, print the table, and one JSON line a figure."""

from __future__ import annotations

import typer

from bench.kafka import commands, telemetry
from bench.kafka.scale import FULL, SHORT
from bench.report import command

if __name__ == "__main__":
    measurements = {"drain": telemetry.drain, "fresh": telemetry.fresh, "stop": commands.stop}
    what = (
        "Measure the Queue Manager on the broker that KAFKA_BOOTSTRAP_SERVERS names, beside a bare aiokafka consumer."
    )
    typer.run(command(what, measurements, full=FULL, short=SHORT))
