"""The gateway's own metrics, on a registry of their own. Labels are bounded: methods of the contract, statuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector

PREFIX: Final = "queue_manager_gateway"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds."""

M = TypeVar("M", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a metric in the reference."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


class Metrics:
    """What is counted. It is the hubs' `Observer`."""

    def __init__(self) -> None:
        """With the process' own figures."""
        self.registry: Final = CollectorRegistry()
        self.descriptions: Final[list[Description]] = []
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)
        self.requests = self._add(
            Counter,
            "requests_total",
            "Requests that were answered, by the contract's method and the HTTP status. What is no method of it: `static`, "
            "`document`, `health`, `metrics`, and `none` for paths that lead nowhere.",
            ("method", "status"),
        )
        self.durations = self._add(
            Histogram,
            "request_duration_seconds",
            "From a request's headers to its answer, in seconds; streams are not in it.",
            ("method",),
            buckets=BUCKETS,
        )
        self.streams = self._add(Gauge, "streams", "Streams that are open to clients.", ("method",))
        self._hubs = self._add(
            Gauge, "upstream_watches", "Watches that are open to the server: one for all who watch the same queue."
        )
        self._resumed = self._add(
            Counter,
            "upstream_watches_resumed_total",
            "Attempts to go on with a watch that the server had cut, from the last revision.",
        )

    def _add(self, kind: type[M], name: str, text: str, labels: Sequence[str] = (), **options: Any) -> M:
        metric = kind(f"{PREFIX}_{name}", text, labels, registry=self.registry, **options)
        if labels:  # prometheus_client takes a lock and builds a key for every look-up; ours are few, and never removed
            metric.labels = cache(metric.labels)  # type: ignore[method-assign]
        self.descriptions.append(Description(f"{PREFIX}_{name}", kind.__name__.lower(), tuple(labels), text))
        return metric

    def hub_opened(self) -> None:
        """See `hub.Observer`."""
        self._hubs.inc()

    def hub_closed(self) -> None:
        """See `hub.Observer`."""
        self._hubs.dec()

    def hub_resumed(self) -> None:
        """See `hub.Observer`."""
        self._resumed.inc()

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
