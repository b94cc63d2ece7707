"""Which frame follows a revision, and how often anything is encoded, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from queue_manager.server.application.topic import FRAMES, FRESH, SHARED, Topic
from queue_manager.server.domain.history import Event
from queue_manager.server.domain.model import Queue
from tests.support.stored_queues import new_queue

pytestmark = pytest.mark.virtual_time


class Watched:
    """A topic, and what was encoded for it."""

    def __init__(self) -> None:
        """At revision 1."""
        queue, _ = new_queue("wf-1")
        self.queue = queue
        self.encoded: list[int] = []
        self.topic = Topic(queue, encode_queue=self.encode, encode_event=lambda event: b"event")

    def encode(self, queue: Queue) -> bytes:
        """Stands for the message."""
        self.encoded.append(queue.revision)
        return b"queue %d" % queue.revision

    def change(self, count: int = 1) -> None:
        """So many revisions more."""
        for _ in range(count):
            self.queue = replace(self.queue, revision=self.queue.revision + 1)
            state = self.queue.status.state
            event = Event(revision=self.queue.revision, time=0.0, type="PROGRESS", before=state, after=state)  # type: ignore[arg-type]
            self.topic.changed(self.queue, event)

    def read(self, seen: int) -> tuple[int, int]:
        """What a watcher gets who has seen this revision: revision, merged."""
        update = self.topic.after(seen)
        frame = self.topic.frame(update, update.revision - seen)
        assert seen + frame.merged == frame.revision
        return frame.revision, frame.merged


async def test_nothing_is_encoded_until_somebody_is_to_have_it() -> None:
    """A thousand changes that nobody comes for in time cost one frame."""
    watched = Watched()
    watched.change(1000)
    assert watched.encoded == []
    await asyncio.sleep(FRESH * 2)
    assert watched.read(1) == (1001, 1000)
    assert watched.encoded == [1001]


async def test_an_update_goes_out_by_itself_while_it_is_fresh() -> None:
    """Then with all that came after it."""
    watched = Watched()
    watched.change(3)
    assert watched.read(1) == (2, 1)
    await asyncio.sleep(FRESH * 2)
    assert watched.read(1) == (4, 3)


async def test_the_newest_update_goes_out_by_itself_however_old_it_is() -> None:
    """There is nothing to merge it with."""
    watched = Watched()
    watched.change()
    await asyncio.sleep(60)
    assert watched.read(1) == (2, 1)


async def test_who_is_behind_shares_what_was_encoded_just_before() -> None:
    """Else every change would be encoded, because each is the newest one for somebody."""
    watched = Watched()
    watched.change(100)
    assert watched.read(1) == (101, 100)
    watched.change()
    assert watched.read(5) == (101, 96), "made and encoded a moment ago"
    assert watched.encoded == [101], "and not encoded again"


async def test_what_was_encoded_longer_ago_is_not_shared_any_more() -> None:
    """A watcher that is behind gets the newest state."""
    watched = Watched()
    watched.change(100)
    watched.read(1)
    await asyncio.sleep(SHARED * 2)
    watched.change()
    assert watched.read(5) == (102, 97)


async def test_who_has_seen_the_shared_one_gets_the_newest() -> None:
    """Sharing holds nobody up."""
    watched = Watched()
    watched.change(100)
    watched.read(1)
    watched.change(40)  # more than the ring has
    assert watched.read(101) == (141, 40)


async def test_watchers_who_have_missed_as_much_get_the_same_frame() -> None:
    """Not only the same bytes: whatever is made of it is made once."""
    watched = Watched()
    watched.change(10)
    update = watched.topic.newest
    assert watched.topic.frame(update, 4) is watched.topic.frame(update, 4)
    assert watched.topic.frame(update, 4).queue is watched.topic.frame(update, 7).queue
    assert watched.encoded == [11]


async def test_once_a_newer_update_is_encoded_an_older_one_keeps_its_own_frame_alone() -> None:
    """The merged ones are for who comes now; kept for every update of the ring they would add up."""
    watched = Watched()
    watched.change(40)
    older = watched.topic.newest
    for merged in (1, 2, 3):
        watched.topic.frame(older, merged)
    watched.change()
    watched.topic.frame(watched.topic.newest, 2)
    assert list(older.frames) == [1]


async def test_the_frames_that_are_kept_of_an_update_are_bounded() -> None:
    """A thousand slow watchers, each behind by another number of revisions."""
    watched = Watched()
    watched.change(1000)
    update = watched.topic.newest
    for merged in range(1, 1001):
        assert watched.topic.frame(update, merged).merged == merged
    assert len(update.frames) == FRAMES
    assert watched.encoded == [1001]
