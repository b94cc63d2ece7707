"""What of the shared topics is not as it is set, and what is said of it: what is, what is wanted, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Any

import pytest

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.admin import Shape
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.application.diagnosis import Finding, Severity
from queue_manager.server.domain.errors import Unavailable
from tests.support.local_workers import WallClock

WEEK = 7 * 86400
CONTROL, EVENTS = "queue-control", "queue-events"
SHARED = (CONTROL, EVENTS, f"{CONTROL}.dlq", f"{EVENTS}.dlq")


class Brokers:
    """As `Admin`, as far as it is asked what there is: three brokers, and topics as they are wanted."""

    def __init__(self) -> None:
        self.brokers = 3
        self.topics = {topic: Shape(partitions=12, copies=3) for topic in SHARED}
        self.configured: dict[str, dict[str, str] | None] = {
            topic: {"retention.ms": str(WEEK * 1000), "cleanup.policy": "delete"} for topic in SHARED
        }
        self.down = False
        self.looks = 0

    async def partitions(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """See `Admin`."""
        return {topic: {0: 1} for topic in topics if topic in self.topics}

    async def shapes(self, topics: Iterable[str]) -> tuple[dict[str, Shape], int]:
        """See `Admin`."""
        self.looks += 1
        if self.down:
            raise Unavailable("nobody listens there")
        return {topic: self.topics[topic] for topic in topics if topic in self.topics}, self.brokers

    async def settings(self, topics: Iterable[str], names: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
        """See `Admin`."""
        wanted = set(names)
        return {
            topic: {name: value for name, value in found.items() if name in wanted}
            for topic in topics
            if (found := self.configured[topic]) is not None
        }


def bus_of(brokers: Brokers, **fields: Any) -> KafkaBus:
    """A bus on these brokers that has not been opened, as for `serve --check`."""
    access = Access(bootstrap_servers="kafka:9092")
    bus = KafkaBus(access, Topics(**fields), group="qm", clock=WallClock(), rng=Random(1))
    bus._admin = brokers  # type: ignore[assignment]
    return bus


async def only(brokers: Brokers, **fields: Any) -> Finding:
    """The one thing that deserves a look."""
    (finding,) = await bus_of(brokers, **fields).warnings()
    return finding


async def test_topics_that_are_as_they_are_wanted_are_not_spoken_of() -> None:
    """Nor those that there are not: the check says that."""
    brokers = Brokers()
    bus = bus_of(brokers)
    assert await bus.warnings() == []
    await bus.check()
    brokers.topics.clear()
    assert await bus.warnings() == []


@pytest.mark.parametrize(
    ("there", "said", "remedies"),
    [
        (3, "no more than 3 servers", ("--alter --topic queue-events --partitions 12;", "QM_KAFKA_PARTITIONS=3")),
        (24, "harmless", ("QM_KAFKA_PARTITIONS=24",)),
    ],
)
async def test_other_partitions(there: int, said: str, remedies: tuple[str, ...]) -> None:
    """Fewer and more; how many dead letters have does not matter."""
    brokers = Brokers()
    brokers.topics[EVENTS] = brokers.topics[f"{EVENTS}.dlq"] = Shape(partitions=there, copies=3)
    finding = await only(brokers)
    assert finding.message.startswith(f"topic queue-events has {there} partitions, and QM_KAFKA_PARTITIONS says 12")
    assert said in finding.message
    assert all(remedy in finding.remedy for remedy in remedies)
    assert (finding.severity, finding.part, list(finding.subjects)) == (Severity.WARNING, "bus", [EVENTS])
    await bus_of(brokers).check()


@pytest.mark.parametrize("topic", SHARED)
@pytest.mark.parametrize(
    ("settings", "kept", "said", "instead"),
    [
        ({"retention.ms": "86400000"}, "for 86400 s", "is lost", "QM_KAFKA_RETENTION=86400"),
        ({"retention.ms": "1500"}, "for 1.5 s", "is lost", "QM_KAFKA_RETENTION=1.5"),
        ({"retention.ms": "2592000000"}, "for 2592000 s", "more space", "QM_KAFKA_RETENTION=2592000"),
        ({"retention.ms": "-1"}, "for ever", "more space", ""),
        ({"cleanup.policy": "", "retention.ms": "1"}, "for ever", "more space", ""),
    ],
)
async def test_another_retention(topic: str, settings: dict[str, str], kept: str, said: str, instead: str) -> None:
    """Shorter and longer; a topic that deletes nothing keeps all, whatever its retention."""
    brokers = Brokers()
    brokers.configured[topic] = {"cleanup.policy": "delete", "retention.ms": str(WEEK * 1000), **settings}
    finding = await only(brokers)
    assert finding.message.startswith(
        f"topic {topic} keeps messages {kept}, and QM_KAFKA_RETENTION says for 604800 s: "
    )
    assert said in finding.message
    assert (
        "kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics "
        f"--entity-name {topic} --add-config retention.ms=604800000"
    ) in finding.remedy
    assert finding.remedy.endswith(instead)
    assert ("cleanup.policy=delete" in finding.remedy) is (settings.get("cleanup.policy") == "")
    assert finding.severity is Severity.WARNING
    await bus_of(brokers).check()


async def test_the_retention_that_is_set_is_the_one_that_is_wanted() -> None:
    """Not some default."""
    assert [finding.message for finding in await bus_of(Brokers(), retention=60.0).warnings()] == [
        f"topic {topic} keeps messages for 604800 s, and QM_KAFKA_RETENTION says for 60 s: it takes more space"
        for topic in SHARED
    ]


@pytest.mark.parametrize(("brokers_there", "copies", "wanted"), [(3, 1, 3), (2, 1, 2)])
async def test_fewer_copies_than_there_could_be(brokers_there: int, copies: int, wanted: int) -> None:
    """Of as many as there are brokers; more is no harm."""
    brokers = Brokers()
    brokers.brokers = brokers_there
    brokers.topics = {topic: Shape(partitions=12, copies=min(5, brokers_there)) for topic in SHARED}
    assert await bus_of(brokers).warnings() == []
    brokers.topics[CONTROL] = Shape(partitions=12, copies=copies)
    finding = await only(brokers)
    assert f"topic queue-control has partitions with {copies} of {wanted} copies" in finding.message
    assert "QM_KAFKA_REPLICATION=1" in finding.remedy
    assert f"{wanted} replicas" in finding.remedy
    assert await bus_of(brokers, copies=1).warnings() == []


@pytest.mark.parametrize("topic", SHARED)
@pytest.mark.parametrize("policy", ["compact", "compact,delete", "delete, compact"])
async def test_a_topic_that_is_compacted_is_no_topic_for_this(topic: str, policy: str) -> None:
    """The check fails, also for dead letters; what else there is to say of topics is said still."""
    brokers = Brokers()
    brokers.configured[topic] = {"cleanup.policy": policy, "retention.ms": str(WEEK * 1000)}
    brokers.topics[EVENTS] = Shape(partitions=3, copies=3)
    bus = bus_of(brokers)
    with pytest.raises(Unavailable, match=rf"^topic {topic} is compacted \(cleanup.policy={policy}\)") as refused:
        await bus.check()
    assert refused.value.message.endswith(f"--entity-name {topic} --add-config cleanup.policy=delete")
    (told,) = await bus.warnings()
    assert "has 3 partitions" in told.message


async def test_a_topic_that_was_compacted_is_looked_at_again_at_the_next_check() -> None:
    """And while all is well, a check costs no look: that is done now and then."""
    brokers = Brokers()
    brokers.configured[EVENTS] = {"cleanup.policy": "compact"}
    bus = bus_of(brokers)
    bus._reading = [object()]  # type: ignore[list-item]  # it has been opened
    bus._telemetry.problem = bus._commands.problem = ""
    await bus.check()
    assert brokers.looks == 0
    await bus._look()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await bus.check()
    brokers.configured[EVENTS] = {"cleanup.policy": "delete", "retention.ms": str(WEEK * 1000)}
    looks = brokers.looks
    await bus.check()
    await bus.check()
    assert brokers.looks == looks + 1


async def test_settings_that_may_not_be_read_are_only_a_warning() -> None:
    """What can be told is told."""
    brokers = Brokers()
    brokers.configured[EVENTS] = None
    brokers.topics[EVENTS] = Shape(partitions=1, copies=3)
    bus = bus_of(brokers)
    unread, partitions = await bus.warnings()
    assert "may not be read" in unread.message
    assert "DescribeConfigs" in unread.remedy
    assert "has 1 partition," in partitions.message
    await bus.check()


async def test_brokers_that_are_away_are_no_warning() -> None:
    """They are what the check is about."""
    brokers = Brokers()
    brokers.down = True
    with pytest.raises(Unavailable, match="nobody listens"):
        await bus_of(brokers).warnings()
