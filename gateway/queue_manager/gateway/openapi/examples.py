"""Examples of requests and answers: the only part of the document that is written for a method.

They are messages as JSON. A binding shows of a request what its body has, of an answer what its `response_body` leaves.
Answers are completed with the fields that the gateway always prints, so that they stay short here and right there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Final

from google.protobuf import json_format
from google.protobuf.message import Message

from queue_manager.gateway.contract import WHOLE, Binding
from queue_manager.gateway.openapi import forms
from queue_manager.gateway.openapi.forms import Schema

QUEUE_ID: Final = "wf-btcusdt-api-candles-5m-20240601-k3x9qa"
_SERVICE: Final = "queue_manager.v1.QueueManager"

Examples = Mapping[str, tuple[str, Any]]
"""By name: what an example shows, and the message."""


@cache
def payload(name: str) -> Any:
    """One of the files of `static/examples`, which are those of the project's folder `examples`."""
    file = resources.files("queue_manager.gateway") / "static" / "examples" / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8"))


def bodies(binding: Binding, targets: Sequence[Mapping[str, Any]]) -> dict[str, Schema]:
    """The named examples of a binding's body. `targets`: those that can be started, each with an example of its own."""
    shown = {}
    requests = dict(_requests().get(_key(binding), {}))
    if _key(binding) == f"{_SERVICE}.StartQueue":
        requests |= _of_targets(targets)
    for name, (summary, request) in requests.items():
        bound = {variable.field_path for variable in binding.template.variables}
        value = (
            {key: given for key, given in request.items() if key not in bound}
            if binding.body == WHOLE
            else request.get(binding.body, {})
        )
        shown[name] = {"summary": summary, "value": value}
    return shown


def answers(binding: Binding) -> dict[str, Schema]:
    """The named examples of what a binding answers."""
    shown = {}
    for name, (summary, answer) in _ANSWERS.get(_key(binding), {}).items():
        whole = _completed(json_format.ParseDict(answer, binding.method.response()))
        value = whole[binding.response_body] if binding.response_body else whole
        shown[name] = {"summary": summary, "value": value}
    return shown


def frames(binding: Binding) -> Sequence[Mapping[str, Any]]:
    """What a stream may begin and end with. Messages that would only fill the page are `…`."""
    return _FRAMES.get(_key(binding), ())


def _completed(message: Message) -> dict[str, Any]:
    """A message with every field that cannot be absent, in the contract's order."""
    whole = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    ordered = {field.name: whole[field.name] for field in message.DESCRIPTOR.fields if field.name in whole}
    for field, value in message.ListFields():
        if field.message_type is None or forms.is_well_known(field.message_type.full_name):
            continue
        if not field.is_repeated:
            ordered[field.name] = _completed(value)
        elif not field.message_type.GetOptions().map_entry:
            ordered[field.name] = [_completed(each) for each in value]
    return ordered


def _key(binding: Binding) -> str:
    return f"{binding.method.service}.{binding.method.name}"


@cache
def _requests() -> Mapping[str, Examples]:
    historical = payload("historical-pipeline")
    one_job = {**historical, "requests": historical["requests"][:1]}
    return {
        f"{_SERVICE}.StartQueue": {
            "historical": (
                "Historical pipeline: loads a month of candles and trades, trains on it, and ends",
                historical,
            ),
            "realtime": ("Real-time pipeline: runs until it is stopped", payload("realtime-pipeline")),
            "validate": ("Only look what would be launched", {**one_job, "validate_only": True}),
            "labels": (
                "With labels to find it by, and an id that makes the call safe to repeat",
                {**one_job, "labels": {"team": "research", "run": "nightly"}, "request_id": "nightly-2024-06-30"},
            ),
        },
        f"{_SERVICE}.StopQueue": {
            "graceful": (
                "Ask the workers to stop, and delete after a minute those that have not",
                {"queue_id": QUEUE_ID, "grace_period": "60s", "reason": "wrong time range"},
            ),
            "force": ("Delete the workers at once", {"queue_id": QUEUE_ID, "mode": "STOP_MODE_FORCE"}),
        },
        f"{_SERVICE}.ReplayDeadLetters": {
            "look": ("Which would be replayed", {"all": True, "topic": "queue-events", "validate_only": True}),
            "some": ("Replay one", {"ids": ["queue-events.dlq/0/42"]}),
        },
    }


_SAMPLES: Final[Mapping[str, Any]] = {
    "interval": "5m",
    "collection_inputs": ["btc_candles_5m_2024_06", "btc_trades_2024_06"],
    "collection_output": "btc_graph_2024_06",
    "graph_collection": "btc_graph_2024_06",
    "model_output": "gnn_model_btc_2024_06",
    "inference_interval": "5m",
    "source": "btc_graph_2024_06",
    "collection_name": "btc_candles_5m_2024_06",
}
"""A value for each field of a job that a target may require."""
_PLACEHOLDER: Final = re.compile(r"<\w+>")


def _of_targets(targets: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, Any]]:
    """The smallest request for each type of each target, as the catalogue has it."""
    found = {}
    for target in targets:
        parameters = {each["name"]: _value(each) for each in target.get("parameters", ()) if each.get("required")}
        for kind in target.get("types", ()):
            name = _PLACEHOLDER.sub(_SAMPLES["interval"], kind["name"])
            job = {
                "target": target["name"],
                "type": name,
                **{field: _SAMPLES[field] for field in kind.get("required_fields", ()) if field in _SAMPLES},
                **({"parameters": parameters} if parameters else {}),
            }
            dates = {"time_range": "2024-06-01:2024-06-30"} if kind.get("needs_time_range") else {}
            request = {"symbol": "BTCUSDT", **dates, "requests": [job]}
            found[f"{target['name']}.{name}"] = (f"{target['name']} {name}: {kind.get('description', '')}", request)
    return found


def _value(parameter: Mapping[str, Any]) -> str:
    """A value that a parameter takes, as far as its rules say one."""
    if allowed := parameter.get("allowed_values"):
        return str(allowed[0])
    number = parameter.get("minimum", parameter.get("maximum", 1))
    samples = {
        "PARAMETER_TYPE_BOOLEAN": "true",
        "PARAMETER_TYPE_INTEGER": f"{number:.0f}",
        "PARAMETER_TYPE_NUMBER": f"{number:g}",
    }
    return samples.get(parameter.get("type", ""), "text")


_JOB: Final = {
    "name": "loader-producer",
    "target": "loader-producer",
    "type": "api_candles_5m",
    "interval": "5m",
    "lifetime": "LIFETIME_FINITE",
    "state": "JOB_STATE_PENDING",
    "attempt": 1,
    "telemetry_id": "loader-producer__k3x9qa",
    "kafka_topic": f"{QUEUE_ID}-api-candles-5m",
    "collection_name": "btc_candles_5m_2024_06",
    "image": "streamforge/loader-producer:latest",
    "create_time": "2024-07-01T08:00:00Z",
}
_QUEUE: Final = {
    "queue_id": QUEUE_ID,
    "symbol": "BTCUSDT",
    "time_range": "2024-06-01:2024-06-30",
    "state": "QUEUE_STATE_PENDING",
    "jobs": [_JOB],
    "revision": "1",
    "failure_policy": "FAILURE_POLICY_KEEP_GOING",
    "create_time": "2024-07-01T08:00:00Z",
    "update_time": "2024-07-01T08:00:00Z",
    "requested_by": "research",
    "start_timeout": "600s",
}
_RUNNING: Final = {
    **_QUEUE,
    "state": "QUEUE_STATE_RUNNING",
    "jobs": [{**_JOB, "state": "JOB_STATE_RUNNING", "records_written": "4320", "progress": 0.5}],
    "revision": "17",
    "records_written": "4320",
    "progress": 0.5,
    "start_time": "2024-07-01T08:00:02Z",
    "update_time": "2024-07-01T08:00:41.250Z",
}
_STOPPING: Final = {
    **_RUNNING,
    "state": "QUEUE_STATE_STOPPING",
    "state_reason": {"code": "REASON_STOPPED_BY_USER", "message": "research: wrong time range"},
    "revision": "18",
    "stop_reason": "wrong time range",
    "stopped_by": "research",
    "stop_deadline": "2024-07-01T08:01:43Z",
}

_ANSWERS: Final[Mapping[str, Examples]] = {
    f"{_SERVICE}.StartQueue": {"recorded": ("Recorded", {"queue": _QUEUE, "created": True})},
    f"{_SERVICE}.GetQueue": {"running": ("Half-way", {"queue": _RUNNING})},
    f"{_SERVICE}.StopQueue": {"stopping": ("Its workers have been asked", {"queue": _STOPPING})},
}

_FRAMES: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    f"{_SERVICE}.WatchQueue": [
        {"kind": "FRAME_KIND_SNAPSHOT", "revision": "17", "revisions_merged": "17", "queue": "…"},
        {"kind": "FRAME_KIND_UPDATE", "revision": "18", "revisions_merged": "1", "queue": "…", "event": "…"},
        {"kind": "FRAME_KIND_END", "revision": "18", "revisions_merged": "0", "queue": "…"},
    ],
}
