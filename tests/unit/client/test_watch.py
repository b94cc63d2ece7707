"""The watch: every revision exactly once, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2 as details

from queue_manager.client import (
    AsyncClient,
    Backoff,
    InternalError,
    InvalidRequest,
    NotFound,
    OutOfRange,
    QueueManagerError,
    Unavailable,
)
from queue_manager.client.errors import REASON_STREAM_CUT, REASON_UNREACHABLE, REASON_WATCH_BROKEN
from queue_manager.client.watch import Stream, WatchOptions
from queue_manager.client.watch import watch_frames as watch
from queue_manager.v1.queue_pb2 import EventType, Queue, QueueState
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse

from .conftest import Pauses, assert_accounted, until
from .fake_server import Failure, FakeServer, Journal, Plan, scripted_journal
from .samples import running_journal

QUEUE_ID = scripted_journal().queue.queue_id
UNAVAILABLE = Failure(grpc.StatusCode.UNAVAILABLE, "shutting down")


async def all_frames(client: AsyncClient, **options: float) -> list[WatchQueueResponse]:
    return [frame async for frame in client.watch(QUEUE_ID, **options)]  # type: ignore[arg-type]


class TestHeartbeats:
    @pytest.mark.parametrize("heartbeat", [0.0, -1.0, float("nan")])
    async def test_one_that_leaves_no_time_is_refused_at_once(
        self, client: AsyncClient, server: FakeServer, heartbeat: float
    ) -> None:
        """The client bounds the silence by it, and would give up before the server could say so."""
        with pytest.raises(InvalidRequest) as refused:
            client.watch(QUEUE_ID, heartbeat=heartbeat)
        assert [violation.field for violation in refused.value.violations] == ["heartbeat_interval"]
        assert not server.calls


class TestWithoutFaults:
    async def test_snapshot_updates_end(self, client: AsyncClient, server: FakeServer) -> None:
        journal = scripted_journal()
        server.add(journal)
        frames = await all_frames(client)
        assert frames[0].kind == FrameKind.FRAME_KIND_SNAPSHOT
        assert {frame.kind for frame in frames[1:-1]} == {FrameKind.FRAME_KIND_UPDATE}
        assert_accounted(frames, journal)
        assert len(server.calls) == 1

    @pytest.mark.parametrize("after", [0, 5, 11, 12])
    async def test_it_begins_after_a_revision(self, after: int, client: AsyncClient, server: FakeServer) -> None:
        """0 is a revision like any other: from the first change on."""
        journal = scripted_journal()
        server.add(journal)
        frames = await all_frames(client, after_revision=after)
        assert_accounted(frames, journal, start=after)
        assert server.requests("WatchQueue")[0].after_revision == after

    async def test_the_heartbeat_is_asked_for(self, client: AsyncClient, server: FakeServer) -> None:
        server.add(scripted_journal())
        await all_frames(client, heartbeat=2.5)
        assert server.requests("WatchQueue")[0].heartbeat_interval == Duration(seconds=2, nanos=500_000_000)

    async def test_heartbeats_are_shown_only_on_request(self, client: AsyncClient, server: FakeServer) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(heartbeats=2), Plan(heartbeats=2)])
        assert_accounted(await all_frames(client), journal)
        shown = [frame.kind async for frame in client.watch(QUEUE_ID, yield_heartbeats=True)]
        assert shown.count(FrameKind.FRAME_KIND_HEARTBEAT) == 2

    async def test_leaving_it_ends_the_call(self, client: AsyncClient, server: FakeServer) -> None:
        """At once, not when the garbage collector comes by."""
        server.add(Journal(Queue(queue_id=QUEUE_ID))).revision = 0
        server.journals[QUEUE_ID].record(EventType.EVENT_TYPE_QUEUE_CREATED)
        async with aclosing(client.watch(QUEUE_ID)) as frames:
            await anext(frames)
            assert server.watching == 1
        await until(lambda: not server.watching)

    async def test_a_live_queue_is_followed(self, client: AsyncClient, server: FakeServer) -> None:
        """Frames arrive when the change is made, not when the stream ends."""
        journal = Journal(Queue(queue_id=QUEUE_ID, state=QueueState.QUEUE_STATE_RUNNING))
        journal.record(EventType.EVENT_TYPE_QUEUE_CREATED)
        server.add(journal)
        seen = []
        async for frame in client.watch(QUEUE_ID):
            seen.append(frame)
            if frame.revision < 4:
                journal.record(EventType.EVENT_TYPE_PROGRESS)
            elif frame.kind != FrameKind.FRAME_KIND_END and journal.queue.state == QueueState.QUEUE_STATE_RUNNING:
                journal.queue.state = QueueState.QUEUE_STATE_FINISHED
                journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED)
        assert_accounted(seen, journal)


class TestCuts:
    @pytest.mark.parametrize(
        "cut",
        [
            "close",
            UNAVAILABLE,
            Failure(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
            Failure(grpc.StatusCode.UNKNOWN, "Stream removed"),
            Failure(grpc.StatusCode.CANCELLED, "proxy"),
            Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many watchers"),
        ],
        ids=lambda cut: cut if isinstance(cut, str) else cut.code.name,
    )
    async def test_it_goes_on_where_it_was(
        self, cut: Failure | str, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=3, cut=cut), Plan(cut_after=2, cut=cut)])
        assert_accounted(await all_frames(client), journal)
        requests = server.requests("WatchQueue")
        assert not requests[0].HasField("after_revision")
        assert [request.after_revision for request in requests[1:]] == [3, 5]
        # Each connection brought something new, so each pause is a first one again.
        assert pauses.taken == pytest.approx([0.2, 0.2])

    async def test_before_the_first_frame_it_asks_for_the_snapshot_again(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=0, cut=UNAVAILABLE)])
        frames = await all_frames(client)
        assert frames[0].kind == FrameKind.FRAME_KIND_SNAPSHOT
        assert_accounted(frames, journal)

    async def test_a_snapshot_repeated_on_resume_is_hidden(self, client: AsyncClient, server: FakeServer) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=4), Plan(snapshot=True, overlap=0)])
        frames = await all_frames(client)
        assert [frame.kind for frame in frames].count(FrameKind.FRAME_KIND_SNAPSHOT) == 1
        assert_accounted(frames, journal)

    async def test_revisions_seen_before_are_dropped(self, client: AsyncClient, server: FakeServer) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=6), Plan(overlap=4)])
        assert_accounted(await all_frames(client), journal)

    async def test_a_frame_of_seen_and_unseen_revisions_counts_the_unseen(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        """So that a reader who adds up comes out right."""
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=6), Plan(overlap=4, merge=lambda: 5)])
        frames = await all_frames(client)
        assert_accounted(frames, journal)
        assert frames[6].revision == 7
        assert frames[6].revisions_merged == 1

    async def test_silence_is_a_cut(self, client: AsyncClient, server: FakeServer) -> None:
        """Three heartbeats without a frame: the connection is dead, whatever TCP thinks."""
        journal = scripted_journal()
        server.add(journal)
        server.plans.append(Plan(cut_after=3, cut="silent"))
        cuts: list[QueueManagerError] = []
        frames = client.watch(QUEUE_ID, heartbeat=0.5, on_reconnect=lambda error, _: cuts.append(error))
        assert_accounted([frame async for frame in frames], journal)
        assert [cut.reason for cut in cuts] == [REASON_STREAM_CUT]
        assert "1.5 s" in cuts[0].message

    async def test_a_slow_reader_is_not_silence(self, client: AsyncClient, server: FakeServer) -> None:
        """The wait for a frame is limited, what the reader does with it is his."""
        journal = scripted_journal(revisions=4)
        server.add(journal)
        frames = []
        async for frame in client.watch(QUEUE_ID, heartbeat=0.5):
            frames.append(frame)
            if frame.revision == 2:
                await asyncio.sleep(1.8)
        assert_accounted(frames, journal)
        assert len(server.calls) == 1

    async def test_heartbeats_keep_it_alive(self, client: AsyncClient, server: FakeServer) -> None:
        journal = Journal(Queue(queue_id=QUEUE_ID, state=QueueState.QUEUE_STATE_RUNNING))
        journal.record(EventType.EVENT_TYPE_QUEUE_CREATED)
        server.add(journal)
        beats = 0
        async for frame in client.watch(QUEUE_ID, heartbeat=0.5, yield_heartbeats=True):
            beats += frame.kind == FrameKind.FRAME_KIND_HEARTBEAT
            if beats == 4:
                journal.queue.state = QueueState.QUEUE_STATE_FINISHED
                journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED)
                beats += 1
        assert len(server.calls) == 1

    @pytest.mark.parametrize("greets", [True, False])
    async def test_heartbeats_tell_that_it_is_back(self, greets: bool, client: AsyncClient, server: FakeServer) -> None:
        """At once, though there is nothing new; where an old server does not say so, with its first frame."""
        server.add(running_journal())
        server.greets = greets
        server.plans.append(Plan(cut_after=1))
        heartbeat = 60.0 if greets else 0.5
        frames = client.watch(QUEUE_ID, heartbeat=heartbeat, yield_heartbeats=True)
        async with aclosing(frames), asyncio.timeout(30):
            first, second = await anext(frames), await anext(frames)
        assert (first.kind, second.kind) == (FrameKind.FRAME_KIND_SNAPSHOT, FrameKind.FRAME_KIND_HEARTBEAT)
        assert second.revision == first.revision

    async def test_the_servers_own_pause_is_honoured(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        journal = scripted_journal()
        server.add(journal)
        retry = details.RetryInfo(retry_delay=Duration(seconds=7))
        server.failures["WatchQueue"].append(Failure(grpc.StatusCode.UNAVAILABLE, "bye", (retry,)))
        assert_accounted(await all_frames(client), journal)
        assert pauses.taken == pytest.approx([7.2])

    async def test_pauses_grow_while_nothing_new_comes(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        """Also when the server answers, repeats itself and hangs up."""
        journal = scripted_journal()
        server.add(journal)
        server.plans.append(Plan(cut_after=3))
        server.plans.extend([Plan(overlap=2, cut_after=2)] * 6)
        assert_accounted(await all_frames(client), journal)
        assert pauses.taken == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])

    async def test_it_survives_a_restart_of_the_server(self) -> None:
        """The same address, another process: the connection itself is new."""
        journal = scripted_journal()
        async with FakeServer() as first:
            first.add(journal)
            first.plans.append(Plan(cut_after=5, cut="silent"))
            backoff = Backoff(initial=0.05, maximum=0.1)
            async with AsyncClient(first.address, backoff=backoff) as client:
                frames = []
                async for frame in client.watch(QUEUE_ID, heartbeat=5.0):
                    frames.append(frame)
                    if frame.revision == 5:
                        await first.__aexit__()
                        second = FakeServer(listen=first.address)
                        await second.__aenter__()
                        second.add(journal)
                await second.__aexit__()
        assert_accounted(frames, journal)

    @pytest.mark.parametrize("seed", range(12))
    async def test_random_cuts_over_real_connections(self, seed: int, client: AsyncClient, server: FakeServer) -> None:
        choose = random.Random(seed)
        cuts: list[Failure | str] = ["close", UNAVAILABLE, Failure(grpc.StatusCode.CANCELLED)]
        journal = scripted_journal(revisions=60)
        server.add(journal)
        for _ in range(15):
            server.plans.append(
                Plan(
                    cut_after=choose.randrange(8),
                    cut=choose.choice(cuts),
                    overlap=choose.randrange(6),
                    merge=lambda: choose.choice([1, 1, 1, 2, 5]),
                    snapshot=choose.random() < 0.2,
                )
            )
        assert_accounted(await all_frames(client), journal)


class TestGivingUp:
    async def test_without_a_connection_for_too_long(self, server: FakeServer) -> None:
        """What cut it is what is raised."""
        server.add(scripted_journal())
        server.plans.append(Plan(cut_after=3, cut="silent"))
        seen = []
        async with AsyncClient(server.address, backoff=Backoff(initial=0.01, maximum=0.02)) as client:

            async def read() -> None:
                async for frame in client.watch(QUEUE_ID, give_up_after=0.3):
                    seen.append(frame.revision)
                    if frame.revision == 3:
                        await server.__aexit__()

            with pytest.raises(Unavailable) as caught:
                await read()
        assert seen == [1, 2, 3]
        assert caught.value.reason == REASON_UNREACHABLE

    @pytest.mark.virtual_time
    @pytest.mark.parametrize("accepts", [True, False])
    async def test_the_time_with_a_connection_does_not_count(self, accepts: bool) -> None:
        """Though a quiet queue's stream brings no frame before the next cut."""
        opened = []

        @asynccontextmanager
        async def open_stream(after: int | None) -> AsyncIterator[Stream]:
            opened.append(after)
            number = len(opened)

            async def accepted() -> bool:
                return accepts

            async def read() -> WatchQueueResponse | None:
                await asyncio.sleep(90.0)
                if number == 5:
                    return WatchQueueResponse(kind=FrameKind.FRAME_KIND_END)
                raise Unavailable("cut")

            yield Stream(accepted, read)

        options = WatchOptions(120.0, 60.0, False, Backoff())
        frames = watch(open_stream, after_revision=0, options=options)
        if accepts:
            assert [frame.kind async for frame in frames] == [FrameKind.FRAME_KIND_END]
        else:
            with pytest.raises(Unavailable, match="cut"):
                await anext(frames)
        assert len(opened) == (5 if accepts else 2)

    async def test_a_pause_that_would_last_longer_is_not_begun(
        self, client: AsyncClient, server: FakeServer, pauses: Pauses
    ) -> None:
        retry = details.RetryInfo(retry_delay=Duration(seconds=90))
        server.failures["WatchQueue"].append(Failure(grpc.StatusCode.UNAVAILABLE, "bye", (retry,)))
        with pytest.raises(Unavailable):
            await all_frames(client)
        assert not pauses.taken

    @pytest.mark.parametrize(
        ("failure", "expected"),
        [
            (Failure(grpc.StatusCode.INTERNAL, "bug", (details.ErrorInfo(reason="INTERNAL"),)), InternalError),
            (Failure(grpc.StatusCode.UNKNOWN, "Unexpected KeyError"), InternalError),
            (Failure(grpc.StatusCode.UNIMPLEMENTED, "older server"), InternalError),
        ],
    )
    async def test_what_is_no_cut_is_raised_at_once(
        self, failure: Failure, expected: type[Exception], client: AsyncClient, server: FakeServer
    ) -> None:
        server.failures["WatchQueue"].append(failure)
        with pytest.raises(expected):
            await all_frames(client)
        assert len(server.calls) == 1

    async def test_an_unknown_queue(self, client: AsyncClient, server: FakeServer) -> None:
        with pytest.raises(NotFound):
            await all_frames(client)
        assert len(server.calls) == 1

    async def test_a_revision_in_the_future(self, client: AsyncClient, server: FakeServer) -> None:
        server.add(scripted_journal())
        with pytest.raises(OutOfRange):
            await all_frames(client, after_revision=99)

    async def test_a_bug_after_the_first_frames(self, client: AsyncClient, server: FakeServer) -> None:
        """The server's own word for it ends the watch; a bare INTERNAL would be a reset of the stream."""
        server.add(scripted_journal())
        bug = Failure(grpc.StatusCode.INTERNAL, "bug", (details.ErrorInfo(reason="INTERNAL"),))
        server.plans.append(Plan(cut_after=2, cut=bug))
        with pytest.raises(InternalError):
            await all_frames(client)

    async def test_a_server_that_loses_revisions_is_asked_again_then_given_up(
        self, client: AsyncClient, server: FakeServer
    ) -> None:
        journal = scripted_journal()
        server.add(journal)
        server.plans.extend([Plan(cut_after=3), Plan(skip=2), Plan(skip=1)])
        assert_accounted(await all_frames(client), journal)
        server.plans.extend([Plan(cut_after=3), Plan(skip=2), Plan(skip=1), Plan(skip=1)])
        with pytest.raises(InternalError, match="some are missing") as caught:
            await all_frames(client)
        assert caught.value.reason == REASON_WATCH_BROKEN

    async def test_gaps_count_only_in_a_row(self, client: AsyncClient, server: FakeServer) -> None:
        """A server that goes on between its losses is asked again every time."""
        journal = scripted_journal()
        server.add(journal)
        server.plans.append(Plan(cut_after=2))
        for _ in range(3):
            server.plans.extend([Plan(skip=1), Plan(skip=1), Plan(cut_after=1)])
        assert_accounted(await all_frames(client), journal)

    async def test_cancelling_the_reader(self, client: AsyncClient, server: FakeServer) -> None:
        server.add(scripted_journal())
        server.plans.append(Plan(cut_after=2, cut="silent"))
        reader = asyncio.create_task(all_frames(client))
        await until(lambda: server.watching)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    async def test_closing_the_client(self, client: AsyncClient, server: FakeServer) -> None:
        server.add(scripted_journal())
        server.plans.append(Plan(cut_after=2, cut="silent"))
        reader = asyncio.create_task(all_frames(client))
        await until(lambda: server.watching)
        await client.close()
        with pytest.raises(RuntimeError, match="closed"):
            await reader

    async def test_closing_the_client_and_opening_it_again(self, client: AsyncClient, server: FakeServer) -> None:
        server.add(scripted_journal())
        server.plans.append(Plan(cut_after=2, cut="silent"))
        reader = asyncio.create_task(all_frames(client))
        await until(lambda: server.watching)
        await client.close()
        async with client:
            with pytest.raises(RuntimeError, match="closed"):
                await reader
