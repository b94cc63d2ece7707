"""What is asked of the API about our own rights, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from queue_manager.server.adapters.kubernetes import permissions
from queue_manager.server.adapters.kubernetes.permissions import ASKED_AGAIN, ASKED_EVERY, NEEDED, Permissions
from queue_manager.wire import kubernetes_pb2 as wire
from tests.support.fake_kubernetes import encoded

WISHES = sum(map(len, NEEDED.values()))


class SlowApi:
    """It answers once it is let, and forbids one verb."""

    namespace = "workers"

    def __init__(self) -> None:
        """Nothing is asked yet."""
        self.asked = 0
        self.all_asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.forbidden = "delete"

    async def ask(self, read: Any, verb: str, resource: str, *, body: dict[str, Any]) -> Any:
        """Answer a review."""
        self.asked += 1
        if self.asked == WISHES:
            self.all_asked.set()
        await self.may_answer.wait()
        wanted = body["spec"]["resourceAttributes"]["verb"]
        return read(encoded(wire.SelfSubjectAccessReview, {"status": {"allowed": wanted != self.forbidden}}))


async def test_an_answer_that_comes_late_is_for_whoever_asks_next() -> None:
    """Whoever asks about readiness does not wait long; a slow API, or a rate that we keep, would never be heard."""
    api: Any = SlowApi()
    asked = Permissions(api)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await asked.missing()
    api.may_answer.set()
    assert await asked.missing() == ["delete jobs", "delete pods"]
    assert await asked.missing() == ["delete jobs", "delete pods"]
    assert api.asked == WISHES
    await asked.close()


async def test_asking_is_given_up_at_the_end() -> None:
    """Nobody waits for an API that does not answer."""
    api: Any = SlowApi()
    asked = Permissions(api)
    waiting = asyncio.create_task(asked.missing())
    await api.all_asked.wait()
    await asked.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_what_is_missing_is_asked_for_again_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has just allowed it looks whether that helped; that nothing is missing holds for longer."""
    now = 0.0
    monkeypatch.setattr(permissions, "monotonic", lambda: now)
    api: Any = SlowApi()
    api.may_answer.set()
    asked = Permissions(api)
    assert await asked.missing() == ["delete jobs", "delete pods"]
    api.forbidden = "nothing"
    assert await asked.missing() == ["delete jobs", "delete pods"]
    now = ASKED_AGAIN
    assert await asked.missing() == []
    api.forbidden = "delete"
    now = ASKED_AGAIN + ASKED_EVERY - 1
    assert await asked.missing() == []
    now = ASKED_AGAIN + ASKED_EVERY
    assert await asked.missing() == ["delete jobs", "delete pods"]
    await asked.close()
