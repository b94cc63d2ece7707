"""Many who watch one queue over one stream: each sees every revision once, or is told how many a frame stands for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random

import grpc
import pytest

from queue_manager.gateway import hub as module
from queue_manager.gateway.contract import Contract
from queue_manager.gateway.encode import Encoder
from queue_manager.gateway.endpoints import Endpoint, Endpoints
from queue_manager.gateway.frames import Text
from queue_manager.gateway.metrics import Metrics
from queue_manager.gateway.status import Failed
from queue_manager.gateway.upstream import Metadata
from queue_manager.gateway.watching import ACCEPTED, Watches
from queue_manager.v1 import service_pb2
from tests.unit.gateway.played_server import PlayedServer, error

pytestmark = pytest.mark.virtual_time

CONTRACT = Contract.load()
ENDPOINT: Endpoint = Endpoints(CONTRACT, Encoder(CONTRACT.pool)).find("GET", "/v1/queues/q:watch")[0]


@dataclass
class Reader:
    """One who watches, and checks what it gets."""

    after: int | None = None
    pause: float = 0.0
    """Seconds that it takes for each frame."""
    frames: list[tuple[str, int, int, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed: Failed | None = None
    accepted: bool = False

    @property
    def revision(self) -> int:
        """Where it is."""
        return self.frames[-1][1] if self.frames else self.after or 0

    async def read(self, watches: Watches, metadata: Metadata = (), heartbeat: int = 0) -> None:
        """Until the end."""
        request = ENDPOINT.method.request(queue_id="q")
        if self.after is not None:
            request.after_revision = self.after  # type: ignore[attr-defined]
        if heartbeat:
            request.heartbeat_interval.seconds = heartbeat  # type: ignore[attr-defined]
        before = self.after or 0
        try:
            async with aclosing(watches.follow(ENDPOINT.method, ENDPOINT.writer, request, metadata)) as items:
                assert await anext(items) == ACCEPTED
                self.accepted = True
                async for item in items:
                    if isinstance(item, str):
                        self.notes.append(item)
                        continue
                    before = self._check(item, before)
                    if self.pause:
                        await asyncio.sleep(self.pause)
        except Failed as failed:
            self.failed = failed

    def _check(self, item: Text, before: int) -> int:
        told = json.loads(item.json)
        kind, revision, merged = item.kind, int(told["revision"]), int(told["revisions_merged"])
        assert item.revision == revision
        assert before + merged == revision, f"{kind}: {before} + {merged} is not {revision}"
        if kind in {"UPDATE", "SNAPSHOT", "RESYNC"}:
            assert merged > 0
            assert told["queue"]["message"] == f"state {revision}"
            assert ("event" in told) == (kind == "UPDATE"), f"{kind} at {revision}"
        self.frames.append((kind, revision, merged, told.get("queue", {}).get("message", "")))
        return revision


@dataclass
class World:
    """A gateway's watches in front of a played server."""

    server: PlayedServer
    watches: Watches
    metrics: Metrics
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def begin(self, *readers: Reader, metadata: Metadata = (), heartbeat: int = 0) -> None:
        """Have them read from now on."""
        for reader in readers:
            self.tasks.append(asyncio.create_task(reader.read(self.watches, metadata, heartbeat)))
        await asyncio.sleep(0.01)

    async def finish(self) -> None:
        """Wait until all have read to the end."""
        async with asyncio.timeout(3600):
            await asyncio.gather(*self.tasks)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """One server, one queue."""
    server, metrics = PlayedServer(Random(1)), Metrics()
    watches = Watches(server, metrics, Random(2))  # type: ignore[arg-type]
    found = World(server, watches, metrics)
    yield found
    for task in found.tasks:
        task.cancel()
    await asyncio.gather(*found.tasks, return_exceptions=True)
    await watches.close()


async def test_a_thousand_share_one_stream(world: World) -> None:
    """And it is given up with the last of them."""
    readers = [Reader() for _ in range(1000)]
    await world.begin(*readers)
    assert len(world.server.open) == len(world.server.calls) == 1
    for _ in range(20):
        world.server.change()
        await asyncio.sleep(0.01)
    world.server.end()
    await world.finish()
    assert {tuple(reader.frames) for reader in readers} == {tuple(readers[0].frames)}
    assert readers[0].frames[0][:2] == ("SNAPSHOT", 1)
    assert readers[0].frames[-1][:2] == ("END", 21)
    assert len(world.server.calls) == 1
    assert not world.server.open


async def test_who_comes_later_begins_with_the_newest_state(world: World) -> None:
    """A SNAPSHOT stands for all revisions so far."""
    early, late = Reader(), Reader()
    await world.begin(early)
    world.server.change(by=5)
    await asyncio.sleep(0.01)
    await world.begin(late)
    assert late.frames == [("SNAPSHOT", 6, 6, "state 6")]
    assert len(world.server.calls) == 1


async def test_who_comes_back_goes_on_where_it_was(world: World) -> None:
    """From what is kept, without another stream; a revision that is the newest has nothing before the next."""
    await world.begin(Reader())
    for _ in range(10):
        world.server.change()
        await asyncio.sleep(0.01)
    back, current = Reader(after=7), Reader(after=11)
    await world.begin(back, current)
    assert [frame[1] for frame in back.frames] == [8, 9, 10, 11]
    assert current.frames == []
    world.server.change()
    world.server.end()
    await world.finish()
    assert [frame[:2] for frame in current.frames] == [("UPDATE", 12), ("END", 12)]
    assert len(world.server.calls) == 1


async def test_who_was_away_longer_is_led_in_by_a_stream_of_its_own(world: World) -> None:
    """Until it has what all have; then that is given up."""
    world.server.change(by=30)
    await world.begin(Reader())
    back = Reader(after=3)
    await world.begin(back)
    assert back.revision == 31
    assert back.frames[0][0] == "UPDATE"
    assert len(world.server.calls) == 2
    assert len(world.server.open) == 1
    world.server.change()
    world.server.end()
    await world.finish()
    assert [frame[:2] for frame in back.frames[-2:]] == [("UPDATE", 32), ("END", 32)]


async def test_where_history_no_longer_reaches(world: World) -> None:
    """The server's RESYNC is passed on."""
    world.server.change(by=30)
    world.server.forgotten = 20
    back = Reader(after=3)
    await world.begin(back)
    assert back.frames == [("RESYNC", 31, 28, "state 31")]


async def test_a_revision_that_is_not_yet(world: World) -> None:
    """The server has the last word, also while others watch."""
    ahead = Reader(after=99)
    await world.begin(Reader(), ahead)
    assert ahead.failed is not None
    assert ahead.failed.status.code == grpc.StatusCode.OUT_OF_RANGE.value[0]
    assert not ahead.frames


async def test_a_queue_that_has_ended(world: World) -> None:
    """Its state and the end; who had all of it gets the end alone."""
    world.server.change()
    world.server.end()
    new, knows = Reader(), Reader(after=2)
    await world.begin(new, knows)
    await world.finish()
    assert [frame[0] for frame in new.frames] == ["SNAPSHOT", "END"]
    assert [frame[0] for frame in knows.frames] == ["END"]


async def test_a_slow_reader_is_told_how_much_it_has_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no longer kept for it comes as one frame; the others do not wait."""
    monkeypatch.setattr(module, "KEPT", 4)
    slow, quick = Reader(pause=10.0), Reader()
    await world.begin(slow, quick)
    for _ in range(50):
        world.server.change()
        await asyncio.sleep(0.01)
    assert quick.revision == 51
    world.server.end()
    await world.finish()
    assert slow.frames[-1][:2] == ("END", 51)
    assert max(frame[2] for frame in slow.frames[1:]) > 4
    assert len(slow.frames) < 10


async def test_heartbeats_reach_all(world: World) -> None:
    """Each once, with the revision; who comes later waits for the next."""
    early, late = Reader(), Reader()
    await world.begin(early)
    world.server.beat()
    await asyncio.sleep(0.01)
    await world.begin(late)
    world.server.beat()
    await asyncio.sleep(0.01)
    assert [frame[:3] for frame in early.frames] == [("SNAPSHOT", 1, 1), ("HEARTBEAT", 1, 0), ("HEARTBEAT", 1, 0)]
    assert [frame[:3] for frame in late.frames] == [("SNAPSHOT", 1, 1), ("HEARTBEAT", 1, 0)]


async def test_a_server_that_restarts_is_not_seen(world: World) -> None:
    """The stream is resumed after the last revision; whoever watches is only told that it is away."""
    reader = Reader()
    await world.begin(reader)
    world.server.change()
    await asyncio.sleep(0.01)
    world.server.go(away=True)
    world.server.change(by=3)
    await asyncio.sleep(20.0)
    joined = Reader(after=1)
    await world.begin(joined)
    assert joined.revision == 2
    world.server.go(away=False)
    await asyncio.sleep(5.0)
    assert reader.notes[-1] == "the server is back"  # though there is nothing new
    world.server.change()
    world.server.end()
    await world.finish()
    for each in (reader, joined):
        assert each.failed is None
        assert each.frames[-1][:2] == ("END", 6)
    assert "away" in reader.notes[0]
    assert reader.notes.count("the server is back") == 1
    assert {call.after_revision for call, _ in world.server.calls[1:]} == {2}
    assert world.metrics._resumed._value.get() >= 3  # and no more than one in half a second or so
    assert len(world.server.calls) < 40


async def test_who_knows_more_than_the_others_is_let_in_at_once(world: World) -> None:
    """The server is back, and the hub has not tried again yet: it goes on from there with the others."""
    ahead = await ahead_of_the_hub(world)
    assert ahead.accepted
    assert len(world.server.open) == 1  # its own: the hub still waits
    await asyncio.sleep(5.0)
    assert len(world.server.open) == 1  # the hub's: nothing had to happen for that
    world.server.change()
    world.server.end()
    await world.finish()
    assert [frame[:2] for frame in ahead.frames] == [("UPDATE", 5), ("END", 5)]


async def test_who_knows_more_is_told_of_changes_before_the_others(world: World) -> None:
    """By a stream of its own, while the hub waits; nothing comes twice."""
    ahead = await ahead_of_the_hub(world)
    world.server.change()
    await asyncio.sleep(0.01)
    assert [frame[:2] for frame in ahead.frames] == [("UPDATE", 5)]
    await asyncio.sleep(5.0)
    world.server.end()
    await world.finish()
    assert [frame[:2] for frame in ahead.frames] == [("UPDATE", 5), ("END", 5)]


async def test_who_is_led_in_while_the_gateway_shuts_down(world: World) -> None:
    """Is told so at once, though its own stream goes on."""
    ahead = await ahead_of_the_hub(world)
    world.watches.end()
    await asyncio.sleep(0.01)
    assert ahead.failed is not None
    assert "shutting down" in str(ahead.failed)
    assert not world.server.open


async def test_who_knows_more_where_nobody_has_said_so(world: World) -> None:
    """A server that is slow to accept a stream: what the hub hears by then is enough."""
    ahead = await ahead_of_the_hub(world, odd="deaf")
    assert not ahead.accepted
    await asyncio.sleep(5.0)
    assert ahead.accepted
    world.server.end()
    await world.finish()
    assert [frame[:2] for frame in ahead.frames] == [("END", 4)]


async def test_a_stream_of_ones_own_that_ends_without_a_word(world: World) -> None:
    """The others' is gone on with, and no frame of it is taken for the word that was missing."""
    world.server.change(by=30)
    await world.begin(Reader())
    world.server.odd = "mute"
    back = Reader(after=3)
    await world.begin(back)
    assert back.frames == [("RESYNC", 31, 28, "state 31")]


async def ahead_of_the_hub(world: World, *, odd: str = "") -> Reader:
    """A reader that knows the three changes of a server which is back, while the hub waits for its next attempt."""
    await away_for_long(world)
    world.server.change(by=3)
    world.server.go(away=False)
    world.server.odd = odd
    ahead = Reader(after=4)
    await world.begin(ahead)
    return ahead


async def away_for_long(world: World) -> None:
    """The server has been away, so that the hub pauses for seconds between its attempts."""
    await world.begin(Reader())
    world.server.go(away=True)
    attempts = len(world.server.calls) + 6
    while len(world.server.calls) < attempts:  # noqa: ASYNC110 - virtual time
        await asyncio.sleep(0.01)


async def test_silence_is_filled(world: World) -> None:
    """Also while the server is away, however long: proxies end connections that are silent."""
    reader = Reader()
    await world.begin(reader)
    await asyncio.sleep(40.0)
    assert reader.notes == ["nothing new"] * 2
    world.server.go(away=True)
    await asyncio.sleep(100.0)
    assert len(reader.notes) >= 8
    assert all("away" in note and "played" not in note for note in reader.notes[2:])


async def test_a_server_that_is_away_from_the_start(world: World) -> None:
    """Is an answer: whoever begins is refused, and may try again."""
    world.server.go(away=True)
    reader = Reader()
    await world.begin(reader)
    assert reader.failed is not None
    assert reader.failed.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    world.server.go(away=False)
    again = Reader()
    await world.begin(again)
    assert again.frames[0][0] == "SNAPSHOT"


async def test_a_refusal_later_ends_the_watch(world: World) -> None:
    """The queue was deleted, say: that does not pass."""
    reader = Reader()
    await world.begin(reader)
    world.server.refuse(error(grpc.StatusCode.NOT_FOUND, "deleted"))
    await world.finish()
    assert reader.failed is not None
    assert reader.failed.status.code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_a_gateway_that_shuts_down_says_so(world: World) -> None:
    """All may go on elsewhere."""
    readers = [Reader(), Reader()]
    await world.begin(*readers)
    world.watches.end()
    await world.finish()
    assert all(reader.failed is not None and "shutting down" in str(reader.failed) for reader in readers)


async def test_who_may_see_other_things_does_not_share(world: World) -> None:
    """Credentials decide, and what is asked for; who asks does not."""
    await world.begin(Reader(), metadata=(("authorization", "a"), ("x-requested-by", "1")))
    await world.begin(Reader(), metadata=(("authorization", "a"), ("x-requested-by", "2")))
    assert len(world.server.calls) == 1
    await world.begin(Reader(), metadata=(("authorization", "b"),))
    assert len(world.server.calls) == 2
    await world.begin(Reader(), metadata=(("authorization", "b"),), heartbeat=5)
    assert len(world.server.calls) == 3


async def test_a_bug_in_a_hub_leaves_nobody_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an internal error, and another stream is opened next time."""
    monkeypatch.setattr(PlayedServer, "frame", lambda *_: b"\xff")
    reader = Reader()
    await world.begin(reader)
    assert reader.failed is not None
    assert reader.failed.status.code == grpc.StatusCode.INTERNAL.value[0]
    monkeypatch.undo()
    again = Reader()
    await world.begin(again)
    assert again.frames


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_no_revision_is_lost_or_doubled(
    world: World, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Readers come, go, come back, are slow; the server is cut, goes away, forgets: every reader checks every frame."""
    random = Random(seed)
    monkeypatch.setattr(module, "KEPT", random.choice([1, 2, 8, 64]))
    world.server.random = random
    readers: list[Reader] = []
    for _ in range(60):
        match random.randrange(10):
            case 0:
                world.server.go(away=random.random() < 0.5)
            case 1:
                world.server.away = False
            case 2:
                world.server.forgotten = random.randrange(world.server.forgotten, world.server.revision + 1)
            case 3 | 4:
                known = random.randrange(1, world.server.revision + 1)
                reader = Reader(after=random.choice([None, known]), pause=random.choice([0, 0, 0.5, 7.0]))
                readers.append(reader)
                await world.begin(reader)
            case 5 if world.tasks:
                task = world.tasks.pop(random.randrange(len(world.tasks)))
                if task.done():
                    task.result()
                task.cancel()
            case _:
                world.server.change(by=random.randrange(1, 5))
        await asyncio.sleep(random.choice([0, 0.001, 0.3]))
    world.server.go(away=False)
    await asyncio.sleep(10.0)
    readers.append(Reader())
    await world.begin(readers[-1])
    world.server.end()
    await world.finish()
    assert readers[-1].frames[-1][:2] == ("END", world.server.revision)
    ended = [reader for reader in readers if reader.frames and reader.frames[-1][0] == "END"]
    assert all(reader.revision == world.server.revision for reader in ended)
    assert all(reader.failed is None or not reader.frames for reader in readers)
    assert not world.server.open


def test_the_watch_is_known_by_its_fields() -> None:
    """No method is named anywhere."""
    assert ENDPOINT.resumes is not None
    assert ENDPOINT.resumes.name == "after_revision"
    assert ENDPOINT.method.name == "WatchQueue"
    assert set(ENDPOINT.writer.kinds.values()) >= {"SNAPSHOT", "UPDATE", "RESYNC", "HEARTBEAT", "END"}
    assert service_pb2.FRAME_KIND_END in ENDPOINT.writer.kinds
