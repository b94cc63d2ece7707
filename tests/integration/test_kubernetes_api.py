"""Calls and the reflector on a real API server: KUBECONFIG names it."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from random import Random
from time import monotonic
from typing import Any

import msgspec
import pytest

from queue_manager.server.adapters.kubernetes.api import Api, Refusal
from queue_manager.server.adapters.kubernetes.objects import KubernetesJob
from queue_manager.server.adapters.kubernetes.reflector import Reflector
from tests.support.local_workers import until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster"),
]


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    """The cluster's API, in the namespace of the kubeconfig."""
    async with await Api.connect() as opened:
        yield opened


def job(name: str, label: str) -> dict[str, Any]:
    """A Job that makes no pods."""
    container = {"name": "worker", "image": "example.com/none:1"}
    return {
        "metadata": {"name": name, "labels": {"queue-manager-test": label}},
        "spec": {"suspend": True, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    }


async def test_a_name_is_taken_once(api: Api) -> None:
    """The second create is refused with the reason by which it is known."""
    name = f"qm-test-{uuid.uuid4().hex[:8]}"
    created = msgspec.json.decode(await api.call("create", "jobs", body=job(name, name)), type=KubernetesJob)
    try:
        with pytest.raises(Refusal) as refused:
            await api.call("create", "jobs", body=job(name, name))
        assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")
        found = msgspec.json.decode(await api.call("get", "jobs", name), type=KubernetesJob)
        assert found.metadata.uid == created.metadata.uid
        assert found.ending is None
    finally:
        await api.call("delete", "jobs", name, body={"propagationPolicy": "Background"})
    with pytest.raises(Refusal) as gone:
        await api.call("get", "jobs", name)
    assert gone.value.code == 404


async def test_the_reflector_sees_what_was_there_what_comes_and_what_goes(api: Api) -> None:
    """Only what carries the label."""
    label = uuid.uuid4().hex[:8]
    names = [f"qm-test-{label}-{number}" for number in range(3)]
    await api.call("create", "jobs", body=job(names[0], label))
    befallen: list[str] = []
    jobs = Reflector(
        api,
        "jobs",
        KubernetesJob,
        f"queue-manager-test={label}",
        changed=lambda _: None,
        rng=Random(1),
        observe=lambda _, befell: befallen.append(befell),
    )
    task = asyncio.create_task(jobs.run())
    try:
        await until(lambda: sorted(jobs.objects) == names[:1])
        for name in names[1:]:
            await api.call("create", "jobs", body=job(name, label))
        await until(lambda: sorted(jobs.objects) == names)
        for name in names:
            await api.call("delete", "jobs", name, body={"propagationPolicy": "Background"})
        await until(lambda: not jobs.objects)
        assert befallen == ["relist"]
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_rate_is_kept_to(namespace: str) -> None:
    """In bursts of as many calls as are allowed in a second."""
    async with await Api.connect(namespace, rate=20) as api:
        began = monotonic()
        await asyncio.gather(*(api.call("list", "jobs") for _ in range(60)))
        assert 1.9 < monotonic() - began < 4
