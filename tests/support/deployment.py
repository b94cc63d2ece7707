"""`deploy/trial`, put into a namespace of a real cluster, with the image that QUEUE_MANAGER_IMAGE names on its node."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes_asyncio.client import DiscoveryV1Api

from tests.support.kubernetes import cluster, core_api, make_namespace, remove_namespace
from tests.support.local_workers import until

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGE: Final = os.environ.get("QUEUE_MANAGER_IMAGE", "")
MANAGERS: Final = "app.kubernetes.io/component=control-plane"
GATEWAYS: Final = "app.kubernetes.io/component=gateway"
RESTRICTED: Final = {"pod-security.kubernetes.io/enforce": "restricted"}

needs_image = pytest.mark.skipif(not IMAGE, reason="QUEUE_MANAGER_IMAGE names no image on the node")


async def kubectl(*arguments: str) -> str:
    """Run kubectl; what it prints."""
    found = shutil.which("kubectl") or str(Path(os.environ.get("KUBEBUILDER_ASSETS", "")) / "kubectl")
    process = await asyncio.create_subprocess_exec(
        found, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, f"kubectl {' '.join(arguments)}: {err.decode()}"
    return out.decode()


@asynccontextmanager
async def deployed(folder: Path, variables: Mapping[str, str]) -> AsyncIterator[str]:
    """A namespace with restricted Pod Security in which the server is ready; its gateways may not find it yet.

    `folder`: for a copy of the manifests; `variables`: of the ConfigMap that those read who are deployed.
    """
    shutil.copytree(ROOT / "deploy", folder, dirs_exist_ok=True)
    image, _, tag = IMAGE.rpartition(":")
    for path in (folder / "trial").iterdir():
        text = path.read_text().replace("newTag: dev", f"newTag: {tag}")
        path.write_text(text.replace("localhost/queue-manager:dev", IMAGE).replace("localhost/queue-manager", image))
    name = await make_namespace({}, RESTRICTED)
    try:
        given = [f"--from-literal={key}={value}" for key, value in variables.items()]
        await kubectl("-n", name, "create", "configmap", "queue-manager", *given)
        await kubectl("-n", name, "apply", "--dry-run=server", "-k", str(folder / "base"))
        await kubectl("-n", name, "apply", "-k", str(folder / "trial"))
        await rolled_out(name, "queue-manager")
        yield name
    finally:
        await remove_namespace(name)


async def rolled_out(namespace: str, deployment: str) -> None:
    """Wait until all pods of a Deployment are ready and up to date."""
    await kubectl("-n", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=90s")


async def pods(namespace: str, selector: str) -> list[Any]:
    """The pods that a selector finds."""
    async with core_api() as core:
        return list((await core.list_namespaced_pod(namespace, label_selector=selector)).items)


async def restart_manager(namespace: str) -> None:
    """End the server in its pod for the first time, and wait until Kubernetes has started another that is ready."""
    (pod,) = await pods(namespace, MANAGERS)
    await kubectl("-n", namespace, "exec", pod.metadata.name, "--", "/bin/sh", "-c", "kill -INT 1")

    async def restarted() -> bool:
        (pod,) = await pods(namespace, MANAGERS)
        (container,) = pod.status.container_statuses
        return bool(container.restart_count == 1 and container.ready)

    await until(restarted, within=60)


async def endpoints(namespace: str, service: str, port: str) -> dict[str, str]:
    """Where a Service leads now: by pod, `host:port`."""
    async with cluster() as api:
        selector = f"kubernetes.io/service-name={service}"
        slices = (await DiscoveryV1Api(api).list_namespaced_endpoint_slice(namespace, label_selector=selector)).items
    return {
        endpoint.target_ref.name: f"{endpoint.addresses[0]}:{number.port}"
        for part in slices
        for number in part.ports or ()
        for endpoint in part.endpoints or ()
        if number.name == port and endpoint.conditions.ready
    }
