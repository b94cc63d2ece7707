"""The catalogue as callers get it: everything that a catalogue can say, and never a secret's value."""

from __future__ import annotations

import msgspec
from google.protobuf import json_format

from queue_manager.server.adapters.kubernetes.options import DEFAULT_OPTIONS, PodOptions, described
from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.catalogue import Catalogue, Target, TargetType, TimeRangeEnd
from queue_manager.server.domain.model import Lifetime, Reads
from queue_manager.server.rpc import targets
from queue_manager.v1 import target_pb2

KIND = TargetType(
    name="count",
    lifetime=Lifetime.DRAINS,
    time_range_end=TimeRangeEnd.EXCLUSIVE,
    feeds=True,
    reads=Reads.ALL,
    consumer_group="counter-{queue_id}",
    fills_collection=True,
)
COUNTER = Target(
    name="counter",
    types=(KIND,),
    command=("python", "-m", "counter"),
    environment={"LIMIT": "500", "TZ": ""},
    secret_environment={"API_KEY": "counter-api-key"},
    plaintext_kafka=True,
)


def test_the_catalogue_is_told_by_name_with_all_that_it_has() -> None:
    """Every target, type and parameter."""
    catalogue = builtin_catalogue()
    messages = targets.target_messages(catalogue)
    assert [message.name for message in messages] == sorted(catalogue.targets)
    for message in messages:
        target = catalogue.targets[message.name]
        assert [kind.name for kind in message.types] == [kind.name for kind in target.types]
        assert [parameter.name for parameter in message.parameters] == [p.name for p in target.parameters]
        assert all(kind.lifetime and kind.reads and kind.time_range_end for kind in message.types)
        assert all(parameter.type for parameter in message.parameters)
        assert not message.HasField("kubernetes")


def test_how_workers_are_run_is_told() -> None:
    """The plain environment with its values, of secrets only what they are called."""
    (message,) = targets.target_messages(Catalogue.of([COUNTER]))
    told = json_format.MessageToDict(message, preserving_proto_field_name=True)
    (kind,) = told.pop("types")
    assert told == {
        "name": "counter",
        "command": ["python", "-m", "counter"],
        "environment": {"LIMIT": "500", "TZ": ""},
        "secret_environment": {"API_KEY": "counter-api-key"},
        "plaintext_kafka": True,
    }
    assert (
        kind.items()
        >= {
            "lifetime": "LIFETIME_DRAINS",
            "time_range_end": "TIME_RANGE_END_EXCLUSIVE",
            "feeds": True,
            "reads": "READS_ALL",
            "consumer_group": "counter-{queue_id}",
            "fills_collection": True,
        }.items()
    )


def test_what_pods_get_is_told_with_the_defaults() -> None:
    """As Kubernetes has it, where that is Kubernetes' own."""
    options = PodOptions(
        requests={"memory": "2Gi"},
        node_selector={"pool": "gpu"},
        tolerations=[{"key": "gpu", "operator": "Exists", "tolerationSeconds": 30}],
        image_pull_secrets=["registry"],
        volumes=[{"name": "data", "emptyDir": {}}],
        volume_mounts=[{"name": "data", "mountPath": "/data"}],
        patch={"spec": {"suspend": None, "template": {"spec": {"priorityClassName": "research"}}}},
    )
    (message,) = targets.target_messages(Catalogue.of([COUNTER]), {"counter": described(options)})
    assert json_format.MessageToDict(message.kubernetes, preserving_proto_field_name=True) == {
        "requests": {"memory": "2Gi"},
        "limits": {"cpu": "1", "memory": "2Gi"},
        "node_selector": {"pool": "gpu"},
        "tolerations": [{"key": "gpu", "operator": "Exists", "tolerationSeconds": 30}],
        "image_pull_secrets": ["registry"],
        "image_pull_policy": "IfNotPresent",
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volume_mounts": [{"name": "data", "mountPath": "/data"}],
        "run_as_user": 65532,
        "run_as_group": 65532,
        "read_only_root": True,
        "share_process_namespace": True,
        "grace": "30s",
        "patch": {"spec": {"suspend": None, "template": {"spec": {"priorityClassName": "research"}}}},
    }


def test_every_option_that_pods_have_is_in_the_contract() -> None:
    """A new one is told, too; and none takes much room where nothing is said."""
    names = [field.name for field in target_pb2.KubernetesOptions.DESCRIPTOR.fields]
    assert names == [field.name for field in msgspec.structs.fields(PodOptions)]
    catalogue = builtin_catalogue()
    plain = sum(message.ByteSize() for message in targets.target_messages(catalogue))
    pods = dict.fromkeys(catalogue.targets, described(DEFAULT_OPTIONS))
    whole = sum(message.ByteSize() for message in targets.target_messages(catalogue, pods))
    assert whole - plain < 150 * len(catalogue.targets)
