"""Every name that is derived: queue ids, job names, topics, collections, telemetry ids, workers (contracts, section 2).

All are functions of their arguments alone, so that whoever needs a name again computes it again. Nothing here checks
what a caller asked for (`request`) or knows which targets exist (`catalogue`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from queue_manager.server.domain.model import JobName, QueueId

DNS_LABEL_LIMIT: Final = 63
"""Longest DNS-1123 label, and with it the longest name of a Kubernetes Job whose pods can carry it as a label."""

QUEUE_ID_LIMIT: Final = 46
"""Longest queue_id: `<queue_id>-arango-connector`, the longest built-in job name behind it, still is a DNS label."""

SUFFIX_LENGTH: Final = 6
"""Characters that make a queue_id unique."""

TOPIC_LIMIT: Final = 249
"""Longest Kafka topic name (Kafka's own `MAX_NAME_LENGTH`)."""

COLLECTION_LIMIT: Final = 256
"""Longest ArangoDB collection name, in bytes."""

QUOTE_ASSETS: Final = (
    *("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USDP", "USDS", "PAX", "DAI", "UST", "USD", "VAI", "BTC", "ETH", "BNB"),
    *("EUR", "AEUR", "EURI", "TRY", "GBP", "AUD", "BRL", "JPY", "RUB", "UAH", "NGN", "ZAR", "PLN", "RON", "ARS", "MXN"),
    *("COP", "CZK", "IDRT", "BIDR", "BVND"),
)
"""What Binance's pairs are quoted in. Coins that are mostly a base (XRP, TRX, DOGE) are left out on purpose."""

_QUOTES_LONGEST_FIRST: Final = sorted(QUOTE_ASSETS, key=len, reverse=True)
_SUFFIX: Final = re.compile(rf"[a-z0-9]{{{SUFFIX_LENGTH}}}")
_TIME_RANGE: Final = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}):([0-9]{4}-[0-9]{2}-[0-9]{2})")
_NO_LABEL: Final = re.compile(r"[^a-z0-9]+")
_NO_COLLECTION: Final = re.compile(r"[^A-Za-z0-9_-]")
_CANONICAL_TYPE: Final = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


remembered: Final = lru_cache(maxsize=1024)
"""For what is asked again and again with the same few arguments. Bounded, because callers choose the arguments."""


@remembered
def parse_time_range(text: str) -> tuple[date, date]:
    """First and last day of `YYYY-MM-DD:YYYY-MM-DD`. Raises `ValueError` saying which rule is broken."""
    match = _TIME_RANGE.fullmatch(text)
    if match is None:
        raise ValueError("is not of the form YYYY-MM-DD:YYYY-MM-DD")
    days = []
    for part in match.groups():
        try:
            days.append(date.fromisoformat(part))
        except ValueError as e:
            raise ValueError(f"names {part}, which is no day of the calendar") from e
    first, last = days
    if first > last:
        raise ValueError("ends before it starts")
    return first, last


@remembered
def sanitise(text: str, limit: int = DNS_LABEL_LIMIT) -> str:
    """`text` as part of a DNS-1123 label: lower case, all else a dash, none at its ends. May be empty."""
    return _NO_LABEL.sub("-", text.lower())[: limit + 1].strip("-")[:limit].rstrip("-")


def base_asset(symbol: str) -> str:
    """The symbol less its quote asset (the longest that fits), in upper case; one without any stays whole."""
    symbol = symbol.upper()
    for quote in _QUOTES_LONGEST_FIRST:
        if symbol.endswith(quote) and symbol != quote:
            return symbol.removesuffix(quote)
    return symbol


def period(first: date, last: date) -> str:
    """A span of days as a collection's name has it: the year, month or day where it is exactly one, else both days."""
    begin, end = (day.isoformat().replace("-", "_") for day in (first, last))
    if first == last:
        return begin
    to_month_end = last == date.max or (last + timedelta(days=1)).day == 1
    if first.day == 1 and to_month_end and first.year == last.year:
        if first.month == last.month:
            return begin[:7]
        if (first.month, last.month) == (1, 12):
            return begin[:4]
    return f"{begin}_{end}"


@remembered
def collection_name(symbol: str, type: str, time_range: str, start_day: date) -> str:  # noqa: A002 - the field's name
    """Collection that a loader or connector of this type fills, e.g. `btc_candles_5m_2024_06`.

    `time_range` must be valid or empty; empty: the period is `start_day`, the UTC day of the start.
    """
    span = parse_time_range(time_range) if time_range else (start_day, start_day)
    work = _NO_COLLECTION.sub("_", type.removeprefix("api_"))
    return f"{base_asset(symbol).lower()}_{work[: COLLECTION_LIMIT - 64]}_{period(*span)}"


def queue_id(symbol: str, first_type: str, day: date, suffix: str) -> QueueId:
    """`wf-<symbol>-<first type>-<yyyymmdd>-<suffix>`, at most `QUEUE_ID_LIMIT` characters.

    `day` is the first day of the time range, else the UTC day of the start. `suffix` is what makes it unique: 6 of
    [a-z0-9], never cut. Long symbols and types are cut; the symbol keeps at least 12 characters.
    """
    if _SUFFIX.fullmatch(suffix) is None:
        raise ValueError(f"a queue's suffix is 6 of [a-z0-9], not {suffix!r}")
    stamp = day.isoformat().replace("-", "")
    room = QUEUE_ID_LIMIT - len(f"wf---{stamp}-{suffix}")
    pair, work = sanitise(symbol), sanitise(first_type)
    pair = pair[: max(12, room - len(work))].rstrip("-")
    work = work[: room - len(pair)].rstrip("-")
    return QueueId("-".join(part for part in ("wf", pair, work, stamp, suffix) if part))


def suffix_of(name: str) -> str:
    """The suffix of the queue that a queue_id or a telemetry id belongs to: its last 6 characters."""
    return name[-SUFFIX_LENGTH:]


def job_names(targets: Sequence[str]) -> list[JobName]:
    """Names of the jobs of a queue, unique in it: the target, and from the second of the same target on `-2`, `-3`, ….

    Where one target is itself called like another's second job (`loader` and `loader-2`), that number is left out.
    """
    reserved = set(targets)
    counts: dict[str, int] = {}
    names = []
    for target in targets:
        count = counts.get(target, 0) + 1
        while count > 1 and f"{target}-{count}" in reserved:
            count += 1
        counts[target] = count
        name = target if count == 1 else f"{target}-{count}"
        reserved.add(name)
        names.append(JobName(name))
    return names


def telemetry_id(job_name: str, queue_suffix: str) -> str:
    """The name under which a worker reports: unique across live queues, because some workers say nothing else."""
    return f"{job_name}__{queue_suffix}"


def kafka_topic(queue_id: str, type: str) -> str:  # noqa: A002 - the field's name
    """Topic that carries the data of a type in a queue: shared by all its jobs of that type, by no other type.

    Where sanitising alone would let two types meet (`candles_1M`, `candles_1m`), a hash of the type tells them apart.
    """
    return f"{queue_id}-{_of_type(type, TOPIC_LIMIT - len(queue_id) - 1)}"


@remembered
def _of_type(type: str, room: int) -> str:  # noqa: A002 - the field's name
    """What a topic's name says of its type, in at most so many characters."""
    work = sanitise(type, TOPIC_LIMIT)
    if _CANONICAL_TYPE.fullmatch(type) is None or len(work) > room:
        mark = _hash(type, size=4)
        work = f"{work[: room - len(mark) - 1]}-{mark}"
    return work


@lru_cache(maxsize=4096)  # every look at a worker asks for its name
def worker_name(queue_id: str, job_name: str, attempt: int) -> str:
    """Name of a worker at its runner: a DNS label, one for each (queue, job, attempt), always the same one.

    `<wf-symbol>-<suffix>-<job>-<hash>-a<attempt>`: what a person looks for in front, cut to fit, then what makes it
    unique. The hash is of the original bytes, because lower-casing and cutting can make two names meet.
    """
    tail = f"-{_hash(queue_id, job_name, size=5)}-a{attempt}"
    readable = "-".join(part for part in (_short_queue(queue_id), sanitise(job_name)) if part) or "w"
    return readable[: DNS_LABEL_LIMIT - len(tail)].rstrip("-") + tail


@remembered
def _short_queue(queue_id: str) -> str:
    """What a worker's name says of its queue: the symbol and the suffix."""
    stem = "-".join(queue_id.split("-")[:2])
    return "-".join(part for part in (sanitise(stem, 20), sanitise(suffix_of(queue_id), 6)) if part)


def _hash(*parts: str, size: int) -> str:
    """Hex of `size` bytes over the parts, each with its length, so that no two lists of parts read the same."""
    digest = hashlib.blake2b(digest_size=size)
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()
