"""docs/events.schema.json describes what the manager says on the events topic: all of it, and nothing else.

What becomes of commands is checked where they are tested, by the fixture of `tests/unit/application/test_commands.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from queue_manager.server.domain import errors
from queue_manager.server.domain.command import CommandKind
from queue_manager.server.domain.field_rules import request_id
from queue_manager.server.domain.history import Entry, Event, EventType, JobChange, record
from queue_manager.server.domain.model import (
    JobName,
    JobState,
    Queue,
    QueueState,
    QueueStatus,
    Reason,
    StateReason,
    StopMode,
)
from queue_manager.server.domain.naming import QUEUE_ID_LIMIT
from queue_manager.server.domain.publication import PRODUCER, outcome, publications
from tests.support.event_schema import KINDS, SCHEMA, as_sent, fault
from tests.unit.domain.play import NOW, Play, queue_of, running, spec

TOLD = [kind for kind in EventType if kind is not EventType.PROGRESS]
REASONS = [None, *Reason]
COMMAND_ID = "queue-control:3:1a2b:17"


def definition(name: str) -> Any:
    """A part of the schema."""
    return SCHEMA["$defs"][name]


def reason_of(code: Reason | None, message: str = "because") -> StateReason | None:
    """A reason with this code."""
    return None if code is None else StateReason(code=code, message=message)


def examples() -> Iterator[tuple[str, Any]]:
    """The schema's own: (kind, event)."""
    for name, kind in KINDS.items():
        for example in kind["examples"]:
            yield name, example


def kinds_of(event: object) -> list[str]:
    """The kinds that an event is of."""
    whole = {"$schema": SCHEMA["$schema"], "$defs": SCHEMA["$defs"]}
    return [name for name in KINDS if Draft202012Validator({**whole, "$ref": f"#/$defs/{name}"}).is_valid(event)]


def test_the_schema_is_one_and_each_of_its_examples_is_of_one_kind() -> None:
    """Its own; each kind has some, and a title and a description."""
    Draft202012Validator.check_schema(SCHEMA)
    assert [branch["$ref"] for branch in SCHEMA["oneOf"]] == [f"#/$defs/{name}" for name in KINDS]
    assert {name for name, _ in examples()} == set(KINDS)
    for name, example in examples():
        assert not fault(example)
        assert kinds_of(example) == [name]
    assert all(
        kind["title"] and kind["description"] and kind["additionalProperties"] is False for kind in KINDS.values()
    )


def test_its_enums_are_the_codes() -> None:
    """Neither more nor less, in the same order."""
    assert definition("reason")["enum"] == [str(reason) for reason in Reason]
    assert definition("queue_status")["enum"] == [state.lower() for state in QueueState]
    assert definition("job_status")["enum"] == [state.lower() for state in JobState]
    assert definition("producer")["const"] == PRODUCER
    events = [*KINDS["queue_event"]["properties"]["event"]["enum"], KINDS["job_event"]["properties"]["event"]["const"]]
    assert sorted(events) == sorted(kind.lower() for kind in TOLD)
    rejected = KINDS["command_rejected"]["properties"]
    assert rejected["command"]["enum"] == [str(kind) for kind in CommandKind]
    accepted = [KINDS[name]["properties"]["command"]["const"] for name in KINDS if name.endswith("_accepted")]
    assert sorted(accepted) == sorted(set(CommandKind) - {CommandKind.RETRY})
    whys = (errors.InvalidRequest, errors.NotFound, errors.RequestIdReused, errors.QueueManagerError)
    assert rejected["reason"]["enum"] == [why.reason for why in whys]
    assert definition("queue_id")["maxLength"] == QUEUE_ID_LIMIT


@pytest.mark.parametrize("length", [0, 1, 128, 129])
def test_a_request_id_is_what_the_rules_allow(length: int) -> None:
    """No more, no less."""
    pattern = KINDS["start_accepted"]["properties"]["request_id"]
    for text in ("a", ".", "_", ":", "-", "/", " ", "é"):
        assert Draft202012Validator(pattern).is_valid(text * length) is (
            bool(length) and request_id(text * length) is None
        )


def entry_of(
    kind: EventType, *, queue: QueueStatus, changes: tuple[JobChange, ...] = (), actor: str, message: str
) -> Entry:
    """What history keeps of such a change."""
    event = Event(
        revision=7,
        time=NOW,
        type=kind,
        before=None,
        after=queue.state,
        job_changes=changes,
        actor=actor,
        message=message,
    )
    return Entry(event=event, status=queue)


def test_every_change_of_a_queue_is_described() -> None:
    """Each type in each state for each reason, and for none."""
    queue = queue_of(spec("a"))
    kinds = [kind for kind in TOLD if kind is not EventType.JOB_STATE_CHANGED]
    for kind, state, code in product(kinds, QueueState, REASONS):
        status = QueueStatus(update_time=NOW, state=state, reason=reason_of(code))
        ((_, event),) = publications(queue, entry_of(kind, queue=status, actor="alice", message="a change"))
        assert kinds_of(as_sent(event)) == ["queue_event"], fault(as_sent(event))


def test_every_change_of_a_job_is_described() -> None:
    """Each state for each reason, and for none."""
    queue = queue_of(spec("a"))
    for state, code in product(JobState, REASONS):
        change = JobChange(job=JobName("a"), attempt=2, before=None, after=state, reason=reason_of(code, ""))
        entry = entry_of(EventType.JOB_STATE_CHANGED, queue=queue.status, changes=(change,), actor="", message="")
        ((_, event),) = publications(queue, entry)
        assert kinds_of(as_sent(event)) == ["job_event"], fault(as_sent(event))


def test_mere_progress_is_not_told() -> None:
    """So the schema need not know of it."""
    before, _, _ = record(None, queue_of(spec("a")), now=NOW)
    status = replace(before.jobs[0].status, records_written=5)
    after = replace(before, jobs=(replace(before.jobs[0], status=status),))
    _, event, entry = record(before, after, now=NOW)
    assert (event.type, entry) == (EventType.PROGRESS, None)


texts = st.text(max_size=40)
state_reasons = st.builds(StateReason, code=st.sampled_from(Reason), message=texts)


@given(
    revision=st.integers(1, 2**63 - 1),
    time=st.floats(0, 1e11),
    kind=st.sampled_from(TOLD),
    state=st.sampled_from(QueueState),
    why=st.none() | state_reasons,
    jobs=st.lists(
        st.builds(
            JobChange,
            job=st.sampled_from([JobName("a"), JobName("b-2")]),
            attempt=st.integers(1, 1000),
            before=st.none() | st.sampled_from(JobState),
            after=st.sampled_from(JobState),
            reason=st.none() | state_reasons,
        ),
        max_size=3,
    ),
    actor=texts,
    message=texts,
)
def test_whatever_happens_is_described(
    revision: int,
    time: float,
    kind: EventType,
    state: QueueState,
    why: StateReason | None,
    jobs: list[JobChange],
    actor: str,
    message: str,
) -> None:
    """Any texts, numbers and combinations."""
    status = QueueStatus(update_time=time, state=state, reason=why)
    entry = entry_of(kind, queue=status, changes=tuple(jobs), actor=actor, message=message)
    entry = replace(entry, event=replace(entry.event, revision=revision, time=time))
    for _, event in publications(queue_of(spec("a"), spec("b-2")), entry):
        assert not fault(as_sent(event))


def test_what_a_life_tells_is_described() -> None:
    """From its creation to the end, with a failure and a stop, as `record` makes its events."""
    play = Play(spec("a"), spec("b"))
    told: list[Mapping[str, object]] = []
    stored: Queue | None = None

    def tell() -> None:
        nonlocal stored
        stored, _, entry = record(stored, play.queue, now=play.now)
        play.queue = stored
        if entry is not None:
            told.extend(event for _, event in publications(stored, entry))

    tell()
    play.runs("a", "b")
    tell()
    play.exits("a", 1)
    tell()
    play.stop(StopMode.FORCE)
    tell()
    play.gone("b")
    tell()
    assert {event["event"] for event in told} == {kind.lower() for kind in TOLD}
    assert play.queue.ended
    assert [fault(as_sent(event)) for event in told] == [""] * len(told)


def sample_events() -> list[Any]:
    """One of each kind, as the code makes them."""
    play = running(spec("a"))
    play.stop()
    queue, _, entry = record(None, play.queue, now=NOW)
    assert entry is not None
    events = [event for _, event in publications(queue, entry)]
    named = {"queue_id": queue.queue_id}
    events += [
        outcome("start", COMMAND_ID, {**named, "request_id": COMMAND_ID, "created": True}, accepted=True, now=NOW),
        outcome("stop", COMMAND_ID, {"queue_id": "all", "queues": 2}, accepted=True, now=NOW),
        outcome("ping", COMMAND_ID, {**named, "message": "workers answer"}, accepted=True, now=NOW),
        outcome(
            "start",
            COMMAND_ID,
            {
                "queue_id": "",
                "request_id": COMMAND_ID,
                "reason": "INVALID_REQUEST",
                "error_message": "symbol: is no symbol",
                "violations": [{"field": "symbol", "description": "is no symbol"}],
            },
            accepted=False,
            now=NOW,
        ),
    ]
    return [as_sent(event) for event in events]


SAMPLES = sample_events()


def test_the_samples_are_of_every_kind() -> None:
    """Else a kind's mutations would not be tried."""
    assert [kind for event in SAMPLES for kind in kinds_of(event)] == list(KINDS)


@pytest.mark.parametrize("sample", SAMPLES, ids=list(KINDS))
def test_an_event_that_lacks_a_field_or_has_another_one_is_refused(sample: Any) -> None:
    """Each field; `reason` and `error_message` only together."""
    for field in sample:
        assert fault({name: value for name, value in sample.items() if name != field}), field
    assert fault({**sample, "surprise": 1})
    assert fault({**sample, "queues": 1, "job": "a", "created": True})


@pytest.mark.parametrize("sample", SAMPLES, ids=list(KINDS))
@pytest.mark.parametrize("wrong", [None, [], {}, -1.5, "No such thing!"], ids=repr)
def test_an_event_with_a_value_that_cannot_be_is_refused(sample: Any, wrong: object) -> None:
    """A wrong type in each field; a text that is no id, state, name or reason where it must be one."""
    free = {"message", "actor", "error_message", "target", "type", "job"}
    if sample["event"] == "command_rejected" or sample.get("command") == "ping":
        free |= {"queue_id", "request_id"} if sample["command"] == "start" else {"queue_id"}  # what the command said
    for field in sample:
        if isinstance(wrong, str) and field in free:
            continue
        assert fault({**sample, field: wrong}), f"{field}: {wrong!r}"


@pytest.mark.parametrize("sample", SAMPLES, ids=list(KINDS))
def test_values_of_other_kinds_are_refused(sample: Any) -> None:
    """A job's state of a queue, an event under another's name, a verdict that contradicts itself."""
    for other in SAMPLES:
        for field in ("event", "status", "command"):
            if field in sample and field in other and other[field] != sample[field]:
                mixed = {**sample, field: other[field]}
                assert fault(mixed) or kinds_of(mixed) == kinds_of(sample)
    states = {"launching", "lost", "accepted"} if "job" not in sample else {"stopping", "accepted"}
    if "revision" in sample:
        assert all(fault({**sample, "status": state}) for state in states)
        assert fault({**sample, "status": str(sample["status"]).upper()})
        assert fault({**sample, "revision": 0})
        assert fault({**sample, "revision": True})
    else:
        assert fault({**sample, "status": "running"})


def test_violations_go_with_an_invalid_request_and_queues_with_every_queue() -> None:
    """And with nothing else."""
    rejected, stopped = SAMPLES[-1], SAMPLES[-3]
    assert fault({**rejected, "reason": "QUEUE_NOT_FOUND"})
    without = copy.deepcopy(rejected)
    del without["violations"]
    assert not fault({**without, "reason": "QUEUE_NOT_FOUND"})
    wrong: list[list[object]] = [[], [{}], [{"field": "symbol"}], [{"field": 1, "description": "x"}], [1]]
    for violations in wrong:
        assert fault({**rejected, "violations": violations})
    for command in ("stop", "ping", "retry"):
        assert fault({**rejected, "command": command}), "only a start has a request_id"
    assert fault({**stopped, "queue_id": "wf-a"})
    one = {name: value for name, value in stopped.items() if name != "queues"}
    assert not fault({**one, "queue_id": "wf-a"})
    assert fault({**one, "queue_id": "*"})
