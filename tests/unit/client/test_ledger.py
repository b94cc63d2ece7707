"""The rule of a watch: every revision exactly once, for frames and cuts that no server has a reason to make."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from queue_manager.client import Backoff, InternalError, Unavailable
from queue_manager.client.errors import REASON_WATCH_BROKEN
from queue_manager.client.ledger import Ledger, Verdict
from queue_manager.client.watch import Stream, WatchOptions
from queue_manager.client.watch import watch_frames as watch
from queue_manager.v1.queue_pb2 import JobState
from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse

from .conftest import Pauses, assert_accounted
from .fake_server import Plan, scripted_journal, watch_frames


class TestLedger:
    """The rule alone, for frames that a fake server has no reason to send."""

    @pytest.mark.parametrize(
        ("last", "kind", "revision", "merged", "verdict"),
        [
            (None, FrameKind.FRAME_KIND_SNAPSHOT, 7, 7, Verdict.DELIVER),
            (None, FrameKind.FRAME_KIND_UPDATE, 7, 1, Verdict.GAP),
            (None, FrameKind.FRAME_KIND_HEARTBEAT, 7, 0, Verdict.IDLE),
            (None, FrameKind.FRAME_KIND_END, 7, 0, Verdict.DELIVER),
            (0, FrameKind.FRAME_KIND_UPDATE, 1, 1, Verdict.DELIVER),
            (0, FrameKind.FRAME_KIND_UPDATE, 2, 1, Verdict.GAP),
            (5, FrameKind.FRAME_KIND_UPDATE, 5, 1, Verdict.DROP),
            (5, FrameKind.FRAME_KIND_UPDATE, 6, 1, Verdict.DELIVER),
            (5, FrameKind.FRAME_KIND_UPDATE, 8, 3, Verdict.DELIVER),
            (5, FrameKind.FRAME_KIND_UPDATE, 8, 2, Verdict.GAP),
            (5, FrameKind.FRAME_KIND_RESYNC, 90, 85, Verdict.DELIVER),
            (5, FrameKind.FRAME_KIND_HEARTBEAT, 5, 0, Verdict.IDLE),
            (5, FrameKind.FRAME_KIND_HEARTBEAT, 4, 0, Verdict.IDLE),
            (5, FrameKind.FRAME_KIND_HEARTBEAT, 6, 0, Verdict.GAP),
            (5, FrameKind.FRAME_KIND_END, 5, 0, Verdict.DELIVER),
            (5, FrameKind.FRAME_KIND_END, 6, 0, Verdict.GAP),
            (5, FrameKind.FRAME_KIND_END, 4, 0, Verdict.GAP),
        ],
    )
    def test_every_frame_is_judged_by_the_revision_before_it(
        self, last: int | None, kind: FrameKind.ValueType, revision: int, merged: int, verdict: Verdict
    ) -> None:
        ledger = Ledger(last)
        frame = WatchQueueResponse(kind=kind, revision=revision, revisions_merged=merged)
        assert ledger.enter(frame) is verdict
        assert ledger.last == (revision if verdict is Verdict.DELIVER else last)


plans = st.builds(
    Plan,
    cut_after=st.integers(0, 7),
    overlap=st.integers(0, 5),
    merge=st.sampled_from([lambda: 1, lambda: 2, lambda: 3]),
    skip=st.sampled_from([0, 0, 0, 0, 1, 3]),
    snapshot=st.booleans(),
    heartbeats=st.integers(0, 2),
)


@settings(max_examples=150, deadline=None, database=None)
@given(
    scripts=st.lists(plans, max_size=12),
    start=st.none() | st.integers(0, 30),
    errors=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_every_revision_exactly_once(scripts: list[Plan], start: int | None, errors: list[bool]) -> None:
    """Under any mixture of cuts, repetitions, merged frames, lost frames and early heartbeats."""
    asyncio.run(_watch_in_memory(deque(scripts), start, deque(errors)))


async def _watch_in_memory(scripts: deque[Plan], start: int | None, errors: deque[bool]) -> None:
    journal = scripted_journal(revisions=30)

    @asynccontextmanager
    async def open_stream(after: int | None) -> AsyncIterator[Stream]:
        plan = scripts.popleft() if scripts else Plan()
        fails = errors.popleft() if errors else False
        frames = watch_frames(journal, after, plan, heartbeat=10.0)
        sent = 0

        async def accepted() -> bool:
            return not fails

        async def read() -> WatchQueueResponse | None:
            nonlocal sent
            if plan.cut_after is not None and sent >= plan.cut_after:
                if fails:
                    raise Unavailable("cut")
                return None
            sent += 1
            return await anext(frames, None)

        yield Stream(accepted, read)

    pauses = Pauses()
    options = WatchOptions(10.0, 1e9, False, Backoff(sleep=pauses.sleep))
    frames = [frame async for frame in _forgiving(open_stream, start, options)]
    assert_accounted(frames, journal, start=start or 0)
    assert all(frame.kind != FrameKind.FRAME_KIND_HEARTBEAT for frame in frames)
    assert not any(job.state == JobState.JOB_STATE_RUNNING for job in frames[-1].queue.jobs)


async def _forgiving(
    open_stream: object, start: int | None, options: WatchOptions
) -> AsyncIterator[WatchQueueResponse]:
    """A reader who, when a server has lost too many revisions, watches again from where he was."""
    last = start
    while True:
        try:
            async for frame in watch(open_stream, after_revision=last, options=options):  # type: ignore[arg-type]
                last = frame.revision
                yield frame
            return
        except InternalError as e:
            if e.reason != REASON_WATCH_BROKEN:
                raise
