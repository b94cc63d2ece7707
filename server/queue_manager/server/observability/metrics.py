"""Every metric of the server, on a registry of its own: names, labels, units. `docs/metrics.md` is made from it.

Nothing is global, so tests and several servers in a process do not meet. Label values are bounded: methods of the
contract, status codes, states, kinds; never a queue id. Who counts what is in `instruments`; how it is served in
`metrics_server`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Any, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram, PlatformCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.process_collector import ProcessCollector

PREFIX: Final = "queue_manager"

FAST: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Buckets for what should take milliseconds, in seconds."""
SLOW: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Buckets for what waits for a machine to pull an image, in seconds."""

M = TypeVar("M", bound=MetricWrapperBase)


@dataclass(frozen=True, slots=True)
class Description:
    """What is said of a metric in the reference."""

    name: str
    kind: str
    labels: Sequence[str]
    help: str


@dataclass(slots=True)
class Samples:
    """Gauges that are asked for when somebody looks. The functions are called on the event loop."""

    reconcile_queue_depth: Callable[[], float] = float
    reconcile_oldest_key_age: Callable[[], float] = float
    outbox_depth: Callable[[], float] = float
    outbox_oldest_age: Callable[[], float] = float
    """`float()` is 0.0: nothing is there to ask yet."""


@dataclass(slots=True)
class _Shelf:
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    descriptions: list[Description] = field(default_factory=list)

    def add(self, kind: type[M], name: str, help_text: str, labels: Sequence[str] = (), **options: Any) -> M:
        metric = kind(f"{PREFIX}_{name}", help_text, labels, registry=self.registry, **options)
        if labels:  # prometheus_client takes a lock and builds a key for every look-up; ours are few, and never removed
            metric.labels = cache(metric.labels)  # type: ignore[method-assign]
        self.descriptions.append(Description(f"{PREFIX}_{name}", kind.__name__.lower(), tuple(labels), help_text))
        return metric


class Metrics:
    """The metrics, as attributes; `registry` is what is served."""

    def __init__(self, *, version: str) -> None:
        """`version`: the package's, for `queue_manager_build_info`."""
        shelf = _Shelf()
        self.registry: Final = shelf.registry
        self.descriptions: Final[Sequence[Description]] = shelf.descriptions
        self.samples: Final = Samples()
        self.before_sample: Final[list[Callable[[], None]]] = []
        """Called before the registry is read: what is added up elsewhere is brought here."""
        add = shelf.add

        self.rpc_total = add(Counter, "rpc_total", "gRPC calls that have ended.", ("method", "code"))
        self.rpc_duration_seconds = add(
            Histogram,
            "rpc_duration_seconds",
            "How long gRPC calls took until they ended, in seconds; streams as long as they were watched.",
            ("method",),
            buckets=FAST,
        )
        self.rpc_in_flight = add(Gauge, "rpc_in_flight", "gRPC calls under way, streams included.", ("method",))

        self.queues = add(Gauge, "queues", "Queues for which something is left to do, by state.", ("state",))
        self.jobs = add(Gauge, "jobs", "Jobs of these queues, by state.", ("state",))
        self.events_total = add(Counter, "events_total", "Changes of queues that were stored, by type.", ("type",))
        self.queues_ended_total = add(Counter, "queues_ended_total", "Queues that ended, by state.", ("state",))
        self.jobs_ended_total = add(
            Counter, "jobs_ended_total", "Jobs that ended, by state and reason (empty: none).", ("state", "reason")
        )
        self.start_latency_seconds = add(
            Histogram,
            "start_latency_seconds",
            "From the acceptance of a queue to the first telemetry of one of its workers, in seconds.",
            buckets=SLOW,
        )

        self.reconcile_steps_total = add(
            Counter, "reconcile_steps_total", "Reconcile steps by outcome: ok, unavailable, error.", ("outcome",)
        )
        self.reconcile_duration_seconds = add(
            Histogram, "reconcile_duration_seconds", "How long a reconcile step took, in seconds.", buckets=FAST
        )
        self.reconcile_queue_depth = add(
            Gauge, "reconcile_queue_depth", "Queues that wait for a reconcile step at this moment."
        )
        self.reconcile_oldest_key_age_seconds = add(
            Gauge,
            "reconcile_oldest_key_age_seconds",
            "For how long the queue that has waited longest for a reconcile step has waited, in seconds.",
        )
        self.worker_launches_total = add(
            Counter,
            "worker_launches_total",
            "Launch calls to the runner by outcome: started, refused, unavailable.",
            ("outcome",),
        )

        self.orphaned_workers = add(
            Gauge, "orphaned_workers", "Workers that run and that no record knows; `queuectl doctor` names them."
        )
        self.watch_subscribers = add(Gauge, "watch_subscribers", "Watch streams that are open.")
        self.watch_frames_total = add(Counter, "watch_frames_total", "Frames sent to watchers, by kind.", ("kind",))
        self.watch_frames_coalesced_total = add(
            Counter,
            "watch_frames_coalesced_total",
            "Revisions that were merged into a later frame, because the reader was slow or they were only progress.",
        )
        self.watch_resyncs_total = add(
            Counter, "watch_resyncs_total", "Streams that could not be resumed without a gap and began anew."
        )

        self.store_operations_total = add(
            Counter,
            "store_operations_total",
            "Operations of the store by outcome: ok, failed. `commit` is a transaction, which many writes share.",
            ("operation", "outcome"),
        )
        self.store_operation_duration_seconds = add(
            Histogram,
            "store_operation_duration_seconds",
            "How long an operation of the store took, waiting included, in seconds.",
            ("operation",),
            buckets=FAST,
        )

        self.telemetry_messages_total = add(
            Counter,
            "telemetry_messages_total",
            "Messages of workers by outcome: accepted, unknown (of no queue here), unreadable.",
            ("outcome",),
        )
        self.commands_total = add(
            Counter,
            "commands_total",
            "Commands that came in over the bus, by outcome: accepted, rejected, ignored (for the workers), unreadable.",
            ("outcome",),
        )
        self._add_kubernetes(shelf)
        self._add_kafka(shelf)

        self.published_events_total = add(Counter, "published_events_total", "Events that went out on the bus.")
        self.outbox_depth = add(Gauge, "outbox_depth", "Queues with events that have not gone out yet.")
        self.outbox_oldest_age_seconds = add(
            Gauge, "outbox_oldest_age_seconds", "For how long the oldest event that has not gone out yet has waited."
        )

        build = add(Gauge, "build_info", "Always 1; the labels tell the version.", ("version", "python"))
        build.labels(version, platform.python_version()).set(1)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)

    def _add_kubernetes(self, shelf: _Shelf) -> None:
        """What the runner over Kubernetes is measured by."""
        add = shelf.add
        self.kubernetes_calls_total = add(
            Counter,
            "kubernetes_calls_total",
            "Calls to the Kubernetes API by what came of them: the HTTP status, or timeout, cut, cancelled.",
            ("verb", "resource", "code"),
        )
        self.kubernetes_call_duration_seconds = add(
            Histogram,
            "kubernetes_call_duration_seconds",
            "How long calls to the Kubernetes API took, in seconds; watches as long as they were open.",
            ("verb", "resource", "code"),
            buckets=FAST,
        )
        self.kubernetes_watch_events_total = add(
            Counter,
            "kubernetes_watch_events_total",
            "What befell the watches of the Kubernetes API: relist (all was listed), expired (410), failed.",
            ("resource", "event"),
        )
        self.kubernetes_watch_age_seconds = add(
            Gauge,
            "kubernetes_watch_age_seconds",
            "Seconds since the watch of a resource last said anything; bookmarks come about once a minute.",
            ("resource",),
        )

    def _add_kafka(self, shelf: _Shelf) -> None:
        """What the bus over Kafka is measured by."""
        add = shelf.add
        self.kafka_events_total = add(
            Counter,
            "kafka_events_total",
            "What befell topics: rebuild (a client failed and was made anew), dead_letter (a message cannot be read, and "
            "is kept), dead_letter_lost (and there is no topic to keep it in), replay (a dead letter was "
            "sent again).",
            ("topic", "event"),
        )
        self.kafka_lag_records = add(
            Gauge,
            "kafka_lag_records",
            "Records of a partition that this server has yet to fetch, of those partitions that it reads.",
            ("topic", "partition"),
        )
        self.kafka_unstored_records = add(
            Gauge,
            "kafka_unstored_records",
            "Records of a partition that were fetched and are not stored yet.",
            ("topic", "partition"),
        )
        self.kafka_oldest_record_age_seconds = add(
            Gauge,
            "kafka_oldest_record_age_seconds",
            "For how long the oldest record of a partition that is not stored yet has been there, 0: there is none.",
            ("topic", "partition"),
        )

    def kafka_event(self, event: str, topic: str) -> None:
        """Something befell a topic; the bus's `observe`."""
        self.kafka_events_total.labels(topic, event).inc()

    def kafka_reading(self, waiting: Mapping[tuple[str, int], tuple[float, float, float]]) -> None:
        """What waits, by topic and partition: records to be fetched, to be stored, and the oldest one's age in seconds.

        Of the partitions that are read now; of the others, others tell.
        """
        gauges = (self.kafka_lag_records, self.kafka_unstored_records, self.kafka_oldest_record_age_seconds)
        for place, gauge in enumerate(gauges):
            gauge.clear()
            for (topic, partition), values in waiting.items():
                gauge.labels(topic, str(partition)).set(values[place])

    def sample(self) -> None:
        """Ask `samples` and all of `before_sample`. Call it on the event loop, before the registry is read."""
        for bring in self.before_sample:
            bring()
        self.reconcile_queue_depth.set(self.samples.reconcile_queue_depth())
        self.reconcile_oldest_key_age_seconds.set(self.samples.reconcile_oldest_key_age())
        self.outbox_depth.set(self.samples.outbox_depth())
        self.outbox_oldest_age_seconds.set(self.samples.outbox_oldest_age())

    def store_operation(self, operation: str, seconds: float, ok: bool) -> None:
        """An operation of the store ended; the store's `observe`."""
        self.store_operations_total.labels(operation, "ok" if ok else "failed").inc()
        self.store_operation_duration_seconds.labels(operation).observe(seconds)

    def kubernetes_call(self, verb: str, resource: str, code: str, seconds: float) -> None:
        """A call to the Kubernetes API ended; the `observe` of its adapter."""
        self.kubernetes_calls_total.labels(verb, resource, code).inc()
        self.kubernetes_call_duration_seconds.labels(verb, resource, code).observe(seconds)

    def kubernetes_watch(self, resource: str, event: str) -> None:
        """Something befell a watch."""
        self.kubernetes_watch_events_total.labels(resource, event).inc()

    def call_began(self, method: str) -> float:
        """A gRPC call of this method, as the contract names it, began: when, on the performance counter."""
        self.rpc_in_flight.labels(method).inc()
        return perf_counter()

    def call_ended(self, method: str, code: str, began: float) -> None:
        """The call that began then ended with this code's name (`OK`, `NOT_FOUND`)."""
        self.rpc_in_flight.labels(method).dec()
        self.rpc_total.labels(method, code).inc()
        self.rpc_duration_seconds.labels(method).observe(perf_counter() - began)
