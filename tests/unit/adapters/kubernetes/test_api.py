"""Calls of the Kubernetes API: what is made of those that come to nothing."""

from __future__ import annotations

import asyncio

import pytest

from queue_manager.server.adapters.kubernetes.api import NoAnswer, NotSent
from tests.support.fake_kubernetes import FakeKubernetes


async def test_a_call_that_was_cancelled_says_nothing_of_the_api() -> None:
    """One that was silent is silent until it has answered; one that cannot be reached is, too."""
    async with FakeKubernetes().serve() as api:
        api.silent = True
        with pytest.raises(asyncio.CancelledError), api._told("list", "jobs"):
            raise asyncio.CancelledError
        assert api.silent
        await api.call("list", "jobs")
        assert not api.silent
        with pytest.raises(NoAnswer), api._told("list", "jobs"):
            raise OSError("no route")
        assert api.silent


async def test_a_call_for_which_the_rate_leaves_no_room_is_not_sent() -> None:
    """It waits no longer than it may take in all."""
    cluster = FakeKubernetes()
    async with cluster.serve(rate=1.0, timeout=0.05) as api:
        await api.call("list", "jobs")
        with pytest.raises(NotSent, match="too many calls wait for QM_KUBERNETES_RATE"):
            await api.call("list", "jobs")
        assert len(cluster.requests) == 1
