"""What a simulated worker is told by its environment, and which kind of worker that makes it.

| variable | meaning | default |
|---|---|---|
| `SIMULATE_DURATION` | seconds that the work takes | by kind, 5 to 12 |
| `SIMULATE_RECORDS` | records by its end (of an endless one: in each such span) | by kind |
| `SIMULATE_EXIT_CODE` | fail with this exit code at the end; 0: don't | 0 |
| `SIMULATE_OUTCOME` | see `OUTCOMES` | endless kinds never end, all others `finish` |
| `SIMULATE_IGNORE_STOP` | `true`: the stop command and SIGTERM do nothing | `false` |
| `TELEMETRY_INTERVAL` | seconds between two reports | 0.5 |
| `EPOCHS` | of a trainer | 20 |
| `KAFKA_GROUP_ID` | consumer group of a connector | `arango-connector-consumer-<QUEUE_ID>` |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

OUTCOMES = {
    "finish": "work to the end, say finished, exit 0; an endless kind ends so too when it is asked for by name",
    "error_exit_0": "half-way report an error and exit 0, as today's real workers do",
    "crash": "half-way die of SIGKILL",
    "hang": "half-way stop reporting and listening, and stay",
    "linger": "work to the end, say finished, and stay",
    "silent": "never say anything, exit 0 at the end",
}

KINDS = ("loader", "connector", "graph-builder", "trainer", "visualizer")

DEFAULTS = {
    "loader": (7.5, 9000),
    "connector": (7.5, 0),
    "graph-builder": (9.5, 2400),
    "trainer": (12.0, 0),
    "visualizer": (5.0, 50),
}
"""By kind: duration in seconds, records. So the historical pipeline's whole run takes about 13 seconds."""


class Settings:
    """The environment, read. Raises `ValueError` where a value cannot be used, as a real worker would die of it."""

    def __init__(self, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        """`arguments`: the target's name, where the command line gives it; else it is taken from the telemetry id."""
        get = environment.get
        self.queue_id = get("QUEUE_ID", "")
        self.symbol = get("SYMBOL", "")
        self.type = get("TYPE", "")
        self.telemetry_id = get("TELEMETRY_PRODUCER_ID", "")
        self.topics = get("QM_LOCAL_TOPICS", "")
        self.topic = get("KAFKA_TOPIC", "")
        self.group = get("KAFKA_GROUP_ID") or f"arango-connector-consumer-{self.queue_id}"
        self.interval = max(0.01, float(get("TELEMETRY_INTERVAL") or 0.5))
        self.epochs = max(1, int(get("EPOCHS") or 20))
        self.kind = kind_of(arguments[0] if arguments else target_of(self.telemetry_id), self.type)
        duration, records = DEFAULTS[self.kind]
        self.duration = float(get("SIMULATE_DURATION") or duration)
        self.records = int(get("SIMULATE_RECORDS") or records)
        self.exit_code = int(get("SIMULATE_EXIT_CODE") or 0)
        self.outcome = get("SIMULATE_OUTCOME", "")
        if self.outcome and self.outcome not in OUTCOMES:
            raise ValueError(f"SIMULATE_OUTCOME must be one of {', '.join(OUTCOMES)}, not {self.outcome!r}")
        self.ignore_stop = get("SIMULATE_IGNORE_STOP", "").lower() in ("true", "1", "yes")
        self.endless = not self.outcome and not self.exit_code and _is_endless(self.kind, self.type)
        """It works until it is stopped."""


def target_of(telemetry_id: str) -> str:
    """The target in a telemetry id: `loader-producer-2__a1b2c3` is one of `loader-producer`."""
    return re.sub(r"-\d+$", "", telemetry_id.rpartition("__")[0])


def kind_of(target: str, type: str) -> str:  # noqa: A002 - the field's name
    """What a worker of this target and type does; targets that an operator added are known by their type."""
    if "connector" in target:
        return "connector"
    if type.startswith(("api_", "ws_")):
        return "loader"
    if type.startswith("gnn_train") or "trainer" in target:
        return "trainer"
    if "graph-builder" in target or type in ("gnn_graph", "realtime_graph"):
        return "graph-builder"
    return "visualizer"


def _is_endless(kind: str, type: str) -> bool:  # noqa: A002 - the field's name
    return kind in ("connector", "visualizer") or type.startswith(("ws_", "realtime_"))
