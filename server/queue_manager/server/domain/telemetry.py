"""Reading what workers say (contracts, section 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """One message of a worker, whatever its spelling was."""

    status: str
    """`started`, `loading`, `finished`, `interrupted`, `error`, `pong`, or one that is not known; "" where none was given."""
    telemetry_id: str | None
    queue_id: str | None
    time: float
    """UTC epoch seconds: the message's own where that is a wall clock, else the record's."""
    final: bool
    """Flagged (or by default) as the last message."""
    type: str | None = None
    records_written: int | None = None
    progress: float | None = None
    message: str | None = None
    error: str | None = None
    ping_sent_at: float | None = None
    details: Mapping[str, object] = field(default_factory=dict)
    source: str = ""
    position: int | None = None
