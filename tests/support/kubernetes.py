"""A namespace of a real cluster for a test, and tools to look into it and to break things there."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from kubernetes_asyncio.client import ApiClient, Configuration, CoreV1Api, V1Namespace, V1ObjectMeta, V1Secret
from kubernetes_asyncio.config.kube_config import load_kube_config

SECRET = "streamforge-workers"
BUSYBOX = "localhost/busybox:1"

needs_cluster = pytest.mark.skipif(not os.environ.get("KUBECONFIG"), reason="KUBECONFIG names no cluster")


@asynccontextmanager
async def core_api() -> AsyncIterator[CoreV1Api]:
    """The cluster's core API, with all rights."""
    configuration = Configuration()
    await load_kube_config(client_configuration=configuration)
    async with ApiClient(configuration) as client:
        yield CoreV1Api(client)


async def make_namespace(secrets: Mapping[str, str], labels: Mapping[str, str] | None = None) -> str:
    """A new namespace with the workers' Secret: its name."""
    name = f"qm-test-{uuid.uuid4().hex[:8]}"
    data = {key: base64.b64encode(value.encode()).decode() for key, value in secrets.items()}
    async with core_api() as core:
        await core.create_namespace(V1Namespace(metadata=V1ObjectMeta(name=name, labels=dict(labels or {}))))
        await core.create_namespaced_secret(name, V1Secret(metadata=V1ObjectMeta(name=SECRET), data=data))
    return name


async def remove_namespace(name: str) -> None:
    """It goes, with all that is in it, in its own time."""
    async with core_api() as core:
        await core.delete_namespace(name)
