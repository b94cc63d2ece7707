"""Between the core's values and the contract's messages. Total in both directions; tests go through every enum value."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.server.application.diagnosis import Diagnosis, Severity
from queue_manager.server.application.ports import DeadLetter
from queue_manager.server.domain.history import Event, EventType
from queue_manager.server.domain.launch import LaunchSpec
from queue_manager.server.domain.model import (
    DependencyCondition,
    FailurePolicy,
    JobSpec,
    JobState,
    JobStatus,
    Lifetime,
    Queue,
    QueueSpec,
    QueueState,
    Reason,
    StateReason,
)
from queue_manager.v1 import dead_letter_pb2, queue_pb2, service_pb2

QUEUE_STATES: Final = {s: queue_pb2.QueueState.Value(f"QUEUE_STATE_{s}") for s in QueueState}
JOB_STATES: Final = {s: queue_pb2.JobState.Value(f"JOB_STATE_{s}") for s in JobState}
SEVERITIES: Final = {s: service_pb2.Severity.Value(f"SEVERITY_{s}") for s in Severity}
REASONS: Final = {r: queue_pb2.Reason.Value(f"REASON_{r}") for r in Reason}
POLICIES: Final = {p: queue_pb2.FailurePolicy.Value(f"FAILURE_POLICY_{p}") for p in FailurePolicy}
LIFETIMES: Final = {x: queue_pb2.Lifetime.Value(f"LIFETIME_{x}") for x in Lifetime}
CONDITIONS: Final = {c: queue_pb2.DependencyCondition.Value(f"DEPENDENCY_CONDITION_{c}") for c in DependencyCondition}
EVENT_TYPES: Final = {e: queue_pb2.EventType.Value(f"EVENT_TYPE_{e}") for e in EventType}


LARGEST_INT64: Final = 2**63 - 1

_OFTEN_EMPTY: Final = (
    *("interval", "collection_output", "graph_collection", "model_output", "inference_interval", "source"),
    "collection_name",
)


@lru_cache(maxsize=256)  # all jobs of a queue are made at one time, and changes of a moment have its time
def timestamp(seconds: float) -> Timestamp:
    """A time as the well-known type, to the microsecond. Not to be changed: others are given the same."""
    micros = round(seconds * 1e6)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


@lru_cache(maxsize=256)
def duration(seconds: float) -> Duration:
    """A duration as the well-known type, to the microsecond. Not to be changed: others are given the same."""
    micros = round(seconds * 1e6)
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def queue_message(queue: Queue) -> queue_pb2.Queue:
    """A queue as callers get it."""
    message = queue_pb2.Queue()
    write_queue_spec(message, queue.spec)
    write_queue_status(message, queue)
    for job in queue.jobs:
        told = message.jobs.add()
        write_job_spec(told, job.spec)
        write_job_status(told, job.status)
    return message


# What never changes of a queue and a job, and what does, are written apart, so that `encoder` can keep the bytes of the
# first. Fields are assigned one by one, and only those that have a value: as a constructor's arguments they cost up to
# twice as much.


def write_queue_spec(message: queue_pb2.Queue, spec: QueueSpec) -> None:
    """Write what never changes of a queue."""
    message.queue_id = spec.queue_id
    message.symbol = spec.symbol
    message.time_range = spec.time_range
    if spec.labels:
        message.labels.update(spec.labels)
    message.request_id = spec.request_id
    message.failure_policy = POLICIES[spec.failure_policy]
    message.create_time.CopyFrom(timestamp(spec.create_time))
    message.requested_by = spec.requested_by
    message.start_timeout.CopyFrom(duration(spec.start_timeout))


def write_queue_status(message: queue_pb2.Queue, queue: Queue) -> None:
    """Write what changes of a queue, less its jobs."""
    status = queue.status
    message.state = QUEUE_STATES[status.state]
    message.revision = queue.revision
    message.update_time.CopyFrom(timestamp(status.update_time))
    message.records_written = min(sum([job.status.records_written for job in queue.jobs]), LARGEST_INT64)
    if (progress := queue_progress(queue)) is not None:
        message.progress = progress
    if status.reason is not None:
        _write_reason(message.state_reason, status.reason)
    if status.start_time is not None:
        message.start_time.CopyFrom(timestamp(status.start_time))
    if status.end_time is not None:
        message.end_time.CopyFrom(timestamp(status.end_time))
    if (stop := status.stop) is not None:
        message.stop_reason = stop.reason
        message.stopped_by = stop.by
        if status.state is QueueState.STOPPING:
            message.stop_deadline.CopyFrom(timestamp(stop.deadline))
    if status.message:
        message.message = status.message


def queue_progress(queue: Queue) -> float | None:
    """The mean of the jobs' progress, where every job knows its own; a finished job counts as 1."""
    total = 0.0
    for job in queue.jobs:
        known = 1.0 if job.status.state is JobState.FINISHED else job.status.progress
        if known is None:
            return None
        total += known
    return total / len(queue.jobs)


def encode_event(event: Event) -> bytes:
    """An event as callers get it, serialised."""
    message = queue_pb2.QueueEvent()
    message.revision = event.revision
    message.time.CopyFrom(timestamp(event.time))
    message.type = EVENT_TYPES[event.type]
    if event.before is not None:
        message.before = QUEUE_STATES[event.before]
    message.after = QUEUE_STATES[event.after]
    for change in event.job_changes:
        told = message.job_changes.add()
        told.job = change.job
        told.attempt = change.attempt
        if change.before is not None:
            told.before = JOB_STATES[change.before]
        told.after = JOB_STATES[change.after]
        if change.reason is not None:
            _write_reason(told.reason, change.reason)
    message.actor = event.actor
    message.message = event.message
    return message.SerializeToString()


def plan_message(spec: LaunchSpec) -> service_pb2.LaunchPlan:
    """How a job would be launched, less its secrets."""
    return service_pb2.LaunchPlan(
        job=spec.key.job,
        worker_name=spec.key.name,
        image=spec.image,
        command=spec.command,
        environment=spec.environment,
        secret_environment=sorted(spec.secret_environment),
    )


def diagnosis_message(diagnosis: Diagnosis) -> service_pb2.DiagnoseResponse:
    """What is wrong."""
    findings = [
        service_pb2.Finding(
            severity=SEVERITIES[finding.severity],
            part=finding.part,
            message=finding.message,
            remedy=finding.remedy,
            subjects=finding.subjects,
        )
        for finding in diagnosis.findings
    ]
    return service_pb2.DiagnoseResponse(findings=findings, version=diagnosis.version, parts=diagnosis.parts)


def dead_letter_message(letter: DeadLetter) -> dead_letter_pb2.DeadLetter:
    """A dead letter as callers get it."""
    return dead_letter_pb2.DeadLetter(
        id=letter.id,
        bury_time=timestamp(letter.time),
        topic=letter.topic,
        partition=letter.partition,
        offset=letter.offset,
        error=letter.error,
        value=letter.value,
        value_size=letter.size,
        text=letter.is_text,
        cut=letter.is_cut,
        replay_time=None if letter.replay_time is None else timestamp(letter.replay_time),
        replayed_by=letter.replayed_by,
    )


def write_job_spec(message: queue_pb2.Job, spec: JobSpec) -> None:
    """Write what never changes of a job."""
    message.name = spec.name
    message.target = spec.target
    message.type = spec.type
    message.lifetime = LIFETIMES[spec.lifetime]
    message.telemetry_id = spec.telemetry_id
    message.kafka_topic = spec.kafka_topic
    message.image = spec.image
    for name in _OFTEN_EMPTY:
        if value := getattr(spec, name):
            setattr(message, name, value)
    if spec.collection_inputs:
        message.collection_inputs.extend(spec.collection_inputs)
    if spec.parameters:
        message.parameters.update(spec.parameters)
    for gate in spec.depends_on:
        message.depends_on.add(job=gate.job, condition=CONDITIONS[gate.condition])
    if spec.timeout is not None:
        message.timeout.CopyFrom(duration(spec.timeout))


def write_job_status(message: queue_pb2.Job, status: JobStatus) -> None:
    """Write what changes of a job."""
    message.state = JOB_STATES[status.state]
    message.attempt = status.attempt
    message.create_time.CopyFrom(timestamp(status.create_time))
    if status.start_time is not None:
        message.start_time.CopyFrom(timestamp(status.start_time))
    if status.end_time is not None:
        message.end_time.CopyFrom(timestamp(status.end_time))
    if status.last_telemetry_time is not None:
        message.last_telemetry_time.CopyFrom(timestamp(status.last_telemetry_time))
    if status.reason is not None:
        _write_reason(message.state_reason, status.reason)
    if status.progress is not None:
        message.progress = status.progress
    if status.exit_code is not None:
        message.exit_code = status.exit_code
    if status.records_written:
        message.records_written = status.records_written
    if status.message:
        message.message = status.message
    if status.last_error:
        message.last_error = status.last_error
    if status.error_count:
        message.error_count = status.error_count
    if (ref := status.runner) is not None:
        told = message.runner
        told.runner = ref.runner
        told.namespace = ref.namespace
        told.name = ref.name
        told.uid = ref.uid
        told.pid = ref.pid


def _write_reason(message: queue_pb2.StateReason, reason: StateReason) -> None:
    """Write why a state is what it is."""
    message.code = REASONS[reason.code]
    message.message = reason.message
