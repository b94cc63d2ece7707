"""A request to start a queue: what it may say, and the queue that it becomes.

`accept` checks everything before it answers, so a caller sees all violations at once, in the order of the request's
fields. The rules of single values are in `field_rules`, what a target takes is in the catalogue; here is how they go
together. Nothing is recorded or launched, and whether a `request_id` was used before is the store's to say.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import astuple, replace

from queue_manager.server.domain import field_rules, naming
from queue_manager.server.domain.catalogue import Catalogue, Target, TargetType, nearest
from queue_manager.server.domain.circles import Wait, find_circles
from queue_manager.server.domain.errors import InvalidRequest, Violation
from queue_manager.server.domain.field_rules import quote
from queue_manager.server.domain.model import (
    Dependency,
    DependencyCondition,
    FailurePolicy,
    Job,
    JobName,
    JobSpec,
    JobStatus,
    Lifetime,
    Queue,
    QueueSpec,
    QueueStatus,
    Reads,
    cut,
)

MAX_REQUESTS: Final = 64
MAX_COLLECTION_INPUTS: Final = 64
MAX_PARAMETERS: Final = 64
MAX_LABELS: Final = 32
MAX_REQUESTED_BY: Final = 256
DEFAULT_START_TIMEOUT: Final = 600.0
"""Seconds: 10 minutes."""

NEVER_PLAINLY_OPTIONAL: Final = ("image", "parameters")
"""Fields that a target may need although its type does not name them as required."""

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")


class DependencyRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A gate as the caller wrote it."""

    job: str
    condition: DependencyCondition | None = None


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One microservice as the caller wrote it; an empty value is one that was not given."""

    target: str = ""
    type: str = ""
    interval: str = ""
    collection_inputs: Sequence[str] = ()
    collection_output: str = ""
    graph_collection: str = ""
    model_output: str = ""
    inference_interval: str = ""
    source: str = ""
    collection_name: str = ""
    image: str = ""
    parameters: Mapping[str, str] = {}
    depends_on: Sequence[DependencyRequest] = ()
    timeout: float | None = None
    """Seconds."""


FIELDS: Final = JobRequest.__struct_fields__[2:]
"""The fields of `requests[]` beside target and type, in the order of the contract."""


class StartRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request to start a queue as the caller wrote it; an empty value is one that was not given."""

    symbol: str = ""
    time_range: str = ""
    requests: Sequence[JobRequest] = ()
    request_id: str = ""
    validate_only: bool = False
    labels: Mapping[str, str] = {}
    failure_policy: FailurePolicy | None = None
    start_timeout: float | None = None
    """Seconds."""
    malformed: Sequence[Violation] = ()
    """What could not be expressed above (an enum's number that nobody knows), found while the request was read."""


def accept(request: StartRequest, catalogue: Catalogue, *, now: float, suffix: str, requested_by: str) -> Queue:
    """The queue that the request asks for: PENDING, at revision 0, with everything derived.

    `now` is UTC epoch seconds, `suffix` the 6 of [a-z0-9] that make its id unique. Raises `InvalidRequest` with every
    violation; of a list or map that is longer than allowed, only the entries up to the limit are looked at.
    """
    today = datetime.fromtimestamp(now, UTC).date()
    check = _Check(request, catalogue, today)
    if check.violations:
        raise InvalidRequest(check.violations)
    first_day = naming.parse_time_range(request.time_range)[0] if request.time_range else today
    symbol = request.symbol.upper()
    queue_id = naming.queue_id(symbol, request.requests[0].type, first_day, suffix)

    def build(name: JobName, job: JobRequest, entry: TargetType | None) -> Job:
        assert entry is not None, "checked above"
        derived = naming.collection_name(symbol, job.type, request.time_range, today) if entry.fills_collection else ""
        spec = JobSpec(
            name=name,
            target=job.target,
            type=job.type,
            telemetry_id=naming.telemetry_id(name, suffix),
            kafka_topic=naming.kafka_topic(queue_id, job.type),
            image=job.image or entry.default_image,
            lifetime=entry.lifetime,
            interval=job.interval or entry.interval_in(job.type),
            collection_inputs=tuple(job.collection_inputs),
            collection_output=job.collection_output,
            graph_collection=job.graph_collection,
            model_output=job.model_output,
            inference_interval=job.inference_interval,
            source=job.source,
            collection_name=job.collection_name or derived,
            parameters=dict(job.parameters),
            depends_on=tuple(
                [
                    Dependency(job=JobName(gate.job), condition=gate.condition or DependencyCondition.FINISHED)
                    for gate in job.depends_on
                ]
            ),
            timeout=job.timeout,
            feeds=entry.feeds,
            reads=entry.reads,
            consumer_group=entry.consumer_group.replace("{queue_id}", queue_id),
        )
        return Job(spec=spec, status=JobStatus(create_time=now))

    return Queue(
        spec=QueueSpec(
            queue_id=queue_id,
            symbol=symbol,
            create_time=now,
            start_timeout=DEFAULT_START_TIMEOUT if request.start_timeout is None else request.start_timeout,
            time_range=request.time_range,
            labels=dict(request.labels),
            request_id=request.request_id,
            fingerprint=fingerprint(request),
            failure_policy=request.failure_policy or FailurePolicy.KEEP_GOING,
            requested_by=cut(requested_by, MAX_REQUESTED_BY),
        ),
        status=QueueStatus(update_time=now),
        jobs=tuple(
            [build(name, entry.job, entry.type) for name, entry in zip(check.names, check.entries, strict=True)]
        ),
    )


def fingerprint(request: StartRequest) -> str:
    """Hash of all that the request asks for, to tell a repeated `request_id` from a misused one.

    `request_id` and `validate_only` are no part of it; neither is how a default is written (left out or spelt out) nor
    the symbol's case.
    """
    body = replace(
        request,
        symbol=request.symbol.upper(),
        requests=[_spelt_out(job) for job in request.requests],
        request_id="",
        validate_only=False,
        failure_policy=request.failure_policy or FailurePolicy.KEEP_GOING,
        start_timeout=float(DEFAULT_START_TIMEOUT if request.start_timeout is None else request.start_timeout),
    )
    return hashlib.blake2b(_CANONICAL.encode(body), digest_size=16).hexdigest()


def _spelt_out(job: JobRequest) -> JobRequest:
    """The same with its defaults written out, and numbers written in one way."""
    if not job.depends_on and job.timeout is None:
        return job
    gates = [replace(gate, condition=gate.condition or DependencyCondition.FINISHED) for gate in job.depends_on]
    return replace(job, depends_on=gates, timeout=None if job.timeout is None else float(job.timeout))


class _Entry(NamedTuple):
    """A job of the request, with what the catalogue says of it; None where the catalogue does not know it."""

    number: int
    path: str
    job: JobRequest
    target: Target | None
    type: TargetType | None

    @property
    def words(self) -> str:
        return f"{self.job.target} {self.job.type}"


class _Check:
    """All rules over one request; what is broken is added to `violations`, in the order of what is looked at."""

    def __init__(self, request: StartRequest, catalogue: Catalogue, today: date) -> None:
        self.violations: list[Violation] = []
        self._request = request
        self._catalogue = catalogue
        self.entries = []
        for i, job in enumerate(request.requests[:MAX_REQUESTS]):
            target = catalogue.target(job.target)
            self.entries.append(_Entry(i, f"requests[{i}]", job, target, target.type_of(job.type) if target else None))
        self.names = naming.job_names([entry.job.target for entry in self.entries])
        gated = any(job.depends_on for job in request.requests)
        self._circles = self._find_circles() if gated else {}
        self._derived = self._derived_collections(today)
        self._queue()

    def _add(self, path: str, rule: str | None) -> None:
        """A rule that is broken, if one is."""
        if rule:
            self.violations.append(Violation(path, rule))

    def _queue(self) -> None:
        request = self._request
        self._add("symbol", field_rules.symbol(request.symbol))
        self._time_range()
        if not request.requests:
            self._add("requests", f"is required; name 1 to {MAX_REQUESTS} microservices to launch")
        self._size("requests", request.requests, MAX_REQUESTS, "split the queue")
        for entry in self.entries:
            self._job(entry)
        if request.request_id:
            self._add("request_id", field_rules.request_id(request.request_id))
        self._size("labels", request.labels, MAX_LABELS, "leave some out")
        for name in list(request.labels)[:MAX_LABELS]:
            path = f"labels[{field_rules.key(name)}]"
            self._add(path, field_rules.label_key(name))
            self._add(path, field_rules.label_value(request.labels[name]))
        self._malformed("failure_policy")
        if request.start_timeout is not None:
            self._add("start_timeout", field_rules.start_timeout(request.start_timeout))

    def _time_range(self) -> None:
        if self._request.time_range:
            self._add("time_range", field_rules.time_range(self._request.time_range))
            return
        needing = next((entry for entry in self.entries if entry.type and entry.type.needs_time_range), None)
        if needing:
            why = f"because {needing.path} ({needing.words}) loads history"
            self._add("time_range", f"is required, {why}; add it as YYYY-MM-DD:YYYY-MM-DD")

    def _job(self, entry: _Entry) -> None:
        self._target(entry)
        kind = entry.type
        for name, value in zip(FIELDS, astuple(entry.job)[2:], strict=True):
            if value or (value is not None and name == "timeout"):
                path = f"{entry.path}.{name}"
                if kind and not kind.takes(name):
                    self._add(path, f"{entry.words} takes no {name}; leave it out")
                else:
                    self._field(entry, name, path)
            elif kind and (name in kind.required_fields or name in NEVER_PLAINLY_OPTIONAL):
                self._missing(entry, name)

    def _target(self, entry: _Entry) -> None:
        job, path, target = entry.job, entry.path, entry.target
        if target is None:
            wrong = f"{quote(job.target)} is not a known target" if job.target else "is required"
            hint = _did_you_mean(self._catalogue.nearest_target(job.target))
            known = ", ".join(self._catalogue.targets)
            self._add(f"{path}.target", f"{wrong}; {hint}the catalogue has {known}")
            if not job.type:
                self._add(f"{path}.type", "is required; say what the worker does, as ListTargets tells")
        elif entry.type is None:
            wrong = f"{quote(job.type)} is not a type of {target.name}" if job.type else "is required"
            hint = _did_you_mean(target.nearest_type(job.type))
            known = ", ".join(known.name for known in target.types)
            self._add(f"{path}.type", f"{wrong}; {hint}{target.name} takes {known}")

    def _field(self, entry: _Entry, name: str, path: str) -> None:
        """The rules of a field that was given and may be."""
        job = entry.job
        if (rule_of := field_rules.OF_TEXT_FIELDS.get(name)) is not None:
            value = getattr(job, name)
            named = entry.type.interval_in(job.type) if entry.type and name == "interval" else ""
            if named and value != named:
                rule = f"contradicts type {job.type}, which names {named}; set it to {named} or leave it out"
                self._add(path, f"{quote(value)} {rule}")
            elif rule_of is not field_rules.collection or value not in self._derived:
                self._add(path, rule_of(value))
        elif name == "collection_inputs":
            self._size(path, job.collection_inputs, MAX_COLLECTION_INPUTS, "leave some out")
            for j, collection in enumerate(job.collection_inputs[:MAX_COLLECTION_INPUTS]):
                if collection not in self._derived:
                    self._add(f"{path}[{j}]", field_rules.collection(collection))
        elif name == "parameters":
            self._size(path, job.parameters, MAX_PARAMETERS, "leave some out")
            for key in list(job.parameters)[:MAX_PARAMETERS]:
                self._add(f"{path}[{field_rules.key(key)}]", _parameter_rule(key, job.parameters[key], entry.target))
            self._missing(entry, name)
        elif name == "depends_on":
            self._depends_on(entry, path)
        elif name == "timeout":
            self._add(path, field_rules.timeout(job.timeout or 0))

    def _depends_on(self, entry: _Entry, path: str) -> None:
        gates, own, seen = entry.job.depends_on, self.names[entry.number], set[str]()
        self._size(path, gates, MAX_REQUESTS, "name each job once")
        for j, gate in enumerate(gates[:MAX_REQUESTS]):
            at = f"{path}[{j}].job"
            if gate.job == own:
                self._add(at, f"{quote(own)} cannot wait for itself; name another job")
            elif gate.job not in self.names:
                hint = _did_you_mean(nearest(gate.job, self.names))
                known = cut(", ".join(map(_bare, self.names[:MAX_REQUESTS])), 1024)
                self._add(at, f"{quote(gate.job)} is not a job of this queue; {hint}its jobs are {known}")
            elif gate.job in seen:
                self._add(at, f"{quote(gate.job)} is named twice; name each job once")
            elif circle := self._circles.get((entry.number, j)):
                self._add(at, f"closes a circle of jobs that wait for each other, {self._told(circle)}")
            seen.add(gate.job)
            self._malformed(f"{path}[{j}].")

    def _find_circles(self) -> dict[tuple[int, int], list[Wait]]:
        places: dict[str, int] = {name: i for i, name in enumerate(self.names[: len(self.entries)])}
        finished = DependencyCondition.FINISHED
        gates = [
            [(places.get(gate.job), gate.condition or finished) for gate in entry.job.depends_on[:MAX_REQUESTS]]
            for entry in self.entries
        ]
        return find_circles(gates, [self._feeders(entry) for entry in self.entries])

    def _feeders(self, reader: _Entry) -> list[int]:
        """The jobs that feed one that drains, as `rules.feeders` has it; none of another one."""
        kind = reader.type
        if kind is None or kind.lifetime is not Lifetime.DRAINS:
            return []
        return [
            other.number
            for other in self.entries
            if other.type
            and other.type.feeds
            and other is not reader
            and (kind.reads is Reads.ALL or other.job.type == reader.job.type)
        ]

    def _told(self, circle: Sequence[Wait]) -> str:
        """A circle of waits, and what to do about it."""

        def name(number: int) -> str:
            return _bare(self.names[number])

        text = cut(" → ".join(name(wait.job) for wait in (*circle, circle[0])), 1024)
        drains = [wait for wait in circle if wait.drains]
        if not drains:
            return f"{text}; take one of them out"
        why = cut(
            ", and ".join(f"{name(wait.job)} drains only after {name(wait.other)} has ended" for wait in drains), 1024
        )
        return f"{text}, because {why}; take one of the gates out, or let it wait for STARTED"

    def _missing(self, entry: _Entry, name: str) -> None:
        """What is broken because a field, or a part of it, was not given."""
        if entry.target is None or entry.type is None:
            return
        if name in entry.type.required_fields and not getattr(entry.job, name):
            self._add(f"{entry.path}.{name}", f"is required by {entry.words}; add it")
        elif name == "image" and self._catalogue.needs_image(entry.target, entry.type):
            rule = f"is required, because the catalogue has no image for {entry.words}; add it, or have it set there"
            self._add(f"{entry.path}.{name}", rule)
        elif name == "parameters":
            for parameter in entry.target.parameters:
                if parameter.required and not entry.job.parameters.get(parameter.name):
                    path = f"{entry.path}.{name}[{field_rules.key(parameter.name)}]"
                    self._add(path, f"is required by {entry.words}; add it")

    def _malformed(self, path: str) -> None:
        if self._request.malformed:
            self.violations += [found for found in self._request.malformed if found.field.startswith(path)]

    def _size(self, path: str, given: Sequence[object] | Mapping[str, str], most: int, remedy: str) -> None:
        if len(given) > most:
            self._add(path, f"has {len(given)} entries, at most {most} are allowed; {remedy}")

    def _derived_collections(self, today: date) -> frozenset[str]:
        """Names derived in this queue, which are taken as they are: 1000PEPEUSDT's begin with a digit."""
        request = self._request
        types = {entry.job.type for entry in self.entries if entry.type and entry.type.fills_collection}
        broken_range = request.time_range and field_rules.time_range(request.time_range)
        if broken_range or field_rules.symbol(request.symbol):
            return frozenset()
        return frozenset([naming.collection_name(request.symbol, kind, request.time_range, today) for kind in types])


def _parameter_rule(name: str, value: str, target: Target | None) -> str | None:
    """The rule that a parameter breaks, if it does one."""
    parameter = target.parameter(name) if target else None
    if target and parameter is None:
        hint = _did_you_mean(nearest(name, [known.name for known in target.parameters]))
        known = ", ".join(known.name for known in target.parameters) or "none"
        return f"is not a parameter of {target.name}; {hint}it takes {known}"
    if broken := field_rules.parameter_text(value):
        return broken
    broken = parameter.broken_rule(value) if parameter else None
    return f"{quote(value)} {broken}" if broken else None


def _did_you_mean(name: str | None) -> str:
    return f"did you mean {quote(name)}? " if name else ""


def _bare(name: str) -> str:
    return quote(name)[1:-1]
