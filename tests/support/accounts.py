"""Accounts of a cluster that may do what `deploy/` gives the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes_asyncio.client import (
    ApiClient,
    AuthenticationV1TokenRequest,
    AuthorizationV1Api,
    CoreV1Api,
    RbacAuthorizationV1Api,
    V1ObjectMeta,
    V1ServiceAccount,
    V1TokenRequestSpec,
)

from queue_manager.server.adapters.kubernetes.credentials import kubeconfig
from tests.support.kubernetes import cluster
from tests.support.local_workers import until

ROLE: Final = Path(__file__).resolve().parents[2] / "deploy" / "base" / "role.yaml"
NAME: Final = "queue-manager"


async def make_account(namespace: str, role: Mapping[str, Any]) -> str:
    """A service account, once it has this role: its token."""
    async with cluster() as client:
        core = CoreV1Api(client)
        rbac = RbacAuthorizationV1Api(client)
        await core.create_namespaced_service_account(namespace, V1ServiceAccount(metadata=V1ObjectMeta(name=NAME)))
        if not (await rbac.list_namespaced_role(namespace)).items:
            await give(client, namespace, role, of=namespace)
        await until(lambda: _has_role(client, namespace, role, of=namespace), within=60)
        request = AuthenticationV1TokenRequest(spec=V1TokenRequestSpec(audiences=[]))
        return str((await core.create_namespaced_service_account_token(NAME, namespace, request)).status.token)


async def give(client: ApiClient, namespace: str, role: Mapping[str, Any], *, of: str) -> None:
    """Let the account of the namespace `of` do here what this role allows."""
    rbac: Any = RbacAuthorizationV1Api(client)  # its stubs want models where JSON will do
    await rbac.create_namespaced_role(namespace, role)
    await rbac.create_namespaced_role_binding(
        namespace,
        {
            "metadata": {"name": NAME},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": of}],
        },
    )


async def take_back(client: ApiClient, namespace: str, role: Mapping[str, Any], *, of: str) -> None:
    """What `give` has given, to its end: the authorizer knows."""
    rbac = RbacAuthorizationV1Api(client)
    await rbac.delete_namespaced_role_binding(NAME, namespace)
    await rbac.delete_namespaced_role(NAME, namespace)

    async def is_gone() -> bool:
        return not await _has_role(client, namespace, role, of=of)

    await until(is_gone, within=60)


async def _has_role(client: ApiClient, namespace: str, role: Mapping[str, Any], *, of: str) -> bool:
    """Whether the authorizer knows of the role and of who has it, which it hears of over watches."""
    rule = role["rules"][0]
    asked = {
        "namespace": namespace,
        "group": rule["apiGroups"][0],
        "resource": rule["resources"][0],
        "verb": rule["verbs"][0],
    }
    review: Any = {"spec": {"user": f"system:serviceaccount:{of}:{NAME}", "resourceAttributes": asked}}
    return bool((await AuthorizationV1Api(client).create_subject_access_review(review)).status.allowed)


async def remove_account(namespace: str) -> None:
    """Its tokens are worth nothing from now on, give or take the API server's cache of ten seconds."""
    async with cluster() as client:
        await CoreV1Api(client).delete_namespaced_service_account(NAME, namespace)


def kubeconfig_of(token: str) -> str:
    """A kubeconfig for the same cluster with this token, as text."""
    document = yaml.safe_load(Path(kubeconfig()).read_text())
    document["users"] = [{"name": "manager", "user": {"token": token}}]
    for context in document["contexts"]:
        context["context"]["user"] = "manager"
    return yaml.safe_dump(document)
