"""What the tests on real servers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.kubernetes import make_namespace, remove_namespace


@pytest.fixture
async def namespace() -> AsyncIterator[str]:
    """A namespace of the cluster."""
    name = await make_namespace({})
    yield name
    await remove_namespace(name)
