"""The manager's own events, as dashboards and scripts get them on `queue-events` (contracts, section 5).

One message per change of a queue's or job's state, in the shape of the workers' telemetry, with
`producer: "queue-manager"` and an `event_id` that is the same whenever the message is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from queue_manager.server.domain.history import Entry, EventType
from queue_manager.server.domain.model import Queue, StateReason

PRODUCER = "queue-manager"


def publications(queue: Queue, entry: Entry) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The messages that an entry stands for, each with its id."""
    event = entry.event
    common = {
        "producer": PRODUCER,
        "queue_id": queue.queue_id,
        "symbol": queue.spec.symbol,
        "revision": event.revision,
        "timestamp": event.time,
        "finished": False,
    }
    if event.type is not EventType.JOB_STATE_CHANGED:
        message_id = f"{queue.queue_id}:{event.revision}:0"
        yield (
            message_id,
            {
                **common,
                "event_id": message_id,
                "event": event.type.lower(),
                "status": event.after.lower(),
                "message": event.message,
                "actor": event.actor,
                **_reason(entry.status.reason),
            },
        )
    for number, change in enumerate(event.job_changes, 1):
        job = queue.job(change.job)
        message_id = f"{queue.queue_id}:{event.revision}:{number}"
        yield (
            message_id,
            {
                **common,
                "event_id": message_id,
                "event": "job_state_changed",
                "status": change.after.lower(),
                "job": change.job,
                "attempt": change.attempt,
                "target": job.spec.target if job else "",
                "type": job.spec.type if job else "",
                **_reason(change.reason),
            },
        )


def outcome(
    command: str, command_id: str, fields: Mapping[str, object], *, accepted: bool, now: float
) -> Mapping[str, object]:
    """The message that says what became of a command that came in; the same id whenever it is said again."""
    status = "accepted" if accepted else "rejected"
    return {
        "producer": PRODUCER,
        "timestamp": now,
        "finished": False,
        "event_id": f"command:{command_id}",
        "event": f"command_{status}",
        "status": status,
        "command": command,
        "command_id": command_id,
        **fields,
    }


def _reason(reason: StateReason | None) -> Mapping[str, object]:
    return {"reason": reason.code, "error_message": reason.message} if reason else {}
