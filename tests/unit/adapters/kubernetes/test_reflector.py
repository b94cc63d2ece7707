"""The copy of a cluster's objects stays true whatever becomes of the watch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest
from aiohttp import web

from queue_manager.server.adapters.kubernetes import reflector
from queue_manager.server.adapters.kubernetes.objects import JOBS, KubernetesJob, read_watch_event
from queue_manager.server.adapters.kubernetes.reflector import Reflector
from queue_manager.wire import kubernetes_pb2 as wire
from tests.support.fake_kubernetes import FakeKubernetes, frame, frames, listed, status
from tests.support.local_workers import until


class Copy:
    """A reflector at work, and what it told."""

    def __init__(self, told: list[str], jobs: Reflector[KubernetesJob], befallen: list[str]) -> None:
        self.told = told
        self.jobs = jobs
        self.befallen = befallen

    @property
    def names(self) -> list[str]:
        """What it has."""
        return sorted(self.jobs.objects)


@asynccontextmanager
async def reflected(cluster: FakeKubernetes) -> AsyncIterator[Copy]:
    """A copy of it, once it has been listed."""
    told: list[str] = []
    befallen: list[str] = []
    async with cluster.serve() as api:
        jobs = Reflector(
            api,
            JOBS,
            "a=b",
            changed=lambda job: told.append(job.metadata.name),
            rng=Random(1),
            observe=lambda _, befell: befallen.append(befell),
        )
        task = asyncio.create_task(jobs.run())
        try:
            async with asyncio.timeout(20):
                await jobs.synced.wait()
            yield Copy(told, jobs, befallen)
        finally:
            task.cancel()
            await asyncio.wait([task])


def event(kind: str, name: str, version: str, **status: Any) -> dict[str, Any]:
    """What a watch tells."""
    metadata = {"name": name, "uid": f"uid-{name}", "resourceVersion": version}
    return {"type": kind, "object": {"metadata": metadata, "status": status}}


GONE_IN_STREAM = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}


async def test_it_follows_what_comes_changes_and_goes() -> None:
    """And tells of each."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.watches.append(
        frames(event("ADDED", "b", "6"), event("MODIFIED", "a", "7", active=1), event("DELETED", "b", "8"), ends=False)
    )
    async with reflected(cluster) as copy:
        await until(lambda: copy.told == ["a", "b", "a", "b"])
        assert copy.names == ["a"]
        assert copy.jobs.objects["a"].metadata.resource_version == "7"
    assert cluster.requests[1]["allowWatchBookmarks"] == "true"
    assert cluster.requests[1]["labelSelector"] == "a=b"


async def test_a_change_of_what_is_not_read_is_taken_in_and_not_told() -> None:
    """Controllers write much of which nobody here makes anything."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.watches.append(
        frames(event("MODIFIED", "a", "6", ready=1), event("MODIFIED", "a", "7", active=1), ends=False)
    )
    async with reflected(cluster) as copy:
        await until(lambda: copy.jobs.objects["a"].metadata.resource_version == "7")
        assert copy.told == ["a", "a"]


async def test_a_frame_that_is_cut_short_is_no_event() -> None:
    """The connection is gone, and the watch goes on where it was."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(frame("MODIFIED", event("", "a", "6")["object"])[:-3])
        return response

    cluster.watches += [cut, frames(event("ADDED", "b", "7"), ends=False)]
    async with reflected(cluster) as copy:
        await until(lambda: copy.names == ["a", "b"])
        assert cluster.watched_from == ["5", "5"]
        assert copy.befallen == ["relist", "failed"]


async def test_a_watch_that_ends_is_resumed_where_it_was_bookmarks_included() -> None:
    """No second list."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.watches += [frames(event("MODIFIED", "a", "6"), event("BOOKMARK", "", "90")), frames()]
    async with reflected(cluster) as copy:
        await until(lambda: cluster.watched_from == ["5", "90", "90"])
        assert copy.befallen == ["relist"]
        assert copy.names == ["a"]


async def test_a_version_that_is_gone_again_and_again_is_asked_for_with_backoff() -> None:
    """Each time everything is listed, which costs a busy API most."""
    cluster = FakeKubernetes()
    cluster.watches += [frames(GONE_IN_STREAM, ends=False) for _ in range(5)]
    cluster.watches.append(frames(event("BOOKMARK", "", "90"), ends=False))
    async with reflected(cluster) as copy:
        began = asyncio.get_running_loop().time()
        await until(lambda: copy.befallen.count("expired") == 5 and cluster.watched_from[-1:] == ["1"])
        await until(lambda: copy.befallen.count("relist") == 6)
        backoff = (0.05 + 0.1 + 0.2 + 0.4 + 0.8) * 0.99
        assert asyncio.get_running_loop().time() - began >= backoff + 5 * reflector.PAUSE


@pytest.mark.parametrize(
    "gone",
    [status(410), frames(GONE_IN_STREAM, ends=False)],
    ids=["as a status", "in the stream"],
)
async def test_where_the_version_is_gone_everything_is_listed_and_what_is_missing_has_gone(gone: Any) -> None:
    """The deletion that nobody told of."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.add("b", "6")

    async def meanwhile(request: Any) -> Any:
        del cluster.items["a"]
        cluster.add("c", "9")
        return await gone(request)

    cluster.watches.append(meanwhile)
    async with reflected(cluster) as copy:
        await until(lambda: copy.befallen == ["relist", "expired", "relist"])
        assert copy.names == ["b", "c"]
        assert sorted(copy.told) == ["a", "a", "b", "c"], "b has not changed"


async def test_a_list_whose_next_page_is_gone_is_begun_anew() -> None:
    """The third way in which a 410 comes."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")

    async def first_page(request: Any) -> Any:
        return web.Response(body=listed(wire.JobList, [], version="4", more="more"))

    cluster.lists += [first_page, status(410)]
    async with reflected(cluster) as copy:
        assert copy.names == ["a"]
    assert cluster.requests[1]["continue"] == "more"


async def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_hot_loop() -> None:
    """At most five times a second."""
    cluster = FakeKubernetes()
    cluster.watches += [frames() for _ in range(100)]
    async with reflected(cluster):
        began = asyncio.get_running_loop().time()
        await until(lambda: len(cluster.watched_from) >= 5)
        assert asyncio.get_running_loop().time() - began >= 3 * reflector.PAUSE


async def test_a_silent_watch_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is dead and does not say so."""
    monkeypatch.setattr(reflector, "SILENCE", 0.1)
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.watches.append(frames(event("MODIFIED", "a", "6"), ends=False))
    async with reflected(cluster) as copy:
        await until(lambda: cluster.watched_from[:2] == ["5", "6"])
        assert copy.names == ["a"]


async def test_a_refusal_in_plain_text_is_waited_out_as_long_as_it_says() -> None:
    """An overloaded server's 429, which is no JSON."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    cluster.watches += [status(429, text="too many requests", retry_after="1"), frames(event("ADDED", "b", "6"))]
    async with reflected(cluster) as copy:
        began = asyncio.get_running_loop().time()
        await until(lambda: "too many requests" in copy.jobs.problem)
        await until(lambda: copy.names == ["a", "b"])
        assert asyncio.get_running_loop().time() - began >= 0.9
        assert copy.jobs.problem == ""


async def test_whatever_goes_wrong_the_watch_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what nobody has thought of: without its watches a server sees nothing."""
    cluster = FakeKubernetes()
    cluster.add("a", "5")
    broken = iter([True])
    real = read_watch_event

    def breaks_once(raw: bytes) -> tuple[str, bytes]:
        if next(broken, False):
            raise AttributeError("a fault of ours")
        return real(raw)

    monkeypatch.setattr(reflector, "read_watch_event", breaks_once)
    cluster.watches += [frames(event("ADDED", "b", "6")), frames(event("ADDED", "b", "6"), ends=False)]
    async with reflected(cluster) as copy:
        await until(lambda: copy.names == ["a", "b"])
        assert "failed" in copy.befallen
