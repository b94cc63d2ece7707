"""Calls of the Kubernetes API: what is made of those that come to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import aiohttp
import pytest
from aiohttp import web

from queue_manager.server.adapters.kubernetes.api import NoAnswer, NotSent, Refusal, frames
from tests.support.fake_kubernetes import FakeKubernetes, status


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


@pytest.mark.parametrize(("said", "meant"), [("7", 7.0), ("3600", 60.0), ("inf", None), ("-1", 0.0), ("soon", None)])
async def test_a_wish_to_be_asked_later_is_honoured_within_reason(said: str, meant: float | None) -> None:
    """Else it would turn the server off."""
    cluster = FakeKubernetes()
    cluster.lists.append(status(503, text="overloaded", retry_after=said))
    async with cluster.serve() as api:
        with pytest.raises(Refusal) as refused:
            await api.call("list", "jobs")
    assert refused.value.retry_after == meant


async def test_a_proxys_password_is_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's address may be."""
    cluster = FakeKubernetes()
    monkeypatch.setenv("HTTP_PROXY", "http://user:S3CRET@127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://user:S3CRET@127.0.0.1:1")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    async with cluster.serve() as api:
        with pytest.raises(NoAnswer) as failed:
            await api.call("list", "jobs")
    assert "127.0.0.1:1" in str(failed.value)
    assert "S3CRET" not in str(failed.value)


@pytest.mark.parametrize(
    ("verb", "body", "sent", "kind"),
    [
        ("create", b"k8s\0job", b"k8s\0job", "application/vnd.kubernetes.protobuf"),
        ("create", {"kind": "Job"}, b'{"kind":"Job"}', "application/json"),
        ("patch", {"spec": None}, b'{"spec":null}', "application/merge-patch+json"),
        ("list", None, b"", None),
    ],
)
async def test_a_body_is_sent_as_what_it_is(verb: str, body: Any, sent: bytes, kind: str | None) -> None:
    """To where the query says, and with its odd characters."""
    cluster = FakeKubernetes()
    seen: list[tuple[bytes, str | None]] = []

    async def take(request: web.Request) -> web.StreamResponse:
        seen.append((await request.read(), request.headers.get("Content-Type")))
        return web.Response()

    cluster.lists.append(take)
    query = {"labelSelector": "a=b,c!=d", "continue": "eyJ2+/ä=="}
    async with cluster.serve() as api:
        await api.call(verb, "jobs", body=body, query=query)
    assert seen == [(sent, kind)]
    assert cluster.requests == [query]


class Chunks:
    """A body that comes in these pieces."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def iter_any(self) -> AsyncIterator[bytes]:
        """See aiohttp's `StreamReader`."""
        for chunk in self._chunks:
            yield chunk


async def read(into: list[bytes], *chunks: bytes) -> None:
    """Add the frames that come of it."""
    async for frame in frames(cast("aiohttp.StreamReader", Chunks(*chunks))):
        into.append(frame)  # noqa: PERF401 - they are to be there where it raises, too


FRAMES = [b"", b"a", b"bc" * 200, b"", b"d" * 70_000]
SENT = b"".join(len(frame).to_bytes(4, "big") + frame for frame in FRAMES)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 404, 4096, len(SENT)])
async def test_a_watchs_frames_are_whole_however_they_come(size: int) -> None:
    """Several at once, and none of them at once."""
    found: list[bytes] = []
    await read(found, *[SENT[at : at + size] for at in range(0, len(SENT), size)])
    assert found == FRAMES


@pytest.mark.parametrize("cut", [1, 4, 5, 70_003])
async def test_a_watch_that_ends_inside_a_frame_was_cut_off(cut: int) -> None:
    """What came before that has been told."""
    found: list[bytes] = []
    with pytest.raises(aiohttp.ClientPayloadError, match="inside a frame"):
        await read(found, SENT[:-cut])
    assert found == FRAMES[:-1]
