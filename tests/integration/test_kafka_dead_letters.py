"""Dead letters on a real broker: what `queue-manager serve` has buried is listed and sent again, each once.

Variables lead to the broker as in `test_kafka_server`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from queue_manager.client import AsyncClient, InvalidRequest
from queue_manager.server.adapters.kafka import letters as letters_module
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.adapters.kafka.letters import Letters
from queue_manager.server.application.ports import Fate, Message
from queue_manager.server.domain.errors import Unavailable
from queue_manager.v1.dead_letter_pb2 import DeadLetter
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_server import PLAIN, Console, access, own_topics, until_ready
from tests.support.local_workers import WallClock
from tests.unit.client.terminal import piped

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(180),
]

NOT_UTF8, NOT_JSON, NOBODY = b"\xff\xfe", b"no json", b'{"status": "started"}'
POISON = (NOT_UTF8, NOT_JSON, NOBODY)


@pytest.fixture
def topics() -> dict[str, str]:
    """Topics of a test's own."""
    return own_topics()


@pytest.fixture
async def server(tmp_path: Path, topics: dict[str, str]) -> AsyncIterator[ServerProcess]:
    """A server whose bus is the broker."""
    async with ServerProcess(tmp_path, **access(), **topics) as opened:
        yield opened


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    """A client of it, once it reads its topics."""
    async with AsyncClient(server.address, timeout=60, requested_by="ada@lab") as opened:
        await until_ready(server)
        yield opened


async def buried(topic: str, count: int) -> None:
    """Wait until so many messages of a topic are in its dead-letter topic, which the server has made."""
    found = 0
    options = {"bootstrap_servers": PLAIN, "auto_offset_reset": "earliest"}
    async with asyncio.timeout(60), AIOKafkaConsumer(f"{topic}.dlq", **options) as consumer:
        while found < count:
            record = await consumer.getone()
            found += "x-replayed" not in dict(record.headers)


async def every_letter(client: AsyncClient, topic: str = "") -> list[DeadLetter]:
    """All, newest first, from several pages."""
    return [letter async for letter in client.list_dead_letters(topic=topic, page_size=2)]


@asynccontextmanager
async def administering() -> AsyncIterator[Any]:
    """The broker's operator."""
    admin = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
    await admin.start()
    yield admin
    await admin.close()


async def test_poison_is_listed_replayed_and_listed_as_replayed(
    client: AsyncClient, server: ServerProcess, topics: dict[str, str]
) -> None:
    """On both topics; as it still cannot be read it comes back as new letters, and nothing is sent twice by repetition."""
    control, events = topics["QUEUE_CONTROL_TOPIC"], topics["QUEUE_EVENTS_TOPIC"]
    async with Console(topics) as console:
        for value in POISON:
            await console.say(value, topic="QUEUE_EVENTS_TOPIC", partition=2)
        await console.say(NOT_JSON, topic="QUEUE_CONTROL_TOPIC", partition=1)
    await buried(events, 3)
    await buried(control, 1)

    letters = await every_letter(client, events)
    assert [letter.value for letter in letters] == [*POISON[::-1]]
    assert [(letter.partition, letter.offset) for letter in letters] == [(2, 2), (2, 1), (2, 0)]
    assert [letter.text for letter in letters] == [True, True, False]
    assert len({letter.error for letter in letters}) == 3
    assert not any(letter.HasField("replay_time") for letter in letters)
    [command] = await every_letter(client, control)
    assert (command.topic, command.partition, command.value) == (control, 1, NOT_JSON)
    assert len(await every_letter(client)) == 4

    ids = [letter.id for letter in letters[:2]]
    assert list((await client.replay_dead_letters(ids, validate_only=True)).replayed_ids) == ids[::-1]
    assert list((await client.replay_dead_letters(ids)).replayed_ids) == ids[::-1]
    assert list((await client.replay_dead_letters(ids)).skipped_ids) == ids[::-1]
    await buried(events, 5)
    after = await every_letter(client, events)
    assert [letter.value for letter in after] == [NOBODY, NOT_JSON, *POISON[::-1]]
    assert [letter.replayed_by for letter in after] == ["", "", "ada@lab", "ada@lab", ""]
    assert [(letter.partition, letter.offset) for letter in after[:2]] == [(2, 4), (2, 3)]
    assert {letter.value: letter.error for letter in after[:2]} == {each.value: each.error for each in letters[:2]}

    assert await server.terminate() == 0
    await server.start()
    assert list((await client.replay_dead_letters(ids)).skipped_ids) == ids[::-1]
    forced = await client.replay_dead_letters(ids[:1], force=True)
    assert list(forced.replayed_ids) == ids[:1]
    await buried(events, 6)
    async with ClientSession() as session, session.get(f"http://{server.metrics_address}/metrics") as answer:
        counted = f'queue_manager_kafka_events_total{{event="replay",topic="{events}"}} 1.0'
        assert counted in await answer.text()


async def test_queuectl_lists_and_replays(client: AsyncClient, server: ServerProcess, topics: dict[str, str]) -> None:
    """Names go from one to the other in a pipe; all are those that have not been replayed."""
    events = topics["QUEUE_EVENTS_TOPIC"]
    async with Console(topics) as console:
        for value in POISON:
            await console.say(value, topic="QUEUE_EVENTS_TOPIC", partition=0)
    await buried(events, 3)
    listed = await piped(server.address, "dlq", "list", "--topic", events, "-o", "name")
    newest, *older = listed.out.split()
    assert (await piped(server.address, "dlq", "replay", newest)).out == f"{newest} replayed\n"
    await buried(events, 4)
    dry = await piped(server.address, "dlq", "replay", "--all", "--topic", events, "--dry-run", "-o", "name")
    assert dry.out.split()[:2] == older[::-1]
    assert len(dry.out.split()) == 3
    unknown = await piped(server.address, "dlq", "replay", f"{events}.dlq/0/999")
    assert (unknown.code, unknown.out) == (2, "")
    assert "ids[0]" in unknown.err


async def test_an_unknown_letter_stops_the_others_of_its_call(client: AsyncClient, topics: dict[str, str]) -> None:
    """Nothing is sent where one of the ids is wrong."""
    events = topics["QUEUE_EVENTS_TOPIC"]
    async with Console(topics) as console:
        await console.say(NOT_JSON, topic="QUEUE_EVENTS_TOPIC", partition=0)
    await buried(events, 1)
    with pytest.raises(InvalidRequest) as refused:
        await client.replay_dead_letters([f"{events}.dlq/0/0", f"{events}.dlq/0/1", "nothing"])
    assert [violation.field for violation in refused.value.violations] == ["ids[1]", "ids[2]"]
    [letter] = await every_letter(client)
    assert not letter.HasField("replay_time")


async def test_a_message_of_megabytes_is_kept_and_shown_in_part(tmp_path: Path, topics: dict[str, str]) -> None:
    """Where its topic takes that much; it cannot be replayed, and stands in nobody's way."""
    events, size = topics["QUEUE_EVENTS_TOPIC"], 5 * 2**20
    async with administering() as admin:
        await admin.create_topics([NewTopic(events, 3, 1, topic_configs={"max.message.bytes": str(2 * size)})])
    async with ServerProcess(tmp_path, **access(), **topics) as server, AsyncClient(server.address) as client:
        async with Console(topics, max_request_size=2 * size) as console:
            await console.say(b"x" * size, topic="QUEUE_EVENTS_TOPIC", partition=0)
            await console.say(NOT_JSON, topic="QUEUE_EVENTS_TOPIC", partition=0)
        await buried(events, 2)
        small, large = await every_letter(client)
        assert (large.value, large.value_size, large.text, large.cut) == (b"x" * 2**16, size, True, True)
        done = await client.replay_dead_letters(all_of=events)
        assert (list(done.replayed_ids), list(done.cut_ids)) == ([small.id], [large.id])
        await buried(events, 3)


@asynccontextmanager
async def of_nobody(*values: bytes) -> AsyncIterator[Letters]:
    """Letters of topics that no server reads, with the places 0, 1, … in their topic; and what has them."""
    unique = uuid.uuid4().hex[:8]
    names = Topics(control=f"control-{unique}", events=f"events-{unique}")
    bus = KafkaBus(Access(bootstrap_servers=PLAIN), names, group="nobody", clock=WallClock(), rng=Random(1))
    async with administering() as admin:
        await admin.create_topics([NewTopic(f"{names.events}.dlq", 1, 1)])
        for number, value in enumerate(values):
            await bus.bury(Message(value, 1.0, f"{names.events}/0@1a2b", number), "is no JSON")
        yield bus.dead_letters
        await admin.delete_topics([f"{names.events}.dlq"])
    await bus.close()


async def test_a_letter_whose_topic_is_gone_stays_to_be_replayed() -> None:
    """Nor does anybody make that topic on the way."""
    async with of_nobody(NOT_JSON) as letters, administering() as admin:
        control, events = letters.topics
        fates = await letters.fates_of(events)
        assert [*fates.values()] == [Fate.WAITING]
        with pytest.raises(Unavailable, match=f"there is no topic {events}"):
            await anext(letters.replay([*fates], by="ada@lab"))
        assert await letters.fates_of(events) == fates
        assert await letters.page([control], before=None, limit=5) == ([], False)
        assert not {events, control, f"{control}.dlq"} & {*await admin.list_topics()}


async def test_only_the_newest_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a list does not have cannot be replayed either."""
    monkeypatch.setattr(letters_module, "WINDOW", 4)
    async with of_nobody(*[b"%d" % number for number in range(6)]) as letters:
        _, events = letters.topics
        page, more = await letters.page([events], before=None, limit=10)
        assert ([letter.value for letter in page], more) == ([b"5", b"4", b"3", b"2"], False)
        assert [*await letters.fates_of(events)] == [f"{events}.dlq/0/{number}" for number in (2, 3, 4, 5)]
        assert await letters.fates([f"{events}.dlq/0/1"]) == {}


async def test_what_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so; the next call is as good as ever."""
    async with of_nobody(b"x") as letters:
        with monkeypatch.context() as patch:
            patch.setattr(letters_module, "READING", 0.0)
            patch.setattr(letters_module, "REPLAYING", 0.0)
            with pytest.raises(Unavailable, match="read dead letters"):
                await letters.page(letters.topics, before=None, limit=5)
            with pytest.raises(Unavailable, match="read dead letters"):
                await letters.fates_of(letters.topics[1])
        page, _ = await letters.page(letters.topics, before=None, limit=5)
        assert len(page) == 1


async def test_a_broker_that_is_away_is_said_within_the_time() -> None:
    """To list and to replay."""
    nobody = Access(bootstrap_servers="127.0.0.1:1")
    bus = KafkaBus(nobody, Topics(), group="nobody", clock=WallClock(), rng=Random(1))
    async with asyncio.timeout(20):
        with pytest.raises(Unavailable):
            await bus.dead_letters.page(["queue-events"], before=None, limit=5)
        with pytest.raises(Unavailable):
            await bus.dead_letters.fates(["queue-events.dlq/0/0"])
        with pytest.raises(Unavailable):
            await anext(bus.dead_letters.replay(["queue-events.dlq/0/0"], by="ada@lab"))
    await bus.close()
