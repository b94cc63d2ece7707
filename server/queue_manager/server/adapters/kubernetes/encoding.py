"""A Job as protobuf: an API server that takes it as JSON spends a tenth more on creating it.

The document is what would be sent as JSON. What `kubernetes_job.proto` has no field for is left to JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from google.protobuf.json_format import MessageToDict

from queue_manager.server.adapters.kubernetes.objects import MAGIC
from queue_manager.wire import kubernetes_job_pb2 as wire

_API_VERSION: Final = "batch/v1"
_KIND: Final = "Job"
_TYPE: Final = wire.TypeMeta(apiVersion=_API_VERSION, kind=_KIND)
_FIELDS: Final = frozenset({"apiVersion", "kind", "metadata", "spec"})
_AMOUNTS: Final = frozenset({"limits", "requests"})
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")

_UNSAYABLE: Final = (TypeError, ValueError, KeyError, AttributeError, OverflowError)
"""What comes of a document that is no Job, or has what no field takes."""


def encode(document: Mapping[str, Any]) -> bytes | None:
    """A Job as the API takes it. None: it has what cannot be said in protobuf.

    What is not of its field's type may be converted, as a text where a list of texts belongs: see `is_said_exactly`.
    """
    try:
        raw = wire.Job(**_shaped(document)).SerializeToString()
    except _UNSAYABLE:
        return None
    return MAGIC + wire.Unknown(typeMeta=_TYPE, raw=raw).SerializeToString()


def decode(raw: bytes) -> wire.Job:
    """What `encode` says."""
    return wire.Job.FromString(wire.Unknown.FromString(raw.removeprefix(MAGIC)).raw)


def is_said_exactly(document: Mapping[str, Any]) -> bool:
    """Whether `encode` says all of this document, and nothing else. It takes much longer than to encode it."""
    try:
        shaped = _shaped(document)
        said = MessageToDict(wire.Job(**shaped), preserving_proto_field_name=True)
    except _UNSAYABLE:
        return False
    return _CANONICAL.encode(said) == _CANONICAL.encode(shaped)


def _shaped(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what JSON writes in another shape: some objects are spread out in that around them.

    Nothing is left out but what is nothing in JSON, too.
    """
    if document.keys() != _FIELDS or (document["apiVersion"], document["kind"]) != (_API_VERSION, _KIND):
        raise ValueError("no Job, or more than one")
    spec = document["spec"]
    template = spec["template"]
    pod = {**template["spec"]}
    for field, of_one in (("containers", _container), ("initContainers", _container), ("volumes", _volume)):
        if field in pod:
            pod[field] = [of_one(one) for one in pod[field]]
    return {"metadata": document["metadata"], "spec": {**spec, "template": {**template, "spec": pod}}}


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    shaped = {**container}
    if "env" in container:
        shaped["env"] = [_variable(variable) for variable in container["env"]]
    if "resources" in container:
        shaped["resources"] = {
            kind: {name: _amount(text) for name, text in given.items()}
            for kind, given in container["resources"].items()
            if given != {} or kind not in _AMOUNTS
        }
    return shaped


def _amount(text: str) -> dict[str, str]:
    if text != text.strip():
        raise ValueError("an amount between blanks is one in JSON alone")
    return {"string": text}


def _variable(variable: Mapping[str, Any]) -> Mapping[str, Any]:
    if "valueFrom" not in variable:
        return variable
    return {**variable, "valueFrom": {kind: _selector(source) for kind, source in variable["valueFrom"].items()}}


def _selector(source: Mapping[str, Any]) -> Mapping[str, Any]:
    if "localObjectReference" in source:
        raise ValueError("no field of JSON's")
    if "name" not in source:
        return source
    return {"localObjectReference": {"name": source["name"]}, **_without_name(source)}


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": volume["name"], "volumeSource": _without_name(volume)}


def _without_name(document: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "name"}
