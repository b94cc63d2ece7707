"""A Job as protobuf: it says what the JSON says, or nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from queue_manager.server.adapters.kubernetes.encoding import encode, is_said_exactly
from queue_manager.server.adapters.kubernetes.objects import JOBS
from queue_manager.wire import kubernetes_job_pb2 as wire

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))


def plain() -> dict[str, Any]:
    """A Job as the manager makes it."""
    document: dict[str, Any] = json.loads((Path(__file__).parent / "golden/plain.json").read_text())
    return document


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    """The specification of its pod."""
    pod: dict[str, Any] = document["spec"]["template"]["spec"]
    return pod


def read(raw: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of which type it says it is, and what it says."""
    assert raw.startswith(b"k8s\0")
    wrapped = wire.Unknown.FromString(raw[4:])
    return as_dict(wrapped.typeMeta), as_dict(wire.Job.FromString(wrapped.raw))


def as_dict(message: Message) -> dict[str, Any]:
    """With the names that Kubernetes' JSON has."""
    return MessageToDict(message, preserving_proto_field_name=True)


def as_json_has_it(said: Any) -> Any:
    """With what JSON spreads out in the object around it, and amounts as texts."""
    if isinstance(said, list):
        return [as_json_has_it(one) for one in said]
    if not isinstance(said, dict):
        return said
    if said.keys() == {"string"}:
        return said["string"]
    inlined = {**said.get("volumeSource", {}), **said.get("localObjectReference", {})}
    kept = {key: value for key, value in said.items() if key not in {"volumeSource", "localObjectReference"}}
    return {key: as_json_has_it(value) for key, value in {**kept, **inlined}.items()}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_says_what_the_json_says(path: Path) -> None:
    """Also what is false, nothing or empty: absent, it would be Kubernetes' default."""
    document = json.loads(path.read_text())
    before = copy.deepcopy(document)
    raw = encode(document)
    assert raw is not None
    assert is_said_exactly(document)
    kind, said = read(raw)
    assert {**kind, **as_json_has_it(said)} == document
    assert document == before, "what it is told is left as it is"
    assert JOBS.read(raw).metadata.name == document["metadata"]["name"], "it is read as answers are"


def test_no_limits_are_as_none_at_all() -> None:
    """An empty map is nothing on the wire, and in JSON."""
    document = plain()
    pod_of(document)["containers"][0]["resources"]["limits"] = {}
    assert is_said_exactly(document)
    raw = encode(document)
    assert raw is not None
    assert "limits" not in read(raw)[1]["spec"]["template"]["spec"]["containers"][0]["resources"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("hostAliases", [{"ip": "10.0.0.1"}]),
        ("hostname", 5),
        ("shareProcessNamespace", 1),
        ("shareProcessNamespace", 2**63),
        ("terminationGracePeriodSeconds", "30"),
        ("terminationGracePeriodSeconds", 2**31),
        ("terminationGracePeriodSeconds", 1.5),
        ("nodeSelector", {"pool": 1}),
        ("nodeSelector", "pool"),
        ("volumes", [{"name": "v", "nfs": {"server": "s"}}]),
        ("volumes", [{"emptyDir": {}}]),
        ("volumes", {"name": "v"}),
        ("restartPolicy", None),
        ("restartPolicy", "\ud800"),
    ],
)
def test_what_it_has_no_field_for_or_is_of_another_type_is_left_to_json(place: str, value: object) -> None:
    """So that the API server says what is wrong, or takes what is newer than this."""
    document = plain()
    pod_of(document)[place] = value
    assert not is_said_exactly(document)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("command", "sleep"),
        ("args", [1]),
        ("stdin", True),
        ("env", [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]),
        ("env", [{"name": "A", "valueFrom": "b"}]),
        ("env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "n", "localObjectReference": {"name": "m"}}}}]),
        ("env", [{"name": "A", "valueFrom": {"secretKeyRef": {"localObjectReference": {"name": "m"}}}}]),
        ("env", ["A"]),
        ("resources", {"limits": {"cpu": 1}}),
        ("resources", {"limits": {"cpu": " 1 "}}),
        ("resources", {"limits": []}),
        ("resources", {"limits": ""}),
        ("resources", {"limts": {}}),
        ("resources", {"claims": [{"name": "gpu"}]}),
        ("resources", "1"),
    ],
)
def test_so_is_what_its_container_has(place: str, value: object) -> None:
    """A text is no list of its letters."""
    document = plain()
    pod_of(document)["containers"][0][place] = value
    assert not is_said_exactly(document)


@pytest.mark.parametrize("more", [{"apiVersion": "batch/v2"}, {"kind": "CronJob"}, {"status": {}}, {"metdata": {}}])
def test_so_is_what_is_more_than_a_job_or_none(more: dict[str, Any]) -> None:
    """It would be left out without a word."""
    document = {**plain(), **more}
    assert not is_said_exactly(document)
    assert encode(document) is None


def test_a_secrets_key_and_a_config_maps_are_said_with_the_objects_name() -> None:
    """Which JSON has beside the key."""
    document = plain()
    references = [
        {"name": kind, "valueFrom": {kind: {"name": "n", "key": "k", "optional": True}}}
        for kind in ("secretKeyRef", "configMapKeyRef")
    ]
    pod_of(document)["containers"][0]["env"] = references
    assert is_said_exactly(document)
    raw = encode(document)
    assert raw is not None
    assert as_json_has_it(read(raw)[1])["spec"]["template"]["spec"]["containers"][0]["env"] == references
