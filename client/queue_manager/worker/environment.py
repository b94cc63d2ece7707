"""What a worker is told: the environment contract of the platform."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

CONTROL_TOPIC: Final = "queue-control"
EVENTS_TOPIC: Final = "queue-events"


@dataclass(frozen=True)
class Environment:
    """The variables that every worker may be given; what is absent is empty. `variables` has them all, and others."""

    queue_id: str
    telemetry_id: str
    symbol: str = ""
    type: str = ""
    interval: str = ""
    time_range: str = ""
    """`YYYY-MM-DD:YYYY-MM-DD`."""
    kafka_topic: str = ""
    """The data topic that it writes, or reads."""
    collection_name: str = ""
    collection_inputs: tuple[str, ...] = ()
    collection_output: str = ""
    graph_collection: str = ""
    model_output: str = ""
    inference_interval: str = ""
    source: str = ""
    control_topic: str = CONTROL_TOPIC
    events_topic: str = EVENTS_TOPIC
    bootstrap_servers: str = ""
    """Empty: there is no broker, and the worker speaks by standard input and output."""
    kafka_user: str = ""
    kafka_password: str = ""
    ca_path: str = ""
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    @classmethod
    def read(cls, variables: Mapping[str, str] = os.environ) -> Environment:
        """Read the variables. Raises `ValueError` where it is not said whose worker this is."""
        get = variables.get
        missing = [name for name in ("QUEUE_ID", "TELEMETRY_PRODUCER_ID") if not get(name)]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} must be set: a worker is started by the Queue Manager, which sets them"
            )
        return cls(
            queue_id=variables["QUEUE_ID"],
            telemetry_id=variables["TELEMETRY_PRODUCER_ID"],
            symbol=get("SYMBOL", ""),
            type=get("TYPE", ""),
            interval=get("INTERVAL", ""),
            time_range=get("TIME_RANGE", ""),
            kafka_topic=get("KAFKA_TOPIC", ""),
            collection_name=get("COLLECTION_NAME", ""),
            collection_inputs=tuple(filter(None, get("COLLECTION_INPUTS", "").split(","))),
            collection_output=get("COLLECTION_OUTPUT", ""),
            graph_collection=get("GRAPH_COLLECTION") or get("GRAPH_COLLECTION_NAME", ""),
            model_output=get("MODEL_OUTPUT") or get("MODEL_NAME", ""),
            inference_interval=get("INFERENCE_INTERVAL", ""),
            source=get("SOURCE", ""),
            control_topic=get("QUEUE_CONTROL_TOPIC") or get("CONTROL_TOPIC") or CONTROL_TOPIC,
            events_topic=get("QUEUE_EVENTS_TOPIC") or get("TELEMETRY_TOPIC") or EVENTS_TOPIC,
            bootstrap_servers=get("KAFKA_BOOTSTRAP_SERVERS", ""),
            kafka_user=get("KAFKA_USER", ""),
            kafka_password=get("KAFKA_PASSWORD", ""),
            ca_path=get("CA_PATH") or get("KAFKA_CA_PATH", ""),
            variables=variables,
        )
