"""The gateway's own metrics, on a registry of its own. Labels are bounded: methods of the contract, statuses."""

from __future__ import annotations

from functools import cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

PREFIX: Final = "queue_manager_gateway"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""


class Metrics:
    """What is counted."""

    def __init__(self) -> None:
        """On a registry of its own, with the process' own figures."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            f"{PREFIX}_requests",
            "Requests that were answered, by the contract's method (`static`, `health`, … for the gateway's own) and HTTP "
            "status.",
            ("method", "status"),
            registry=self.registry,
        )
        self.durations = Histogram(
            f"{PREFIX}_request_duration_seconds",
            "From the request's headers to the last byte of the answer; streams are not in it.",
            ("method",),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.streams = Gauge(
            f"{PREFIX}_streams", "Streams that are open to clients, by method.", ("method",), registry=self.registry
        )
        self.hubs = Gauge(
            f"{PREFIX}_upstream_watches",
            "Watches that are open to the server, one for all who watch the same queue.",
            registry=self.registry,
        )
        self.resumed = Counter(
            f"{PREFIX}_upstream_watches_resumed",
            "Watches that the server had cut, and that were tried again from the last revision.",
            registry=self.registry,
        )

        # prometheus_client takes a lock and builds a key for every look-up; ours are few.
        self.requests.labels = cache(self.requests.labels)  # type: ignore[method-assign]
        self.durations.labels = cache(self.durations.labels)  # type: ignore[method-assign]

    def hub_opened(self) -> None:
        """See `hub.Observer`."""
        self.hubs.inc()

    def hub_closed(self) -> None:
        """See `hub.Observer`."""
        self.hubs.dec()

    def hub_resumed(self) -> None:
        """See `hub.Observer`."""
        self.resumed.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
