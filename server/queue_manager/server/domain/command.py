"""Reading commands that others send to the manager on the control topic (contracts, section 4).

Workers read the same topic, so much of what is there is for them, or is the manager's own word to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from queue_manager.server.domain.model import StopMode
from queue_manager.server.domain.telemetry import decode

EVERY_QUEUE: Final = frozenset({"*", "all"})
"""As a `queue_id` of a stop by others: every queue that has not ended."""

ENVELOPE: Final = frozenset({"command", "queue_id", "timestamp", "sent_at", "command_id", "source"})
"""What stands beside the payload of a start, and is no part of it."""


ID_LIMIT: Final = 253
"""Longest `queue_id` that is looked up, in characters; none that there is comes near."""


class CommandKind(StrEnum):
    """What the manager reacts to; anything else is for the workers."""

    START = "start"
    STOP = "stop"
    PING = "ping"
    RETRY = "retry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command to the manager."""

    kind: CommandKind
    queue_id: str = ""
    """Empty: there is none, or what stands there cannot be one."""
    request: Mapping[str, object] = field(default_factory=dict)
    """Of a start: its payload."""
    mode: StopMode | None = StopMode.GRACEFUL
    """Of a stop; None: the one that was asked for does not exist."""
    reason: str = ""


def read_command(value: bytes) -> Command | None:
    """A command to the manager; None for what is none: unknown ones, and announcements of jobs that were launched.

    Raises `Unreadable` for what is no JSON object.
    """
    fields = decode(value)
    name = fields.get("command")
    if not isinstance(name, str) or name not in set(CommandKind):
        return None
    kind, queue_id = CommandKind(name), fields.get("queue_id")
    if kind is CommandKind.START and "requests" not in fields and "target" in fields:
        return None  # the announcement of one job, by this manager or another one
    return Command(
        kind=kind,
        queue_id=queue_id if isinstance(queue_id, str) and len(queue_id) <= ID_LIMIT else "",
        request={key: item for key, item in fields.items() if key not in ENVELOPE} if kind is CommandKind.START else {},
        mode=_mode(fields.get("mode")),
        reason=reason if isinstance(reason := fields.get("reason"), str) else "",
    )


def _mode(value: object) -> StopMode | None:
    """`FORCE`, `force` or `STOP_MODE_FORCE`."""
    if value is None:
        return StopMode.GRACEFUL
    name = value.upper().removeprefix("STOP_MODE_") if isinstance(value, str) else ""
    return StopMode(name) if name in set(StopMode) else None
