"""A contract of the tests' own, compiled from `rules.proto`."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from queue_manager.gateway.contract import Contract

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def compiled(folder: Path, name: str, out: Path) -> FileDescriptorSet:
    """A proto file with everything that it imports, and its comments."""
    arguments = [
        "protoc",
        f"-I{folder}",
        f"-I{ROOT / 'third_party/googleapis'}",
        f"-I{resources.files('grpc_tools') / '_proto'}",
        f"--descriptor_set_out={out}",
        "--include_imports",
        "--include_source_info",
        name,
    ]
    assert protoc.main(arguments) == 0
    return FileDescriptorSet.FromString(out.read_bytes())


@cache
def compiled_rules() -> Contract:
    """The contract that `rules.proto` is."""
    with TemporaryDirectory() as folder:
        return Contract.of(compiled(HERE, "rules.proto", Path(folder) / "rules.binpb"))


@pytest.fixture(scope="session")
def rules() -> Contract:
    """The contract that `rules.proto` is."""
    return compiled_rules()


@pytest.fixture(scope="session")
def own() -> Contract:
    """The Queue Manager's."""
    return Contract.load()
