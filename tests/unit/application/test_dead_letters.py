"""Replaying dead letters: each once, whoever asks how often, and none lost where sending fails."""

from __future__ import annotations

import asyncio

import pytest

from queue_manager.server.application.dead_letters import DeadLetterService, Replayed, ReplayRequest
from queue_manager.server.application.ports import Fate
from queue_manager.server.domain.errors import InvalidRequest, NoBroker, ShuttingDown, Unavailable
from tests.support.dead_letters import CONTROL, EVENTS, MemoryLetters

from . import Bus

pytestmark = pytest.mark.virtual_time


class Post:
    """A service with letters."""

    def __init__(self) -> None:
        self.letters = MemoryLetters()
        bus = Bus()
        bus.dead_letters = self.letters
        self.service = DeadLetterService(bus)

    def bury(self, count: int, topic: str = EVENTS) -> list[str]:
        """So many more that cannot be read; their ids."""
        return [self.letters.bury(topic, b"%d" % number) for number in range(count)]

    async def replay(self, *ids: str, topic: str = "", validate_only: bool = False, force: bool = False) -> Replayed:
        """Replay these, or all of a topic."""
        request = ReplayRequest(ids=ids, topic=topic, validate_only=validate_only, force=force)
        return await self.service.replay(request, by="ada@lab")

    @property
    def sent(self) -> list[bytes]:
        """The values that were sent."""
        return [sent.value for sent in self.letters.sent]


@pytest.fixture
def post() -> Post:
    """It has no letters yet."""
    return Post()


async def test_what_was_replayed_is_passed_over_by_the_same_call(post: Post) -> None:
    """And sent again only by force."""
    ids = post.bury(3)
    assert await post.replay(*ids[:2]) == Replayed(ids[:2], [], [])
    assert await post.replay(*ids) == Replayed(ids[2:], ids[:2], [])
    assert await post.replay(*ids) == Replayed([], ids, [])
    assert post.sent == [b"0", b"1", b"2"]
    assert await post.replay(ids[1], force=True) == Replayed([ids[1]], [], [])
    assert post.sent == [b"0", b"1", b"2", b"1"]


async def test_an_id_that_is_named_twice_is_sent_once(post: Post) -> None:
    """It is one letter."""
    [only] = post.bury(1)
    assert await post.replay(only, only) == Replayed([only], [], [])
    assert post.sent == [b"0"]


async def test_all_are_those_of_a_topic(post: Post) -> None:
    """Less what was replayed."""
    ids = post.bury(3)
    post.bury(1, CONTROL)
    await post.replay(ids[0])
    assert await post.replay(topic=EVENTS) == Replayed(ids[1:], [ids[0]], [])
    assert await post.replay(topic=EVENTS, force=True) == Replayed(ids, [], [])
    assert {sent.topic for sent in post.letters.sent} == {EVENTS}


async def test_what_was_cut_is_never_sent(post: Post) -> None:
    """Not even by force: its end is gone."""
    [whole] = post.bury(1)
    cut = post.letters.bury(EVENTS, b"x" * 2**20)
    assert await post.replay(cut) == Replayed([], [], [cut])
    assert await post.replay(topic=EVENTS, force=True) == Replayed([whole], [], [cut])
    assert post.sent == [b"0"]


async def test_validating_sends_none(post: Post) -> None:
    """But says which would be, and marks none."""
    ids = post.bury(2)
    await post.replay(ids[0])
    for _ in range(2):
        assert await post.replay(*ids, validate_only=True) == Replayed(ids[1:], ids[:1], [])
    assert await post.replay(topic=EVENTS, validate_only=True, force=True) == Replayed(ids, [], [])
    assert post.sent == [b"0"]


async def test_ids_that_there_are_not_are_all_named_and_none_is_sent(post: Post) -> None:
    """By their fields, each with a remedy."""
    [known] = post.bury(1)
    with pytest.raises(InvalidRequest) as refused:
        await post.replay("nothing", known, f"{EVENTS}.dlq/0/7")
    assert [violation.field for violation in refused.value.violations] == ["ids[0]", "ids[2]"]
    assert all("ListDeadLetters" in violation.description for violation in refused.value.violations)
    assert post.sent == []


async def test_a_topic_that_has_none_is_refused(post: Post) -> None:
    """With those that may have."""
    for asking in (post.replay(topic="wf-a-candles"), post.service.page("wf-a-candles", before=None, limit=5)):
        with pytest.raises(InvalidRequest) as refused:
            await asking
        [violation] = refused.value.violations
        assert violation.field == "topic"
        assert f"{CONTROL} or {EVENTS}" in violation.description


async def test_a_send_that_fails_loses_none_and_a_repetition_sends_only_the_rest(post: Post) -> None:
    """Steps are two letters here."""
    ids = post.bury(5)
    post.letters.room = 3
    with pytest.raises(Unavailable):
        await post.replay(*ids)
    assert post.sent == [b"0", b"1"]
    post.letters.room = None
    assert await post.replay(*ids) == Replayed(ids[2:], ids[:2], [])
    assert post.sent == [b"0", b"1", b"2", b"3", b"4"]


async def test_calls_at_once_send_each_letter_once(post: Post) -> None:
    """One waits for the other, and then finds what it has marked."""
    ids = post.bury(5)
    both = await asyncio.gather(post.replay(*ids), post.replay(topic=EVENTS))
    assert both == [Replayed(ids, [], []), Replayed([], ids, [])]
    assert post.sent == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_caller_that_goes_away_stops_no_replay(post: Post) -> None:
    """What was begun is done."""
    ids = post.bury(5)
    post.letters.may_step.clear()
    caller = asyncio.create_task(post.replay(*ids))
    await asyncio.sleep(0)
    caller.cancel()
    post.letters.may_step.set()
    assert await post.replay(*ids) == Replayed([], ids, [])
    assert caller.cancelled()
    assert len(post.sent) == 5


async def ended_between_two_steps(post: Post) -> asyncio.Task[None]:
    """The server's end, which comes while a replay waits for its next step."""
    await post.letters.stepped.wait()
    draining = asyncio.create_task(post.service.drain())
    await asyncio.sleep(0)
    post.letters.may_step.set()
    return draining


async def test_a_server_that_ends_stops_between_two_steps(post: Post) -> None:
    """Where all that was sent is marked; the caller is told to call again."""
    ids = post.bury(5)
    post.letters.one_by_one = True
    caller = asyncio.create_task(post.replay(*ids))
    draining = await ended_between_two_steps(post)
    with pytest.raises(ShuttingDown, match="4 of 5"):
        await caller
    await draining
    assert await post.letters.fates(ids) == dict(zip(ids, [*[Fate.REPLAYED] * 4, Fate.WAITING], strict=True))


async def test_replays_that_have_not_begun_when_the_server_ends_send_nothing(post: Post) -> None:
    """Those that wait for another's end, too: a server would be long in ending."""
    ids = post.bury(8)
    post.letters.one_by_one = True
    first, second = (asyncio.create_task(post.replay(*each)) for each in (ids[:5], ids[5:]))
    draining = await ended_between_two_steps(post)
    with pytest.raises(ShuttingDown, match="4 of 5"):
        await first
    with pytest.raises(ShuttingDown, match="no dead letter was replayed"):
        await second
    await draining
    assert len(post.sent) == 4


async def test_without_a_broker_there_are_none() -> None:
    """What to do is said."""
    service = DeadLetterService(Bus())
    for asking in (service.page("", before=None, limit=5), service.replay(ReplayRequest(ids=["x"]), by="ada")):
        with pytest.raises(NoBroker, match=r"worker's output.*KAFKA_BOOTSTRAP_SERVERS"):
            await asking


async def test_pages_go_on_where_the_one_before_ended(post: Post) -> None:
    """Of one topic or all."""
    ids = post.bury(3)
    post.bury(1, CONTROL)
    first, cursor = await post.service.page(EVENTS, before=None, limit=2)
    second, end = await post.service.page(EVENTS, before=cursor, limit=2)
    assert [letter.id for letter in [*first, *second]] == ids[::-1]
    assert end is None
    everything, _ = await post.service.page("", before=None, limit=10)
    assert len(everything) == 4
