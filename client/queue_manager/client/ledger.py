"""Accounts for the revisions of one watch, so that every one reaches the reader exactly once. Pure: it opens nothing.

The rule is the watch contract's: the revision before a frame plus its `revisions_merged` is the frame's revision, where
the revision before the first frame is `after_revision`, else 0.
"""

from __future__ import annotations

from enum import Enum, auto

from queue_manager.v1.service_pb2 import FrameKind, WatchQueueResponse


class Verdict(Enum):
    """What to do with a frame."""

    DELIVER = auto()
    """New: hand it to the reader."""
    DROP = auto()
    """Seen before, as after a resume that overlaps: nobody needs it."""
    IDLE = auto()
    """A HEARTBEAT: a sign of life and nothing else."""
    GAP = auto()
    """Revisions before it are missing, or it contradicts what was seen: ask again from `last`."""


class Ledger:
    """The revisions that the reader has been given so far."""

    def __init__(self, after_revision: int | None) -> None:
        """None: from the beginning, with a SNAPSHOT."""
        self.last = after_revision
        """The newest revision that the reader has; None: nothing yet. Where to resume after a cut."""

    def enter(self, frame: WatchQueueResponse) -> Verdict:
        """Judge a frame, and enter it when it is to be delivered.

        A frame that stands for seen and unseen revisions together is delivered with `revisions_merged` lowered to the
        unseen ones, so that a reader who adds them up comes out right.
        """
        last = self.last or 0
        if frame.kind == FrameKind.FRAME_KIND_HEARTBEAT:
            # It stands for no revision either: one that is ahead says that frames before it are missing.
            return Verdict.GAP if self.last is not None and frame.revision > last else Verdict.IDLE
        if frame.kind == FrameKind.FRAME_KIND_END:
            # END stands for no revision, so it must be at the last one. With nothing seen it is all there is to see.
            if self.last is not None and frame.revision != last:
                return Verdict.GAP
            self.last = frame.revision
            return Verdict.DELIVER
        if self.last is not None and frame.revision <= last:
            return Verdict.DROP
        if frame.revision - frame.revisions_merged > last:
            return Verdict.GAP
        frame.revisions_merged = frame.revision - last
        self.last = frame.revision
        return Verdict.DELIVER
