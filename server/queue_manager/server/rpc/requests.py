"""Reading requests: the contract's messages as the core's values.

What a start asks for is judged by `domain.request`; the small requests are judged here, all violations at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.server.application.dead_letters import ReplayRequest
from queue_manager.server.application.ports import QueueFilter
from queue_manager.server.domain.errors import InvalidRequest, Violation
from queue_manager.server.domain.model import MESSAGE_LIMIT, StopMode
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest
from queue_manager.server.rpc.convert import CONDITIONS, POLICIES, QUEUE_STATES
from queue_manager.v1 import queue_pb2, service_pb2

DEFAULT_PAGE: Final = 50
LARGEST_PAGE: Final = 500
LONGEST_GRACE: Final = 86400.0
LONGEST_WAIT: Final = 86400.0
HEARTBEAT_RANGE: Final = (1.0, 3600.0)
SELECTOR_TERMS: Final = 16
QUEUE_ID_LIMIT: Final = 253
REPLAY_IDS: Final = 1000

Domain = TypeVar("Domain")
Number = TypeVar("Number", bound=int)

_POLICY_OF: Final = {number: policy for policy, number in POLICIES.items()}
_CONDITION_OF: Final = {number: condition for condition, number in CONDITIONS.items()}
_STATE_OF: Final = {number: state for state, number in QUEUE_STATES.items()}
_MODE_OF: Final = {service_pb2.StopMode.Value(f"STOP_MODE_{mode}"): mode for mode in StopMode}
_NO_FIELD: Final = re.compile(r'no field named "(?P<name>.*?)" at "StartQueueRequest\.?(?P<place>.*?)"')
_NO_VALUE: Final = re.compile(r"Failed to parse (?P<name>\S+) field: (?P<what>.*)")
"""As `google.protobuf.json_format` words it."""
_LABEL_TERM: Final = re.compile(r"\s*([A-Za-z0-9._/-]+)\s*(?:={1,2}\s*([A-Za-z0-9._-]*)\s*)?")


@dataclass(frozen=True, slots=True)
class StopWish:
    """How a caller wants a queue stopped; `grace_period` in seconds, None: the default."""

    mode: StopMode
    grace_period: float | None


def start_request(message: service_pb2.StartQueueRequest) -> StartRequest:
    """A start as the caller wrote it; what cannot be expressed in it is in `malformed`."""
    found = _Violations()
    jobs = [_job_request(job, f"requests[{index}]", found) for index, job in enumerate(message.requests)]
    return StartRequest(
        symbol=message.symbol,
        time_range=message.time_range,
        requests=jobs,
        request_id=message.request_id,
        validate_only=message.validate_only,
        labels=dict(message.labels),
        failure_policy=found.enum(_POLICY_OF, message.failure_policy, "failure_policy"),
        start_timeout=_seconds(message.start_timeout) if message.HasField("start_timeout") else None,
        malformed=tuple(found),
    )


def start_payload(payload: Mapping[str, object]) -> StartRequest:
    """A start as JSON, as it comes over the bus. Raises `InvalidRequest` for what is no field of one."""
    message = service_pb2.StartQueueRequest()
    try:
        json_format.ParseDict(dict(payload), message)
    except (json_format.ParseError, ValueError, TypeError) as error:
        raise InvalidRequest([_of_json(error)]) from error
    return start_request(message)


def _of_json(error: Exception) -> Violation:
    text = str(error).partition("\n")[0]
    if found := _NO_FIELD.search(text):
        field = ".".join(filter(None, (found["place"], found["name"])))
        return Violation(field, "is no field of a start request; correct its name, or take it out")
    if found := _NO_VALUE.search(text):
        what = "it is no text" if "expected string" in found["what"] else found["what"]
        return Violation(found["name"], f"cannot be read: {what}")
    return Violation("command", f"is followed by no start request: {text}")


def _job_request(message: service_pb2.JobRequest, path: str, found: _Violations) -> JobRequest:
    """A job as the caller wrote it; the message's fields have the names of the value's."""
    fields: dict[str, Any] = {field.name: value for field, value in message.ListFields()}  # only those that are set
    if "collection_inputs" in fields:
        fields["collection_inputs"] = list(message.collection_inputs)
    if "parameters" in fields:
        fields["parameters"] = dict(message.parameters)
    if "timeout" in fields:
        fields["timeout"] = _seconds(message.timeout)
    if "depends_on" in fields:
        fields["depends_on"] = [
            DependencyRequest(
                job=gate.job,
                condition=found.enum(_CONDITION_OF, gate.condition, f"{path}.depends_on[{number}].condition"),
            )
            for number, gate in enumerate(message.depends_on)
        ]
    return JobRequest(**fields)


def stop_request(message: service_pb2.StopQueueRequest) -> StopWish:
    """How to stop. Raises `InvalidRequest`."""
    found = _Violations()
    found.queue_id(message.queue_id)
    mode = found.enum(_MODE_OF, message.mode, "mode") or StopMode.GRACEFUL
    grace = _seconds(message.grace_period) if message.HasField("grace_period") else None
    if grace is not None:
        if mode is StopMode.FORCE:
            found.add("grace_period", "not allowed with STOP_MODE_FORCE, which deletes at once; leave it out")
        elif not 0 <= grace <= LONGEST_GRACE:
            found.add("grace_period", f"{grace:g} s is not between 0 s and {LONGEST_GRACE:g} s (24 hours)")
    if (size := len(message.reason.encode())) > MESSAGE_LIMIT:
        found.add("reason", f"{size} bytes are more than the {MESSAGE_LIMIT} allowed; shorten it")
    found.raise_if_any()
    return StopWish(mode, grace)


def list_request(message: service_pb2.ListQueuesRequest) -> tuple[QueueFilter, int]:
    """What to list, and how many on a page. Raises `InvalidRequest`."""
    found = _Violations()
    found.page_size(message.page_size)
    states = set()
    for index, number in enumerate(message.states):
        if (state := _STATE_OF.get(number)) is None:
            found.add(f"states[{index}]", f"{number} is no state; use one of {_names(queue_pb2.QueueState)}")
        else:
            states.add(state)
    after, before = (
        _instant(message.created_after) if message.HasField("created_after") else None,
        _instant(message.created_before) if message.HasField("created_before") else None,
    )
    if after is not None and before is not None and after >= before:
        found.add("created_before", "it must be later than created_after")
    labels = _selector(message.label_selector, found)
    found.raise_if_any()
    query = QueueFilter(
        states=frozenset(states),
        symbol=message.symbol.upper(),
        target=message.target,
        labels=labels,
        created_after=after,
        created_before=before,
    )
    return query, message.page_size or DEFAULT_PAGE


def letters_request(message: service_pb2.ListDeadLettersRequest) -> int:
    """How many dead letters on a page. Raises `InvalidRequest`."""
    found = _Violations()
    found.page_size(message.page_size)
    found.raise_if_any()
    return message.page_size or DEFAULT_PAGE


def replay_request(message: service_pb2.ReplayDeadLettersRequest) -> ReplayRequest:
    """Which dead letters to replay. Raises `InvalidRequest`."""
    found = _Violations()
    if message.all and message.ids:
        found.add("all", "not together with ids; leave one of them out")
    elif not message.all and not message.ids:
        found.add("ids", "it is missing; name dead letters, as ListDeadLetters tells them, or say all with a topic")
    if len(message.ids) > REPLAY_IDS:
        found.add("ids", f"{len(message.ids)} are more than the {REPLAY_IDS} allowed; send them in several calls")
    if message.all and not message.topic:
        found.add("topic", "it is missing; all is of one topic")
    if message.topic and not message.all:
        found.add("topic", "only with all; an id names its topic")
    found.raise_if_any()
    return ReplayRequest(
        ids=list(message.ids), topic=message.topic, validate_only=message.validate_only, force=message.force
    )


def watch_request(message: service_pb2.WatchQueueRequest) -> float | None:
    """The heartbeat interval in seconds, where the caller says. Raises `InvalidRequest`."""
    found = _Violations()
    found.queue_id(message.queue_id)
    if message.HasField("after_revision") and message.after_revision < 0:
        found.add("after_revision", f"{message.after_revision} is negative; leave it out to begin with a snapshot")
    heartbeat = _seconds(message.heartbeat_interval) if message.HasField("heartbeat_interval") else None
    low, high = HEARTBEAT_RANGE
    if heartbeat is not None and not low <= heartbeat <= high:
        found.add("heartbeat_interval", f"{heartbeat:g} s is not between {low:g} s and {high:g} s")
    found.raise_if_any()
    return heartbeat


def check_queue_id(queue_id: str) -> None:
    """Raise `InvalidRequest` where a queue_id is missing or cannot be one."""
    if not queue_id or len(queue_id) > QUEUE_ID_LIMIT:
        found = _Violations()
        found.queue_id(queue_id)
        found.raise_if_any()


class _Violations(list[Violation]):
    """Collects violations in the order of the request."""

    def add(self, field: str, description: str) -> None:
        self.append(Violation(field, description))

    def page_size(self, value: int) -> None:
        if not 0 <= value <= LARGEST_PAGE:
            self.add("page_size", f"{value} is not between 1 and {LARGEST_PAGE}; leave it out for {DEFAULT_PAGE}")

    def queue_id(self, value: str) -> None:
        if not value:
            self.add("queue_id", "it is missing; ListQueues tells the queues that there are")
        elif len(value) > QUEUE_ID_LIMIT:
            self.add("queue_id", f"{len(value)} characters are too long for a queue_id")

    def enum(self, values: Mapping[Number, Domain], number: Number, field: str) -> Domain | None:
        """The value of an enum's number; None where it is not set. An unknown number is a violation."""
        if number and number not in values:
            known = ", ".join(str(value) for value in values.values())
            self.add(field, f"{number} is no value that this server knows; use one of {known}")
        return values.get(number)

    def raise_if_any(self) -> None:
        if self:
            raise InvalidRequest(list(self))


def _selector(text: str, found: _Violations) -> dict[str, str | None]:
    labels: dict[str, str | None] = {}
    if not text.strip():
        return labels
    terms = text.split(",")
    if len(terms) > SELECTOR_TERMS:
        found.add("label_selector", f"{len(terms)} terms are more than the {SELECTOR_TERMS} allowed")
        return labels
    for term in terms:
        match = _LABEL_TERM.fullmatch(term)
        if match is None:
            found.add("label_selector", f"{term.strip()[:80]!r} is neither `key=value` nor `key`")
        elif match[1] in labels:
            found.add("label_selector", f"the key {match[1]!r} stands twice")
        else:
            labels[match[1]] = match[2]
    return labels


def _seconds(value: Duration) -> float:
    return value.seconds + value.nanos / 1e9


def _instant(value: Timestamp) -> float:
    return value.seconds + value.nanos / 1e9


def _names(enum: object) -> str:
    return ", ".join(name for name in enum.DESCRIPTOR.values_by_name if not name.endswith("_UNSPECIFIED"))  # type: ignore[attr-defined]
