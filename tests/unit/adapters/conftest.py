"""What the tests of the local runner share: a data directory whose workers end with the test, and a runner there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from queue_manager.server.adapters.local import LocalRunner
from tests.support.local_workers import (
    end_all,
    local_runner,
)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose workers end with the test."""
    yield tmp_path / "data"
    end_all(tmp_path / "data")


@pytest.fixture
async def runner(data_dir: Path) -> AsyncIterator[LocalRunner]:
    """A runner there."""
    async with local_runner(data_dir) as opened:
        yield opened
