"""What of the topics that everybody shares is not as it is set, and what to do about it.

Topics that there were before the server, or that others make, may have other partitions, copies and settings than it would
give them. Most of that only deserves a look: a warning. A topic that is compacted is an error: its brokers refuse messages
without a key, which workers' telemetry has none of, and of the others they keep the last one of each key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from queue_manager.server.adapters.kafka.admin import Admin, Shape
from queue_manager.server.application.diagnosis import BUS, Finding, Severity

RETENTION: Final = "retention.ms"
POLICY: Final = "cleanup.policy"
DELETE: Final = "delete"
COMPACT: Final = "compact"
FOR_EVER: Final = -1
"""As a retention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a topic should be like."""

    partitions: int | None
    """None: any number will do."""
    copies: int
    """Of each partition, where there are so many brokers."""
    retention: int
    """Milliseconds."""


async def look(admin: Admin, wanted: Mapping[str, Wanted], *, servers: str) -> list[Finding]:
    """Ask the brokers; topics that there are not are passed over. `servers` goes into remedies. Raises `Unavailable`."""
    shapes, brokers = await admin.shapes(wanted)
    settings = await admin.settings(shapes, (RETENTION, POLICY))
    found: list[Finding] = []
    for topic, shape in shapes.items():
        about = _About(topic, wanted[topic], servers)
        found += about.cleanup(settings.get(topic))
        found += about.shape(shape, brokers)
    return found


@dataclass(frozen=True, slots=True)
class _About:
    """What there is to say of one topic."""

    topic: str
    wanted: Wanted
    servers: str

    def cleanup(self, settings: Mapping[str, str] | None) -> Iterator[Finding]:
        """What becomes of its messages; None: its settings may not be read."""
        if settings is None:
            yield self._finding(
                "may lose messages: it cannot be told how long it keeps them, as its settings may not be read",
                f"allow the server's user DescribeConfigs on topic {self.topic}",
            )
            return
        policy = {word.strip() for word in settings.get(POLICY, DELETE).split(",")}
        if COMPACT in policy:
            yield self._finding(
                f"is compacted ({POLICY}={settings[POLICY]}): messages without a key, as workers send them, are refused, "
                "and of the others only the last one of each key is kept",
                self._configs(f"{POLICY}={DELETE}"),
                Severity.ERROR,
            )
            if DELETE not in policy:
                return  # there is no retention to speak of
        wanted = self.wanted.retention
        kept = int(settings.get(RETENTION, wanted)) if DELETE in policy else FOR_EVER
        if kept == wanted:
            return
        loses = kept != FOR_EVER and kept < wanted
        remedy = self._configs(f"{RETENTION}={wanted}" + ("" if DELETE in policy else f",{POLICY}={DELETE}"))
        yield self._finding(
            f"keeps messages {_for(kept)}, and QM_KAFKA_RETENTION says {_for(wanted)}: "
            + ("what a server has not read that is down for longer is lost" if loses else "it takes more space"),
            remedy if kept == FOR_EVER else f"{remedy}; or set QM_KAFKA_RETENTION={_seconds(kept)}",
        )

    def shape(self, shape: Shape, brokers: int) -> Iterator[Finding]:
        """Its partitions, and the copies of each."""
        wanted, there = self.wanted.partitions, shape.partitions
        if wanted is not None and there < wanted:
            yield self._finding(
                f"has {_partitions(there)}, and QM_KAFKA_PARTITIONS says {wanted}: "
                f"no more than {there} servers can share it",
                f"while no queue runs, because keys move: kafka-topics.sh --bootstrap-server {self.servers} --alter "
                f"--topic {self.topic} --partitions {wanted}; or set QM_KAFKA_PARTITIONS={there}",
            )
        elif wanted is not None and there > wanted:
            yield self._finding(
                f"has {_partitions(there)}, and QM_KAFKA_PARTITIONS says {wanted}: that is harmless, "
                "but none can be taken away again",
                f"set QM_KAFKA_PARTITIONS={there}",
            )
        copies = min(self.wanted.copies, brokers)
        if shape.copies < copies:
            yield self._finding(
                f"has partitions with {shape.copies} of {copies} copies that QM_KAFKA_REPLICATION asks for: "
                "it is away when their brokers are",
                f"kafka-reassign-partitions.sh --bootstrap-server {self.servers} --execute --reassignment-json-file …, "
                f"with {copies} replicas for each partition; or set QM_KAFKA_REPLICATION={shape.copies}",
            )

    def _finding(self, message: str, remedy: str, severity: Severity = Severity.WARNING) -> Finding:
        message = f"topic {self.topic} {message}"
        return Finding(severity=severity, part=BUS, message=message, remedy=remedy, subjects=(self.topic,))

    def _configs(self, setting: str) -> str:
        return (
            f"kafka-configs.sh --bootstrap-server {self.servers} --alter --entity-type topics --entity-name {self.topic} "
            f"--add-config {setting}"
        )


def _for(milliseconds: int) -> str:
    return "for ever" if milliseconds == FOR_EVER else f"for {_seconds(milliseconds)} s"


def _partitions(count: int) -> str:
    return f"{count} partition{'s' if count != 1 else ''}"


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.12g}"
