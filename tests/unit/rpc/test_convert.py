"""The core's values as messages: every enum value in both directions, every field of any queue."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest
from google.protobuf.descriptor import EnumDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from queue_manager.server.application.diagnosis import Severity
from queue_manager.server.application.topic import FrameKind
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.catalogue import ParameterType, TimeRangeEnd
from queue_manager.server.domain.history import Event, EventType, JobChange
from queue_manager.server.domain.launch import LaunchSpecs, Platform
from queue_manager.server.domain.model import (
    Dependency,
    DependencyCondition,
    FailurePolicy,
    Job,
    JobName,
    JobSpec,
    JobState,
    JobStatus,
    Lifetime,
    Queue,
    QueueId,
    QueueSpec,
    QueueState,
    QueueStatus,
    Reads,
    Reason,
    RunnerRef,
    StateReason,
    Stop,
    StopMode,
)
from queue_manager.server.rpc import convert, frames, requests, targets
from queue_manager.v1 import queue_pb2, service_pb2, target_pb2
from tests.unit.domain.samples import accepted, payload

TIMES = st.floats(0, 4e9)
COUNTS = st.integers(0, 2**60)
LARGEST = 2**63 - 1
"""The largest number that a message has room for."""
TEXTS = st.text(max_size=8)

ENUMS: list[tuple[type[StrEnum], EnumDescriptor, Any]] = [
    (QueueState, queue_pb2.QueueState.DESCRIPTOR, convert.QUEUE_STATES),
    (JobState, queue_pb2.JobState.DESCRIPTOR, convert.JOB_STATES),
    (Reason, queue_pb2.Reason.DESCRIPTOR, convert.REASONS),
    (FailurePolicy, queue_pb2.FailurePolicy.DESCRIPTOR, convert.POLICIES),
    (Lifetime, queue_pb2.Lifetime.DESCRIPTOR, convert.LIFETIMES),
    (DependencyCondition, queue_pb2.DependencyCondition.DESCRIPTOR, convert.CONDITIONS),
    (EventType, queue_pb2.EventType.DESCRIPTOR, convert.EVENT_TYPES),
    (FrameKind, service_pb2.FrameKind.DESCRIPTOR, frames.KINDS),
    (StopMode, service_pb2.StopMode.DESCRIPTOR, {mode: number for number, mode in requests._MODE_OF.items()}),
    (Severity, service_pb2.Severity.DESCRIPTOR, convert.SEVERITIES),
    (ParameterType, target_pb2.ParameterType.DESCRIPTOR, targets.PARAMETER_TYPES),
    (TimeRangeEnd, target_pb2.TimeRangeEnd.DESCRIPTOR, targets.TIME_RANGE_ENDS),
    (Reads, target_pb2.Reads.DESCRIPTOR, targets.READS),
]


@pytest.mark.parametrize(("domain", "descriptor", "table"), ENUMS, ids=[domain.__name__ for domain, _, _ in ENUMS])
def test_every_enum_value_has_its_counterpart_in_both_directions(
    domain: type[StrEnum], descriptor: EnumDescriptor, table: dict[StrEnum, int]
) -> None:
    """But UNSPECIFIED, which is 0 and which the core does not know; and the tables say the same."""
    unspecified, *values = sorted(descriptor.values, key=lambda value: value.number)
    assert (unspecified.number, unspecified.name.endswith("_UNSPECIFIED")) == (0, True)
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    assert {value.name for value in values} == {prefix + member.name for member in domain}
    assert all(member.value.upper() == member.name for member in domain)
    assert table == {member: descriptor.values_by_name[prefix + member.name].number for member in domain}


def test_every_enum_of_the_contract_is_covered() -> None:
    """One that is added to the contract is added to the list above."""
    files = (queue_pb2.DESCRIPTOR, service_pb2.DESCRIPTOR, target_pb2.DESCRIPTOR)
    declared = {name for file in files for name in file.enum_types_by_name}
    assert declared == {descriptor.name for _, descriptor, _ in ENUMS}


# --- Times ------------------------------------------------------------------------------------------------------------


@given(st.floats(-1e10, 1e10))
def test_a_time_is_kept_to_the_microsecond(seconds: float) -> None:
    """Also one before the epoch: nanos are never negative."""
    found = convert.timestamp(seconds)
    assert found is not None
    assert 0 <= found.nanos < 10**9
    assert found.seconds + found.nanos / 1e9 == pytest.approx(seconds, abs=2e-6)


@given(st.floats(0, 1e9))
def test_a_duration_is_kept_to_the_microsecond(seconds: float) -> None:
    """Like a time."""
    found = convert.duration(seconds)
    assert found is not None
    assert found.ToTimedelta().total_seconds() == pytest.approx(seconds, abs=2e-6)


def test_a_time_is_the_moment_that_it_names() -> None:
    """In UTC."""
    assert convert.timestamp(1722500000.0).ToDatetime(UTC) == datetime(2024, 8, 1, 8, 13, 20, tzinfo=UTC)


# --- Queues -----------------------------------------------------------------------------------------------------------

REASONS = st.builds(StateReason, code=st.sampled_from(Reason), message=TEXTS)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    """Any job."""
    name = JobName(draw(TEXTS))
    return Job(
        spec=JobSpec(
            name=name,
            target=draw(TEXTS),
            type=draw(TEXTS),
            telemetry_id=draw(TEXTS),
            kafka_topic=draw(TEXTS),
            image=draw(TEXTS),
            lifetime=draw(st.sampled_from(Lifetime)),
            collection_inputs=tuple(draw(st.lists(TEXTS, max_size=3))),
            parameters=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
            depends_on=tuple(
                draw(
                    st.lists(
                        st.builds(Dependency, job=TEXTS.map(JobName), condition=st.sampled_from(DependencyCondition)),
                        max_size=2,
                    )
                )
            ),
            timeout=draw(st.none() | st.floats(0.001, 3e7)),
        ),
        status=JobStatus(
            state=draw(st.sampled_from(JobState)),
            reason=draw(st.none() | REASONS),
            attempt=draw(st.integers(1, 2**31 - 1)),
            create_time=draw(TIMES),
            start_time=draw(st.none() | TIMES),
            end_time=draw(st.none() | TIMES),
            runner=draw(
                st.none()
                | st.builds(
                    RunnerRef, runner=TEXTS, name=TEXTS, uid=TEXTS, namespace=TEXTS, pid=st.integers(0, 2**31 - 1)
                )
            ),
            exit_code=draw(st.none() | st.integers(0, 255)),
            records_written=draw(COUNTS),
            progress=draw(st.none() | st.floats(0, 1)),
            message=draw(TEXTS),
            last_error=draw(TEXTS),
            error_count=draw(COUNTS),
            last_telemetry_time=draw(st.none() | TIMES),
        ),
    )


@st.composite
def queues(draw: st.DrawFn) -> Queue:
    """Any queue."""
    return Queue(
        spec=QueueSpec(
            queue_id=QueueId(draw(TEXTS)),
            symbol=draw(TEXTS),
            create_time=draw(TIMES),
            start_timeout=draw(st.floats(0.001, 86400)),
            time_range=draw(TEXTS),
            labels=draw(st.dictionaries(TEXTS, TEXTS, max_size=2)),
            request_id=draw(TEXTS),
            failure_policy=draw(st.sampled_from(FailurePolicy)),
            requested_by=draw(TEXTS),
        ),
        status=QueueStatus(
            state=draw(st.sampled_from(QueueState)),
            reason=draw(st.none() | REASONS),
            start_time=draw(st.none() | TIMES),
            end_time=draw(st.none() | TIMES),
            update_time=draw(TIMES),
            stop=draw(
                st.none()
                | st.builds(Stop, mode=st.sampled_from(StopMode), time=TIMES, deadline=TIMES, reason=TEXTS, by=TEXTS)
            ),
            message=draw(TEXTS),
        ),
        jobs=tuple(draw(st.lists(jobs(), min_size=1, max_size=3))),
        revision=draw(COUNTS),
    )


def _same_reason(message: Any, reason: StateReason | None) -> None:
    assert message.HasField("state_reason") == (reason is not None)
    if reason is not None:
        assert queue_pb2.Reason.Name(message.state_reason.code) == f"REASON_{reason.code}"
        assert message.state_reason.message == reason.message


def _same_times(message: Any, status: Any, *names: str) -> None:
    for name in names:
        value = getattr(status, name)
        assert message.HasField(name) == (value is not None)
        if value is not None:
            field = getattr(message, name)
            assert field.seconds + field.nanos / 1e9 == pytest.approx(value, abs=2e-6)


@settings(max_examples=60)
@given(queues())
def test_any_queue_is_a_message_that_says_the_same(queue: Queue) -> None:
    """Whatever its numbers, texts and states are: encoding it never fails."""
    message = convert.queue_message(queue)
    spec, status, stop = queue.spec, queue.status, queue.status.stop
    for name in ("queue_id", "symbol", "time_range", "request_id", "requested_by"):
        assert getattr(message, name) == getattr(spec, name)
    assert dict(message.labels) == spec.labels
    assert queue_pb2.QueueState.Name(message.state) == f"QUEUE_STATE_{status.state}"
    assert queue_pb2.FailurePolicy.Name(message.failure_policy) == f"FAILURE_POLICY_{spec.failure_policy}"
    _same_reason(message, status.reason)
    _same_times(message, status, "start_time", "end_time", "update_time")
    _same_times(message, spec, "create_time")
    assert (message.stop_reason, message.stopped_by) == ((stop.reason, stop.by) if stop else ("", ""))
    assert message.HasField("stop_deadline") == (stop is not None and status.state is QueueState.STOPPING)
    assert (message.revision, message.message) == (queue.revision, status.message)
    assert message.records_written == sum(job.status.records_written for job in queue.jobs)
    known = all(job.status.progress is not None or job.status.state is JobState.FINISHED for job in queue.jobs)
    assert message.HasField("progress") == known
    assert 0 <= message.progress <= 1
    for said, job in zip(message.jobs, queue.jobs, strict=True):
        _same_job(said, job)


def _same_job(message: queue_pb2.Job, job: Job) -> None:
    spec, status = job.spec, job.status
    for name in ("name", "target", "type", "telemetry_id", "kafka_topic", "image", "collection_name", "source"):
        assert getattr(message, name) == getattr(spec, name)
    for name in ("attempt", "records_written", "message", "last_error", "error_count"):
        assert getattr(message, name) == getattr(status, name)
    assert tuple(message.collection_inputs) == spec.collection_inputs
    assert dict(message.parameters) == spec.parameters
    assert [(gate.job, queue_pb2.DependencyCondition.Name(gate.condition)) for gate in message.depends_on] == [
        (gate.job, f"DEPENDENCY_CONDITION_{gate.condition}") for gate in spec.depends_on
    ]
    assert queue_pb2.JobState.Name(message.state) == f"JOB_STATE_{status.state}"
    assert queue_pb2.Lifetime.Name(message.lifetime) == f"LIFETIME_{spec.lifetime}"
    _same_reason(message, status.reason)
    _same_times(message, status, "create_time", "start_time", "end_time", "last_telemetry_time")
    for name in ("progress", "exit_code"):
        assert message.HasField(name) == (getattr(status, name) is not None)  # type: ignore[arg-type]
        assert not message.HasField(name) or getattr(message, name) == getattr(status, name)  # type: ignore[arg-type]
    assert message.HasField("timeout") == (spec.timeout is not None)
    assert message.HasField("runner") == (status.runner is not None)
    if status.runner is not None:
        assert (message.runner.uid, message.runner.pid) == (status.runner.uid, status.runner.pid)


def test_every_field_of_a_queue_and_a_job_is_filled() -> None:
    """A field that is added to the contract is not forgotten: each is set for a queue that has everything."""
    reason = StateReason(code=Reason.EXIT_CODE, message="m")
    spec = JobSpec(
        name=JobName("n"),
        target="t",
        type="y",
        telemetry_id="i",
        kafka_topic="k",
        image="g",
        lifetime=Lifetime.FINITE,
        collection_inputs=("c",),
        collection_name="c",
        parameters={"p": "v"},
        depends_on=(Dependency(job=JobName("d")),),
        timeout=1.0,
        interval="5m",
        collection_output="o",
        graph_collection="g",
        model_output="m",
        inference_interval="1m",
        source="s",
    )
    status = JobStatus(
        state=JobState.FAILED,
        reason=reason,
        create_time=1.0,
        start_time=2.0,
        end_time=3.0,
        last_telemetry_time=2.5,
        runner=RunnerRef(runner="r", name="n", uid="u", namespace="s", pid=1),
        exit_code=1,
        records_written=1,
        progress=0.5,
        message="m",
        last_error="e",
        error_count=1,
    )
    queue = Queue(
        spec=QueueSpec(
            queue_id=QueueId("q"),
            symbol="s",
            create_time=1.0,
            start_timeout=1.0,
            time_range="t",
            labels={"k": "v"},
            request_id="r",
            requested_by="b",
        ),
        status=QueueStatus(
            state=QueueState.STOPPING,
            reason=reason,
            start_time=1.0,
            end_time=2.0,
            update_time=2.0,
            stop=Stop(mode=StopMode.GRACEFUL, time=1.0, deadline=2.0, reason="r", by="b"),
            message="m",
        ),
        jobs=(Job(spec=spec, status=status),),
        revision=1,
    )
    message = convert.queue_message(queue)
    for part in (message, message.jobs[0], message.jobs[0].runner, message.state_reason):
        missing = {field.name for field in part.DESCRIPTOR.fields} - {field.name for field, _ in part.ListFields()}
        assert not missing


def with_statuses(*statuses: JobStatus) -> Queue:
    """A queue of as many jobs."""
    queue = accepted(payload("historical"))
    return replace(
        queue,
        jobs=tuple(Job(spec=queue.jobs[0].spec, status=status) for status in statuses),
    )


def test_a_queues_progress_is_known_when_every_jobs_is() -> None:
    """The mean; a finished job counts as wholly done."""
    half = JobStatus(create_time=0.0, progress=0.5)
    silent, finished = JobStatus(create_time=0.0), JobStatus(create_time=0.0, state=JobState.FINISHED)
    assert convert.queue_progress(with_statuses(half, silent)) is None
    assert convert.queue_progress(with_statuses(half, finished)) == 0.75


def test_counts_that_workers_make_up_do_not_make_a_queue_unreadable() -> None:
    """Two workers say the largest number that telemetry takes: the sum is as large as it can be told, and no error."""
    mad = JobStatus(create_time=0.0, records_written=LARGEST)
    message = convert.queue_message(with_statuses(mad, mad))
    assert message.records_written == LARGEST


# --- Events, plans, the catalogue -------------------------------------------------------------------------------------


@given(
    st.builds(
        Event,
        revision=COUNTS,
        time=TIMES,
        type=st.sampled_from(EventType),
        before=st.none() | st.sampled_from(QueueState),
        after=st.sampled_from(QueueState),
        actor=TEXTS,
        message=TEXTS,
        job_changes=st.lists(
            st.builds(
                JobChange,
                job=TEXTS.map(JobName),
                attempt=st.integers(1, 100),
                before=st.none() | st.sampled_from(JobState),
                after=st.sampled_from(JobState),
                reason=st.none() | REASONS,
            ),
            max_size=3,
        ).map(tuple),
    )
)
def test_any_event_is_a_message_that_says_the_same(event: Event) -> None:
    """A queue or job that is new was UNSPECIFIED before."""
    message = queue_pb2.QueueEvent.FromString(convert.encode_event(event))
    assert (message.revision, message.actor, message.message) == (event.revision, event.actor, event.message)
    assert queue_pb2.EventType.Name(message.type) == f"EVENT_TYPE_{event.type}"
    assert queue_pb2.QueueState.Name(message.before) == f"QUEUE_STATE_{event.before or 'UNSPECIFIED'}"
    assert queue_pb2.QueueState.Name(message.after) == f"QUEUE_STATE_{event.after}"
    for said, change in zip(message.job_changes, event.job_changes, strict=True):
        assert (said.job, said.attempt) == (change.job, change.attempt)
        assert queue_pb2.JobState.Name(said.before) == f"JOB_STATE_{change.before or 'UNSPECIFIED'}"
        assert queue_pb2.JobState.Name(said.after) == f"JOB_STATE_{change.after}"
        assert said.HasField("reason") == (change.reason is not None)


def test_a_plan_names_its_secrets_and_does_not_tell_them() -> None:
    """The names of the variables, not where they come from."""
    queue = accepted(payload("historical"))
    platform = Platform(arango_url="http://a", arango_password=True, kafka_password=True)
    message = convert.plan_message(LaunchSpecs(builtin_catalogue(), platform)(queue, queue.jobs[0]))
    assert "ARANGO_PASSWORD" in message.secret_environment
    assert not set(message.secret_environment) & set(message.environment)
    assert message.job == queue.jobs[0].name
    assert len(message.worker_name) <= 63
