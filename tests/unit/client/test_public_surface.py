"""What the client's users rely on, and what they have to install and load for it."""

from __future__ import annotations

import difflib
import importlib.resources
import subprocess
import sys
from pathlib import Path

import pytest

import queue_manager.client

from . import public_surface

PINNED = Path(__file__).with_suffix("").with_name("public_surface.txt")

OF_THE_COMMAND_LINE = ("queue_manager.client.cli", "typer", "click", "rich", "yaml")
OF_THE_SERVER = (
    *("queue_manager.server", "msgspec", "prometheus_client", "pydantic", "pydantic_settings"),
    *("rapidfuzz", "structlog", "uvloop"),
)
"""Less `grpc_health` and `grpc_reflection`, which grpc itself loads where they are installed."""


def loaded_by(statement: str) -> list[str]:
    """Every module that is loaded once a fresh interpreter has run this."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def among(modules: list[str], *packages: str) -> list[str]:
    """Those of the modules that belong to one of the packages."""
    return [name for name in modules if name.startswith(tuple(f"{p}." for p in packages)) or name in packages]


def test_the_public_surface_is_as_it_was() -> None:
    """See `public_surface.py`."""
    pinned, now = PINNED.read_text(encoding="utf-8"), public_surface.surface()
    changes = list(difflib.unified_diff(pinned.splitlines(), now.splitlines(), "as pinned", "now", lineterm="", n=0))
    assert not changes, "\n".join((*changes, "", *(public_surface.__doc__ or "").splitlines()[2:]))


@pytest.mark.parametrize("package", ["queue_manager.client", "queue_manager.v1", "queue_manager.server"])
def test_every_package_says_that_it_is_typed(package: str) -> None:
    """Else a type checker would take everything in it for `Any` (PEP 561)."""
    assert (importlib.resources.files(package) / "py.typed").is_file()


def test_every_exported_name_is_there() -> None:
    for module in public_surface.MODULES:
        assert sorted(module.__all__) == sorted(set(module.__all__))
        assert all(hasattr(module, name) for name in module.__all__)


@pytest.mark.parametrize("module", ["queue_manager.client", "queue_manager.client.testing"])
def test_importing_the_client_loads_neither_server_nor_command_line(module: str) -> None:
    """Nor what these need: grpc, protobuf and the standard library are enough. Testing loads its server when made."""
    loaded = loaded_by(f"from {module} import *")
    assert "queue_manager.client.sync_client" in loaded
    assert "queue_manager.client.async_client" in loaded
    assert among(loaded, *OF_THE_COMMAND_LINE, *OF_THE_SERVER) == []


def test_a_name_is_loaded_when_it_is_asked_for() -> None:
    """So that what lives in the package beside it pays for nothing; what there is not is an `AttributeError` as ever."""
    assert among(loaded_by("import queue_manager.client"), "grpc", "google") == []
    with pytest.raises(AttributeError, match="has no attribute 'Clinet'"):
        queue_manager.client.Clinet  # type: ignore[attr-defined]  # noqa: B018


def test_the_testing_server_loads_only_what_its_core_and_grpc_need() -> None:
    """No settings, no metrics, no other event loop: half of the time that a server takes to load."""
    loaded = loaded_by("from queue_manager.client.testing import TestServer\nTestServer()")
    assert "queue_manager.server.embedded" in loaded
    assert among(loaded, "queue_manager.server.app", "pydantic", "prometheus_client", "uvloop", "typer") == []


def test_without_the_servers_dependencies_it_says_what_to_install() -> None:
    code = """
import sys

sys.modules["msgspec"] = None
from queue_manager.client.testing import TestServer

try:
    TestServer()
except ImportError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "pip install 'streamforge-queue-manager[server]'" in said
    assert "msgspec" in said
