"""What the end-to-end tests share: a running server, a client of it, the user's payloads."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from queue_manager.client import AsyncClient
from tests.e2e.server_process import ServerProcess
from tests.support.web import Web, gateway

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ServerProcess]:
    """A server with its defaults."""
    async with ServerProcess(tmp_path) as running:
        yield running


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[AsyncClient]:
    """A client of it."""
    async with AsyncClient(server.address) as opened:
        yield opened


@pytest.fixture
async def web(server: ServerProcess) -> AsyncIterator[Web]:
    """A gateway with its defaults, but in no mood to wait."""
    async with gateway(server.address, body_timeout=0.5) as found:
        yield found


def payload(name: str) -> Path:
    """One of the user's two payloads: the original beside the project where it is, else the copy in `examples`."""
    original = SHARED / f"{name}-pipeline.json"
    copy = ROOT / "examples" / f"{name}-pipeline.json"
    if original.exists():
        assert original.read_bytes() == copy.read_bytes(), "examples/ has drifted from the user's payload"
        return original
    return copy


def grpcurl() -> str:
    """The path of grpcurl; without one the test is skipped."""
    found = os.environ.get("GRPCURL") or shutil.which("grpcurl")
    if not found:
        pytest.skip("grpcurl is neither on the PATH nor named by GRPCURL")
    return found
