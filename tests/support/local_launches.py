"""Pieces of launches that several tests of the local runner put together by hand."""

from __future__ import annotations

import os
from pathlib import Path

from queue_manager.server.adapters.local.directory import Spec
from queue_manager.server.adapters.local.spawn import Order
from tests.support.local_workers import (
    QUEUE,
    until,
)


def ready(tmp_path: Path) -> str:
    """A piece of script that says how far it is."""
    return f"echo > {tmp_path}/ready"


async def is_ready(tmp_path: Path) -> None:
    """Wait for that."""
    await until((tmp_path / "ready").exists)


def spec_file(name: str = "w", spec_hash: str = "hash-1") -> Spec:
    """What a launch writes down first."""
    return Spec(
        queue_id=QUEUE,
        job="loader-producer",
        attempt=1,
        name=name,
        target="loader-producer",
        command=("sleep",),
        spec_hash=spec_hash,
        grace=5.0,
    )


def order(ticket: str, *command: str) -> Order:
    """What a launch hands to the shim."""
    return Order(
        ticket=ticket,
        grace=5.0,
        timeout=None,
        stdout_limit=4096,
        stderr_limit=4096,
        command=command,
        environment={"PATH": os.environ["PATH"]},
    )
