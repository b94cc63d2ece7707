"""Reading what workers say (contracts, section 5).

`read` turns one message, in any of the spellings that workers use, into a `Telemetry`; `resolve` finds the job that it
is about. What it means for the job's state is `lifecycle`'s and `verdict`'s to say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from queue_manager.server.domain.model import JobName, Queue, cut

SIZE_LIMIT: Final = 1024 * 1024
"""Longest message that is read, in bytes."""

OWN_PRODUCER: Final = "queue-manager"
"""What the manager's own events on the topic say who they are from."""

_OWN: Final = f'"{OWN_PRODUCER}"'.encode()

DAY: Final = 86400.0
"""A time that is further from the broker's record timestamp is not a wall clock's; seconds."""

LAST_WORDS: Final = frozenset({"finished", "error", "interrupted"})
"""Statuses that are final unless their message says otherwise."""

NAME_LIMIT: Final = 256
"""Longest status, type or id kept, in bytes; none that means anything is longer."""

NOBODYS: Final = "it says neither who sent it nor which queue it is about"
NO_WORDS: Final = "an error without a text"

_NUMBER_LIMIT: Final = 2**63
_DIGITS_LIMIT: Final = 400
_CONFIGURATION: Final = frozenset({"k8s_namespace", "collection_name", "time_range", "symbol"})
_READ: Final = frozenset(
    (
        *("status", "event", "telemetry_id", "producer", "producer_id", "queue_id", "timestamp", "sent_at", "type"),
        *("finished", "records_written", "progress", "message", "error_message", "reason", "ping_ts", "ping_timestamp"),
        *("extra", "payload"),
    )
)
"""Top-level fields that a rule names."""


class Unreadable(ValueError):
    """The message cannot be read; goes to the dead-letter topic with the reason."""

    def __init__(self, reason: str) -> None:
        """The reason, in a few words."""
        super().__init__(reason)
        self.reason = reason


class Telemetry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message of a worker, whatever its spelling was."""

    status: str
    """`started`, `loading`, `finished`, `interrupted`, `error`, `pong`, or one that is not known; "": none given."""
    telemetry_id: str | None
    queue_id: str | None
    time: float
    """UTC epoch seconds: the message's own where that is a wall clock, else the record's."""
    record_time: float
    """When it was written to its partition: by one clock for all that a worker says, whether it gives a time or not."""
    final: bool
    """Flagged (or by default) as the last message."""
    type: str | None = None
    records_written: int | None = None
    progress: float | None = None
    message: str | None = None
    error: str | None = None
    ping_sent_at: float | None = None
    details: Mapping[str, object] = {}
    source: str = ""
    position: int | None = None


class _Usual(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What nearly all messages are: these fields and no others, with values of the right types."""

    queue_id: str | None = None
    telemetry_id: str | None = None
    producer: str | None = None
    producer_id: str | None = None
    symbol: str | None = None
    type: str | None = None
    status: str | None = None
    event: str | None = None
    message: str | None = None
    finished: bool | None = None
    timestamp: float | None = None
    records_written: int | None = None
    progress: float | None = None


_USUAL: Final = msgspec.json.Decoder(_Usual)


def read(value: bytes, record_time: float, *, source: str = "", position: int | None = None) -> Telemetry:
    """One message of a worker. Raises `Unreadable`, and nothing else, whatever the bytes are.

    `record_time`: the broker's timestamp of the record, in UTC epoch seconds; `source` and `position` say where it came
    from. Of two spellings of one thing the first that has a value of the right type counts; a field of the wrong type
    is absent. What `payload` nests is read where the top level says nothing.
    """
    try:
        usual = _USUAL.decode(value) if len(value) <= SIZE_LIMIT else None
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        usual = None
    if usual is None:
        return read_any(value, record_time, source=source, position=position)
    who = usual.telemetry_id or usual.producer or usual.producer_id
    if not who and not usual.queue_id:
        raise Unreadable(NOBODYS)
    status, text = usual.status or usual.event or "", usual.message or None
    records, progress, time = usual.records_written, usual.progress, usual.timestamp
    is_wall_clock = time is not None and -DAY <= time - record_time <= DAY
    message = None if text is None else cut(text)
    return Telemetry(
        status=cut(status, NAME_LIMIT),
        telemetry_id=cut(who, NAME_LIMIT) if who else None,
        queue_id=cut(usual.queue_id, NAME_LIMIT) if usual.queue_id else None,
        time=(time if is_wall_clock and time else _wall_clock(record_time, time) or record_time),
        record_time=record_time,
        final=status != "pong" and (status in LAST_WORDS if usual.finished is None else usual.finished),
        type=cut(usual.type, NAME_LIMIT) if usual.type else None,
        records_written=records if records is not None and 0 <= records < _NUMBER_LIMIT else None,
        progress=progress if progress is not None and 0 <= progress <= 1 else None,
        message=message,
        error=(message or NO_WORDS) if status == "error" else None,
        source=source,
        position=position,
    )


def read_any(value: bytes, record_time: float, *, source: str = "", position: int | None = None) -> Telemetry:
    """The same, whatever the shape; `read` takes a short cut where that is the usual one."""
    top = decode(value)
    nested = top.get("payload")
    payload: Mapping[str, object] = nested if isinstance(nested, dict) else {}
    who = _name(top, "telemetry_id", "producer", "producer_id")
    queue_id = _name(top, "queue_id")
    if who is None and queue_id is None:
        raise Unreadable(NOBODYS)
    status = _name(top, "status", "event") or ""
    flag = top.get("finished")
    message = _text(top, payload, "message")
    wrong = _text(top, payload, "error_message", "reason")
    error = (wrong or message or NO_WORDS) if status == "error" else None
    return Telemetry(
        status=status,
        telemetry_id=who,
        queue_id=queue_id,
        time=_wall_clock(record_time, top.get("timestamp"), top.get("sent_at")) or record_time,
        record_time=record_time,
        final=status != "pong" and (flag if isinstance(flag, bool) else status in LAST_WORDS),
        type=_name(top, "type"),
        records_written=_count(top, payload),
        progress=_progress(top, payload),
        message=message if status == "error" else message or wrong,
        error=error,
        ping_sent_at=_wall_clock(record_time, *_both(top, payload, "ping_ts", "ping_timestamp")),
        details=dict(_details(top, payload)),
        source=source,
        position=position,
    )


def is_own(value: bytes) -> bool:
    """Whether a message is one of the manager's own events. Cheap for all others."""
    if _OWN not in value:
        return False
    try:
        return decode(value).get("producer") == OWN_PRODUCER
    except Unreadable:
        return False


def resolve(queue: Queue, telemetry: Telemetry) -> JobName | None:
    """The job of this queue that a message is about; None where that cannot be said, or it is of another queue.

    It is the one whose telemetry id it carries; if it says no who, the queue's only job, else the only one of its type.
    """
    who = telemetry.telemetry_id
    if who is not None:
        return next((job.name for job in queue.jobs if job.spec.telemetry_id == who), None)
    if len(queue.jobs) == 1:
        return queue.jobs[0].name
    fitting = [job.name for job in queue.jobs if job.spec.type == telemetry.type]
    return fitting[0] if len(fitting) == 1 else None


def decode(value: bytes) -> dict[str, object]:
    """The JSON object in a message, less what is not JSON's: NaN and infinities are None, lone surrogates replaced."""
    if len(value) > SIZE_LIMIT:
        raise Unreadable(f"it has {len(value)} bytes, more than {SIZE_LIMIT}")
    try:
        try:
            decoded = msgspec.json.decode(value)
        except msgspec.DecodeError:
            # Python's own parser takes what msgspec does not and workers send: NaN, infinities, endless numbers.
            decoded = json.loads(
                value.decode("utf-8-sig"), parse_constant=lambda _: None, parse_float=_float, parse_int=_int
            )
            decoded = _without_surrogates(decoded)
    except UnicodeDecodeError as e:
        raise Unreadable(f"it is not UTF-8: {e.reason} at byte {e.start}") from e
    except RecursionError as e:
        raise Unreadable("it is nested too deeply") from e
    except ValueError as e:
        raise Unreadable(f"it is not JSON: {e}") from e
    if not isinstance(decoded, dict):
        raise Unreadable(f"it is JSON, but no object: {type(decoded).__name__}")
    return decoded


def _float(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _int(text: str) -> int | None:
    return int(text) if len(text) <= _DIGITS_LIMIT else None


def _without_surrogates(value: object) -> object:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return [_without_surrogates(item) for item in value] if isinstance(value, list) else value


def _both(top: Mapping[str, object], payload: Mapping[str, object], *names: str) -> Iterator[object]:
    """The values of these names at the top level, then those that `payload` has."""
    yield from (top.get(name) for name in names)
    yield from (payload.get(name) for name in names)


def _name(top: Mapping[str, object], *names: str) -> str | None:
    return next((cut(value, NAME_LIMIT) for name in names if isinstance(value := top.get(name), str) and value), None)


def _text(top: Mapping[str, object], payload: Mapping[str, object], *names: str) -> str | None:
    return next((cut(value) for value in _both(top, payload, *names) if isinstance(value, str) and value), None)


def _numbers(values: Iterator[object]) -> Iterator[float]:
    """The numbers among these; a boolean is none."""
    for value in values:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield value


def _count(top: Mapping[str, object], payload: Mapping[str, object]) -> int | None:
    numbers = _numbers(_both(top, payload, "records_written"))
    return next((int(n) for n in numbers if 0 <= n < _NUMBER_LIMIT and n == int(n)), None)


def _progress(top: Mapping[str, object], payload: Mapping[str, object]) -> float | None:
    return next((float(n) for n in _numbers(_both(top, payload, "progress")) if 0 <= n <= 1), None)


def _wall_clock(near: float, *values: object) -> float | None:
    """The first of these times that a wall clock may have shown: within a day of `near`.

    Numbers are epoch seconds or milliseconds, texts ISO 8601; one without an offset is UTC.
    """
    for value in values:
        if isinstance(value, bool):
            continue
        if isinstance(value, (int, float)):
            # Nothing larger is a time, and a larger integer may be too large for a float.
            for seconds in (value, value / 1000) if abs(value) < _NUMBER_LIMIT else ():
                if abs(seconds - near) <= DAY:
                    return float(seconds)
        elif isinstance(value, str):
            try:
                moment = datetime.fromisoformat(value.strip())
            except ValueError:
                continue
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            if abs(moment.timestamp() - near) <= DAY:
                return moment.timestamp()
    return None


def _details(top: Mapping[str, object], payload: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """What `payload`, `extra` and fields that no rule names say; of one name the last of these counts."""
    extra = top.get("extra")
    for fields in (payload, extra if isinstance(extra, dict) else {}, top):
        for name, value in fields.items():
            dropped = fields is top and (name in _READ or _is_configuration(name))
            if value is not None and not dropped:
                yield cut(name, NAME_LIMIT), cut(value) if isinstance(value, str) else value


def _is_configuration(name: str) -> bool:
    """Whether a top-level field tells how the worker is set up. Such are dropped: a URL may hold a password."""
    return name in _CONFIGURATION or name.startswith(("kafka", "arango_")) or name.endswith("_image")
