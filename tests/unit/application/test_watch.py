"""The watch contract (api.md), sentence by sentence, in virtual time."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from queue_manager.server.application.topic import FRESH, RING, Frame, FrameKind
from queue_manager.server.application.watch import Watch, WatchHub
from queue_manager.server.domain.errors import LimitExceeded, NotFound, RevisionInFuture, ShuttingDown, Unavailable
from queue_manager.server.domain.model import JobState, QueueState
from tests.unit.application import Parts, Q

pytestmark = pytest.mark.virtual_time

SNAPSHOT, UPDATE, RESYNC = FrameKind.SNAPSHOT, FrameKind.UPDATE, FrameKind.RESYNC
HEARTBEAT, END = FrameKind.HEARTBEAT, FrameKind.END
RUNNING, FINISHED = QueueState.RUNNING, QueueState.FINISHED


class Watched(Parts):
    """A hub over records."""

    def __init__(self, *, exclusive: bool = True, keep: int = 512, max_watchers: int = 100) -> None:
        super().__init__(exclusive=exclusive, keep=keep)
        self.hub = WatchHub(
            self.records,
            self.store,
            encode_event=self.encode_event,
            instruments=self.counters,
            heartbeat=15.0,
            max_watchers=max_watchers,
        )

    def watch(self, after: int | None = None, *, heartbeat: float | None = None) -> Reader:
        """A watcher of the queue."""
        return Reader(self.hub.watch(Q, after_revision=after, heartbeat=heartbeat))

    def nothing_is_left(self) -> bool:
        """No topic and no watcher is remembered."""
        return not self.hub._topics and not self.hub._watchers and not self.counters.counts["watchers"]


class Reader:
    """Reads a stream, and checks that it has no gap."""

    def __init__(self, stream: Watch) -> None:
        self.stream = stream
        self.seen: int | None = None

    async def next(self) -> Frame:
        """The next frame."""
        frame = await anext(self.stream)
        if self.seen is not None:
            assert self.seen + frame.merged == frame.revision, f"a gap before {frame}"
        self.seen = frame.revision
        return frame

    async def take(self, count: int) -> list[tuple[FrameKind, int, int]]:
        """So many frames: kind, revision, merged."""
        frames = [await self.next() for _ in range(count)]
        return [(frame.kind, frame.revision, frame.merged) for frame in frames]

    async def close(self) -> None:
        """Go away."""
        await self.stream.aclose()


async def reading(reader: Reader, into: list[Frame]) -> None:
    """Read until the end."""
    into += [frame async for frame in reader.stream]


# --- 1. The first frame -----------------------------------------------------------------------------------------------


async def test_the_first_frame_is_a_snapshot_that_stands_for_all_revisions_so_far() -> None:
    """The whole queue at its revision."""
    parts = Watched()
    await parts.begin()
    await parts.alter(state=RUNNING)
    reader = parts.watch()
    frame = await reader.next()
    assert frame == Frame(SNAPSHOT, 2, 2, b"2 RUNNING 0")
    await reader.close()


async def test_after_a_revision_the_stream_begins_with_the_updates_after_it_from_history() -> None:
    """Each state change by itself, with the event that made it; progress is merged into the next frame."""
    parts = Watched()
    await parts.begin()
    await parts.alter(job=JobState.LAUNCHING)  # 2
    await parts.alter(state=RUNNING)  # 3
    await parts.progress()  # 4, not kept
    await parts.progress()  # 5, not kept
    await parts.alter(job=JobState.RUNNING)  # 6
    reader = parts.watch(after=1)
    reader.seen = 1
    frames = [await reader.next() for _ in range(3)]
    assert [(f.kind, f.revision, f.merged) for f in frames] == [(UPDATE, 2, 1), (UPDATE, 3, 1), (UPDATE, 6, 3)]
    assert [f.event for f in frames] == [
        b"event 2 JOB_STATE_CHANGED",
        b"event 3 QUEUE_STATE_CHANGED",
        b"event 6 JOB_STATE_CHANGED",
    ]
    assert [f.queue for f in frames] == [b"2 PENDING 0", b"3 RUNNING 0", b"6 RUNNING 2"]
    await reader.close()


async def test_after_revision_0_the_stream_begins_with_the_first_revision() -> None:
    """Nothing was seen yet: history from its beginning, no snapshot."""
    parts = Watched()
    await parts.begin()
    await parts.alter(state=RUNNING)
    reader = parts.watch(after=0)
    reader.seen = 0
    assert await reader.take(2) == [(UPDATE, 1, 1), (UPDATE, 2, 1)]
    await reader.close()


async def test_after_the_newest_revision_the_stream_begins_with_the_next() -> None:
    """Nothing was missed."""
    parts = Watched()
    await parts.begin()
    reader = parts.watch(after=1)
    reader.seen = 1
    first = asyncio.create_task(reader.next())
    await asyncio.sleep(1)
    await parts.alter(state=RUNNING)
    assert (await first).revision == 2
    await reader.close()


async def test_resuming_beside_another_watcher_misses_no_update_either() -> None:
    """What it is sent does not depend on who else watches: one UPDATE per kept revision, in order."""
    parts = Watched()
    await parts.begin()
    other = parts.watch()
    await other.next()
    await parts.alter(job=JobState.LAUNCHING)  # 2
    await parts.alter(state=RUNNING)  # 3
    await parts.alter(job=JobState.RUNNING)  # 4
    await asyncio.sleep(1)
    reader = parts.watch(after=1)
    reader.seen = 1
    assert await reader.take(3) == [(UPDATE, 2, 1), (UPDATE, 3, 1), (UPDATE, 4, 1)]
    await reader.close()
    await other.close()


async def test_resuming_at_once_is_served_from_the_ring() -> None:
    """A reader that reconnects gets what it missed without a look into the store."""
    parts = Watched()
    await parts.begin()
    other = parts.watch()
    await other.next()
    for _ in range(5):
        await parts.progress()
    reader = parts.watch(after=2)
    reader.seen = 2
    assert await reader.take(4) == [(UPDATE, revision, 1) for revision in (3, 4, 5, 6)]
    assert parts.store.calls["history"] == 0
    await reader.close()
    await other.close()


async def test_where_history_no_longer_reaches_back_the_stream_begins_with_a_resync() -> None:
    """A snapshot that says so, and stands for all that was missed; then it goes on with updates."""
    parts = Watched(keep=4)
    await parts.begin()
    for number in range(20):
        await parts.alter(job=JobState.LAUNCHING if number % 2 else JobState.STARTING, published=True)
    reader = parts.watch(after=2)
    reader.seen = 2
    assert await reader.next() == Frame(RESYNC, 21, 19, b"21 PENDING 0")
    await parts.alter(state=RUNNING)
    assert await reader.take(1) == [(UPDATE, 22, 1)]
    await reader.close()


async def test_a_revision_in_the_future_and_an_unknown_queue_are_refused() -> None:
    """OUT_OF_RANGE and NOT_FOUND, and nothing is left behind."""
    parts = Watched()
    with pytest.raises(NotFound):
        await parts.watch().next()
    await parts.begin()
    with pytest.raises(RevisionInFuture):
        await parts.watch(after=2).next()
    assert parts.nothing_is_left()


# --- 2. One update per revision ---------------------------------------------------------------------------------------


async def test_one_update_per_revision_in_order_none_twice() -> None:
    """With the queue after the change, and the event that changed it; also progress, for those that keep up."""
    parts = Watched()
    await parts.begin()
    frames: list[Frame] = []
    reader = asyncio.create_task(reading(parts.watch(), frames))
    await asyncio.sleep(1)
    await parts.alter(state=RUNNING)
    for _ in range(20):
        await parts.progress()  # a burst within one turn
    await parts.alter(state=FINISHED)
    await reader
    assert [f.revision for f in frames if f.kind is UPDATE] == list(range(2, 24))
    assert all(f.merged == 1 for f in frames if f.kind is UPDATE)
    assert [f.event.split()[1] for f in frames if f.kind is UPDATE] == [str(r).encode() for r in range(2, 24)]
    assert [f.queue.split()[0] for f in frames if f.kind is UPDATE] == [str(r).encode() for r in range(2, 24)]


async def test_every_update_has_an_event_also_where_only_progress_was_missed() -> None:
    """A resumed stream merges progress into the next frame it sends; an UPDATE carries the newest event."""
    parts = Watched()
    await parts.begin()
    await parts.alter(state=RUNNING)
    await parts.progress()
    await parts.progress()
    reader = parts.watch(after=2)
    reader.seen = 2
    first = asyncio.create_task(reader.next())
    await asyncio.sleep(1)
    await parts.alter(job=JobState.RUNNING)
    frame = await first
    assert frame.kind is UPDATE
    assert frame.event.split()[:2] == [b"event", str(frame.revision).encode()]
    await reader.close()


async def test_revisions_that_another_replica_made_come_as_one_update() -> None:
    """They are seen together, and the frame says how many it stands for."""
    parts = Watched(exclusive=False)
    await parts.begin()
    reader = parts.watch()
    await reader.next()
    other = parts.another()
    for _ in range(3):
        await other.change(Q, lambda q: replace(q, status=replace(q.status, message=q.status.message + ".")))
    await parts.records.get(Q)
    assert await reader.take(1) == [(UPDATE, 4, 3)]
    await parts.alter(state=RUNNING)
    assert await reader.take(1) == [(UPDATE, 5, 1)]
    await reader.close()


# --- 3. Slow readers --------------------------------------------------------------------------------------------------


async def test_a_slow_reader_gets_one_frame_for_all_it_missed() -> None:
    """The newest queue and event; nothing is dropped silently."""
    parts = Watched()
    await parts.begin()
    reader = parts.watch()
    await reader.next()
    await parts.alter(state=RUNNING)
    for _ in range(9):
        await parts.progress()
    await asyncio.sleep(FRESH * 2)
    assert await reader.next() == Frame(UPDATE, 11, 10, b"11 RUNNING 9", b"event 11 PROGRESS")
    await reader.close()


async def test_a_reader_that_stalls_costs_no_memory() -> None:
    """Ten thousand revisions later there is a short ring, and one frame for it."""
    parts = Watched()
    await parts.begin()
    reader = parts.watch()
    await reader.next()
    for _ in range(10_000):
        await parts.progress()
    assert len(parts.hub._topics[Q].ring) == RING
    assert await reader.take(1) == [(UPDATE, 10_001, 10_000)]
    await reader.close()


async def test_a_resumed_reader_that_stalls_costs_no_memory() -> None:
    """What it has yet to read is made when it reads it, not all at once."""
    parts = Watched()
    await parts.begin()
    for number in range(300):
        await parts.alter(job=JobState.STARTING if number % 2 else JobState.LAUNCHING)
    reader = parts.watch(after=1)
    assert (await reader.next()).revision == 2
    assert parts.queues_encoded <= 2
    await reader.close()


async def test_a_fast_and_a_slow_reader_account_for_the_same_revisions() -> None:
    """Whatever their pace, `revisions_merged` adds up."""
    parts = Watched()
    await parts.begin()
    paces = (0.0, 0.01, 0.1, 1.0)
    totals: dict[float, tuple[int, int]] = {}

    async def read(pace: float) -> None:
        total = last = frames = 0
        async for frame in parts.hub.watch(Q):
            total, last, frames = total + frame.merged, frame.revision, frames + 1
            assert total == last
            await asyncio.sleep(pace)
        totals[pace] = (last, frames)

    readers = [asyncio.create_task(read(pace)) for pace in paces]
    for _ in range(200):
        await asyncio.sleep(0.02)
        await parts.progress()
    await parts.alter(state=FINISHED)
    await asyncio.gather(*readers)
    assert {last for last, _ in totals.values()} == {202}
    assert [totals[pace][1] for pace in paces] == sorted((frames for _, frames in totals.values()), reverse=True)
    assert totals[0.0][1] == 203  # SNAPSHOT, 201 UPDATEs, END


# --- 4. Heartbeats ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "interval"), [(None, 15.0), (2.5, 2.5)])
async def test_a_heartbeat_fills_every_interval_of_silence(asked: float | None, interval: float) -> None:
    """With the current revision, and no queue; an update begins the interval anew."""
    parts = Watched()
    await parts.begin()
    loop = asyncio.get_running_loop()
    reader = parts.watch(heartbeat=asked)
    await reader.next()
    began = loop.time()
    for count in (1, 2, 3):
        assert await reader.next() == Frame(HEARTBEAT, 1, 0)
        assert loop.time() == pytest.approx(began + count * interval)
    change = asyncio.create_task(reader.next())
    await asyncio.sleep(interval / 2)
    await parts.alter(state=RUNNING)
    assert (await change).kind is UPDATE
    began = loop.time()
    assert await reader.next() == Frame(HEARTBEAT, 2, 0)
    assert loop.time() == pytest.approx(began + interval)
    await reader.close()


# --- 5. The end -------------------------------------------------------------------------------------------------------


async def test_the_stream_ends_with_the_final_queue() -> None:
    """The last UPDATE, then END, then it closes; nothing is left of it."""
    parts = Watched()
    await parts.begin()
    reader = parts.watch()
    await reader.next()
    await parts.alter(state=FINISHED)
    frames = [frame async for frame in reader.stream]
    assert frames == [
        Frame(UPDATE, 2, 1, b"2 FINISHED 0", b"event 2 QUEUE_STATE_CHANGED"),
        Frame(END, 2, 0, b"2 FINISHED 0"),
    ]
    assert parts.nothing_is_left()


@pytest.mark.parametrize(
    ("after", "frames"),
    [(None, [(SNAPSHOT, 2, 2), (END, 2, 0)]), (1, [(UPDATE, 2, 1), (END, 2, 0)]), (2, [(END, 2, 0)])],
)
async def test_a_queue_that_has_ended_ends_its_stream_at_once(
    after: int | None, frames: list[tuple[FrameKind, int, int]]
) -> None:
    """After what the reader has not seen."""
    parts = Watched()
    await parts.begin()
    await parts.alter(state=FINISHED)
    assert [(frame.kind, frame.revision, frame.merged) async for frame in parts.watch(after).stream] == frames
    assert parts.nothing_is_left()


# --- 6. Shutdown ------------------------------------------------------------------------------------------------------


async def test_on_shutdown_streams_end_after_their_last_frame() -> None:
    """What was not handed over yet comes first; then the reader is told to go on elsewhere."""
    parts = Watched()
    await parts.begin()
    idle, behind = parts.watch(), parts.watch()
    await idle.next()
    await behind.next()
    waiting = asyncio.create_task(idle.next())
    await asyncio.sleep(0)
    await parts.alter(state=RUNNING)
    parts.hub.close()
    assert (await waiting).revision == 2
    assert (await behind.next()).revision == 2
    for reader in (idle, behind):
        with pytest.raises(ShuttingDown):
            await reader.next()
    with pytest.raises(ShuttingDown):
        await parts.watch().next()
    assert parts.nothing_is_left()


async def test_a_silent_stream_ends_at_once_on_shutdown() -> None:
    """It does not wait for its heartbeat."""
    parts = Watched()
    await parts.begin()
    reader = parts.watch()
    await reader.next()
    loop = asyncio.get_running_loop()
    waiting = asyncio.create_task(reader.next())
    await asyncio.sleep(1)
    parts.hub.close()
    with pytest.raises(ShuttingDown):
        await waiting
    assert loop.time() == pytest.approx(1)


# --- Bounds and sharing -----------------------------------------------------------------------------------------------


async def test_too_many_watchers_are_refused() -> None:
    """And one that goes makes room."""
    parts = Watched(max_watchers=2)
    await parts.begin()
    first, second = parts.watch(), parts.watch()
    await first.next()
    await second.next()
    with pytest.raises(LimitExceeded):
        await parts.watch().next()
    await first.close()  # it goes away between two frames
    third = parts.watch()
    await third.next()
    await second.close()
    await third.close()
    assert parts.nothing_is_left()


async def test_watchers_that_come_at_once_do_not_slip_past_the_limit() -> None:
    """The limit holds while the store is being read, too."""
    parts = Watched(exclusive=False, max_watchers=2)
    await parts.begin()
    parts.store.slow = 0.1
    readers = [parts.watch() for _ in range(5)]
    results = await asyncio.gather(*(reader.next() for reader in readers), return_exceptions=True)
    assert sum(isinstance(result, LimitExceeded) for result in results) == 3
    for reader in readers:
        await reader.close()


async def test_a_change_is_encoded_once_however_many_watch() -> None:
    """The bytes are shared; nothing is encoded for nobody."""
    parts = Watched()
    await parts.begin()
    assert (parts.queues_encoded, parts.events_encoded) == (0, 0)
    read: list[list[Frame]] = [[] for _ in range(50)]
    readers = [asyncio.create_task(reading(parts.watch(), into)) for into in read]
    await asyncio.sleep(1)
    assert parts.queues_encoded == 1
    for _ in range(10):
        await parts.progress()
        await asyncio.sleep(0.01)
    await parts.alter(state=FINISHED)
    await asyncio.gather(*readers)
    assert (parts.queues_encoded, parts.events_encoded) == (12, 11)
    assert all(frames == read[0] for frames in read)
    assert all(a.queue is b.queue for frames in read for a, b in zip(frames, read[0], strict=True))


@pytest.mark.parametrize("when", ["waiting", "reading history", "opening"])
async def test_a_watcher_that_is_cancelled_leaves_nothing_behind(when: str) -> None:
    """Wherever it is."""
    parts = Watched(exclusive=when != "opening")
    await parts.begin()
    await parts.alter(state=RUNNING)
    parts.store.slow = 10.0
    reader = parts.watch(after=1 if when == "reading history" else None)
    if when == "waiting":
        await reader.next()
    task = asyncio.create_task(reader.next())
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert parts.nothing_is_left()


async def test_history_that_cannot_be_read_ends_the_stream_as_unavailable() -> None:
    """The client resumes from the same revision."""
    parts = Watched()
    await parts.begin()
    await parts.alter(state=RUNNING)
    parts.store.fail["history"] = 1
    with pytest.raises(Unavailable):
        await parts.watch(after=1).next()
    assert parts.nothing_is_left()
