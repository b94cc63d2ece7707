"""What the server must be allowed to do in the workers' namespace, and whether it is: asked of the API itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Final

from queue_manager.server.adapters.kubernetes.api import Api, NoAnswer, Refusal
from queue_manager.server.adapters.kubernetes.objects import read_review

NEEDED: Final[Mapping[str, Sequence[str]]] = {
    "jobs": ("create", "get", "list", "watch", "patch", "delete"),
    "pods": ("list", "watch", "delete"),
    "events": ("list",),
}
"""By resource: the verbs that are used."""

GROUPS: Final = {"jobs": "batch"}
"""The API group of a resource; others are in the core group."""

ASKED_EVERY: Final = 60.0
"""Seconds for which it holds that nothing is missing."""
ASKED_AGAIN: Final = 10.0
"""Seconds for which it holds that something is: somebody may be about to allow it."""


class Permissions:
    """What is missing of them, as of up to a minute ago."""

    def __init__(self, api: Api) -> None:
        """Nothing is asked yet."""
        self._api = api
        self._missing: list[str] = []
        self._asked_at = float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def missing(self) -> Sequence[str]:
        """What is not allowed, e.g. `delete jobs`. What cannot be asked is not reported: the watches tell of that."""
        if monotonic() >= self._asked_at + (ASKED_AGAIN if self._missing else ASKED_EVERY):
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(), name="permissions")
            await asyncio.shield(self._asking)  # whoever waits no longer leaves the answer to whoever asks next
        return self._missing

    async def close(self) -> None:
        """Give up asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        wishes = [(verb, resource) for resource, verbs in NEEDED.items() for verb in verbs]
        try:
            allowed = await asyncio.gather(*(self._is_allowed(verb, resource) for verb, resource in wishes))
            found = zip(wishes, allowed, strict=True)
            self._missing = [f"{verb} {resource}" for (verb, resource), yes in found if not yes]
        except (Refusal, NoAnswer):
            pass
        finally:
            self._asked_at = monotonic()  # an API that does not answer is not asked at every look at our readiness
            self._asking = None

    async def _is_allowed(self, verb: str, resource: str) -> bool:
        attributes = {
            "namespace": self._api.namespace,
            "verb": verb,
            "group": GROUPS.get(resource, ""),
            "resource": resource,
        }
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        return await self._api.ask(read_review, "create", "selfsubjectaccessreviews", body=body)
