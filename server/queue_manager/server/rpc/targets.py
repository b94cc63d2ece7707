"""The catalogue as callers get it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format

from queue_manager.server.domain.catalogue import Catalogue, Parameter, ParameterType, Target, TargetType, TimeRangeEnd
from queue_manager.server.domain.model import Reads
from queue_manager.server.rpc.convert import LIFETIMES
from queue_manager.v1 import target_pb2

TIME_RANGE_ENDS: Final = {e: target_pb2.TimeRangeEnd.Value(f"TIME_RANGE_END_{e.name}") for e in TimeRangeEnd}
READS: Final = {r: target_pb2.Reads.Value(f"READS_{r.name}") for r in Reads}
PARAMETER_TYPES: Final = {t: target_pb2.ParameterType.Value(f"PARAMETER_TYPE_{t.name}") for t in ParameterType}


def target_messages(
    catalogue: Catalogue, pods: Mapping[str, Mapping[str, Any]] | None = None
) -> list[target_pb2.Target]:
    """The catalogue, by name. `pods`: by target, what its pods get, as the JSON form of `KubernetesOptions`."""
    messages = []
    for name, target in sorted(catalogue.targets.items()):
        message = _target_message(target)
        if pods is not None and name in pods:
            json_format.ParseDict(dict(pods[name]), message.kubernetes)
        messages.append(message)
    return messages


def _target_message(target: Target) -> target_pb2.Target:
    return target_pb2.Target(
        name=target.name,
        description=target.description,
        types=[_type_message(kind) for kind in target.types],
        parameters=[_parameter_message(parameter) for parameter in target.parameters],
        command=target.command,
        environment=target.environment,
        secret_environment=target.secret_environment,
        plaintext_kafka=target.plaintext_kafka,
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
        time_range_end=TIME_RANGE_ENDS[kind.time_range_end],
        feeds=kind.feeds,
        reads=READS[kind.reads],
        consumer_group=kind.consumer_group,
        fills_collection=kind.fills_collection,
    )


def _parameter_message(parameter: Parameter) -> target_pb2.Parameter:
    return target_pb2.Parameter(
        name=parameter.name,
        description=parameter.description,
        type=PARAMETER_TYPES[parameter.type],
        required=parameter.required,
        default_value=parameter.default_value,
        pattern=parameter.pattern,
        minimum=parameter.minimum,
        maximum=parameter.maximum,
        allowed_values=parameter.allowed_values,
        environment_variable=parameter.environment_variable,
    )
