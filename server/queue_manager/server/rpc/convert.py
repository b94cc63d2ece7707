"""Between the core's values and the contract's messages. Total in both directions; tests go through every enum value."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from queue_manager.server.domain.catalogue import Catalogue, Parameter, Target, TargetType
from queue_manager.server.domain.history import Event, EventType
from queue_manager.server.domain.launch import LaunchSpec
from queue_manager.server.domain.model import (
    DependencyCondition,
    FailurePolicy,
    Job,
    JobState,
    Lifetime,
    Queue,
    QueueState,
    Reason,
    StateReason,
)
from queue_manager.v1 import queue_pb2, service_pb2, target_pb2

QUEUE_STATES: Final = {s: queue_pb2.QueueState.Value(f"QUEUE_STATE_{s}") for s in QueueState}
JOB_STATES: Final = {s: queue_pb2.JobState.Value(f"JOB_STATE_{s}") for s in JobState}
REASONS: Final = {r: queue_pb2.Reason.Value(f"REASON_{r}") for r in Reason}
POLICIES: Final = {p: queue_pb2.FailurePolicy.Value(f"FAILURE_POLICY_{p}") for p in FailurePolicy}
LIFETIMES: Final = {x: queue_pb2.Lifetime.Value(f"LIFETIME_{x}") for x in Lifetime}
CONDITIONS: Final = {c: queue_pb2.DependencyCondition.Value(f"DEPENDENCY_CONDITION_{c}") for c in DependencyCondition}
EVENT_TYPES: Final = {e: queue_pb2.EventType.Value(f"EVENT_TYPE_{e}") for e in EventType}


LARGEST_INT64: Final = 2**63 - 1

_OFTEN_EMPTY_OF_SPEC: Final = (
    *("interval", "collection_output", "graph_collection", "model_output", "inference_interval", "source"),
    "collection_name",
)
_OFTEN_EMPTY_OF_STATUS: Final = ("records_written", "message", "last_error", "error_count")


@lru_cache(maxsize=256)  # all jobs of a queue are made at one time, and changes of a moment have its time
def timestamp(seconds: float | None) -> Timestamp | None:
    """A time as the well-known type, to the microsecond. Not to be changed: others are given the same."""
    if seconds is None:
        return None
    micros = round(seconds * 1e6)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def duration(seconds: float | None) -> Duration | None:
    """A duration as the well-known type, to the microsecond."""
    if seconds is None:
        return None
    micros = round(seconds * 1e6)
    return Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def queue_message(queue: Queue) -> queue_pb2.Queue:
    """A queue as callers get it."""
    message = queue_fields(queue)
    message.jobs.extend(job_message(job) for job in queue.jobs)
    return message


def queue_fields(queue: Queue) -> queue_pb2.Queue:
    """A queue as callers get it, less its jobs."""
    spec, status = queue.spec, queue.status
    stop = status.stop
    return queue_pb2.Queue(
        queue_id=spec.queue_id,
        symbol=spec.symbol,
        time_range=spec.time_range,
        labels=spec.labels,
        state=QUEUE_STATES[status.state],
        state_reason=_reason(status.reason),
        revision=queue.revision,
        request_id=spec.request_id,
        failure_policy=POLICIES[spec.failure_policy],
        records_written=min(sum(job.status.records_written for job in queue.jobs), LARGEST_INT64),
        progress=queue_progress(queue),
        create_time=timestamp(spec.create_time),
        start_time=timestamp(status.start_time),
        end_time=timestamp(status.end_time),
        update_time=timestamp(status.update_time),
        requested_by=spec.requested_by,
        stop_reason=stop.reason if stop else "",
        stopped_by=stop.by if stop else "",
        start_timeout=duration(spec.start_timeout),
        stop_deadline=timestamp(stop.deadline) if stop and status.state is QueueState.STOPPING else None,
        message=status.message,
    )


def queue_progress(queue: Queue) -> float | None:
    """The mean of the jobs' progress, where every job knows its own; a finished job counts as 1."""
    total = 0.0
    for job in queue.jobs:
        known = 1.0 if job.status.state is JobState.FINISHED else job.status.progress
        if known is None:
            return None
        total += known
    return total / len(queue.jobs)


def event_message(event: Event) -> queue_pb2.QueueEvent:
    """An event as callers get it."""
    return queue_pb2.QueueEvent(
        revision=event.revision,
        time=timestamp(event.time),
        type=EVENT_TYPES[event.type],
        before=QUEUE_STATES[event.before] if event.before else queue_pb2.QUEUE_STATE_UNSPECIFIED,
        after=QUEUE_STATES[event.after],
        job_changes=[
            queue_pb2.JobChange(
                job=change.job,
                attempt=change.attempt,
                before=JOB_STATES[change.before] if change.before else queue_pb2.JOB_STATE_UNSPECIFIED,
                after=JOB_STATES[change.after],
                reason=_reason(change.reason),
            )
            for change in event.job_changes
        ],
        actor=event.actor,
        message=event.message,
    )


def encode_event(event: Event) -> bytes:
    """An event as callers get it, serialised."""
    return event_message(event).SerializeToString()


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


def target_messages(catalogue: Catalogue) -> list[target_pb2.Target]:
    """The catalogue, by name."""
    return [_target_message(target) for _, target in sorted(catalogue.targets.items())]


def _reason(reason: StateReason | None) -> queue_pb2.StateReason | None:
    return None if reason is None else queue_pb2.StateReason(code=REASONS[reason.code], message=reason.message)


def job_message(job: Job) -> queue_pb2.Job:
    """A job as callers get it."""
    spec, status = job.spec, job.status
    message = queue_pb2.Job(
        name=spec.name,
        target=spec.target,
        type=spec.type,
        lifetime=LIFETIMES[spec.lifetime],
        state=JOB_STATES[status.state],
        attempt=status.attempt,
        telemetry_id=spec.telemetry_id,
        kafka_topic=spec.kafka_topic,
        image=spec.image,
        create_time=timestamp(status.create_time),
        start_time=timestamp(status.start_time),
        end_time=timestamp(status.end_time),
        last_telemetry_time=timestamp(status.last_telemetry_time),
        state_reason=_reason(status.reason),
        timeout=duration(spec.timeout),
        progress=status.progress,
        exit_code=status.exit_code,
    )
    # Most jobs have few of the others, and a field that is not touched costs nothing.
    for name in _OFTEN_EMPTY_OF_SPEC:
        if value := getattr(spec, name):
            setattr(message, name, value)
    for name in _OFTEN_EMPTY_OF_STATUS:
        if value := getattr(status, name):
            setattr(message, name, value)
    if spec.collection_inputs:
        message.collection_inputs.extend(spec.collection_inputs)
    if spec.parameters:
        message.parameters.update(spec.parameters)
    for gate in spec.depends_on:
        message.depends_on.add(job=gate.job, condition=CONDITIONS[gate.condition])
    if (runner := status.runner) is not None:
        message.runner.CopyFrom(
            queue_pb2.RunnerReference(
                runner=runner.runner, namespace=runner.namespace, name=runner.name, uid=runner.uid, pid=runner.pid
            )
        )
    return message


def _target_message(target: Target) -> target_pb2.Target:
    return target_pb2.Target(
        name=target.name,
        description=target.description,
        types=[_type_message(kind) for kind in target.types],
        parameters=[_parameter_message(parameter) for parameter in target.parameters],
    )


def _type_message(kind: TargetType) -> target_pb2.TargetType:
    return target_pb2.TargetType(
        name=kind.name,
        description=kind.description,
        lifetime=LIFETIMES[kind.lifetime],
        default_image=kind.default_image,
        required_fields=kind.required_fields,
        optional_fields=kind.optional_fields,
        needs_time_range=kind.needs_time_range,
    )


def _parameter_message(parameter: Parameter) -> target_pb2.Parameter:
    return target_pb2.Parameter(
        name=parameter.name,
        description=parameter.description,
        type=target_pb2.ParameterType.Value(f"PARAMETER_TYPE_{parameter.type}"),
        required=parameter.required,
        default_value=parameter.default_value,
        pattern=parameter.pattern,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
        allowed_values=parameter.allowed_values,
        environment_variable=parameter.environment_variable,
    )
