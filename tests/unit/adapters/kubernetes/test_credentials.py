"""Tokens that are replaced while a server runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from kubernetes_asyncio.client import Configuration

from queue_manager.server.adapters.kubernetes import credentials
from queue_manager.server.adapters.kubernetes.api import Api, Refusal
from queue_manager.server.adapters.kubernetes.credentials import Credentials
from queue_manager.server.domain.errors import Unavailable
from tests.support.fake_kubernetes import FakeKubernetes


@pytest.fixture
async def cluster() -> FakeKubernetes:
    """It lets in whoever has the token \"first\"."""
    made = FakeKubernetes()
    made.token = "first"
    return made


class Kubeconfig:
    """One with a token file beside it, which another context of it does not use."""

    def __init__(self, folder: Path, server: str) -> None:
        self.path = folder / "kubeconfig"
        self.token = folder / "token"
        self.token.write_text("first\n")
        self.write(server, "workers")

    def write(self, server: str, current: str) -> None:
        """`current`: the context that is the current one."""
        users = [{"name": "workers", "user": {"tokenFile": "token"}}, {"name": "other", "user": {"token": "other"}}]
        document = {
            "current-context": current,
            "clusters": [{"name": "here", "cluster": {"server": server}}],
            "users": users,
            "contexts": [
                {"name": user["name"], "context": {"cluster": "here", "user": user["name"], "namespace": "spaces"}}
                for user in users
            ],
        }
        self.path.write_text(yaml.safe_dump(document))


@pytest.fixture
async def kubeconfig(
    cluster: FakeKubernetes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Kubeconfig]:
    """KUBECONFIG names it."""
    async with cluster.serve() as api:
        written = Kubeconfig(tmp_path, api.server)
        monkeypatch.setenv("KUBECONFIG", str(written.path))
        yield written


async def test_a_token_that_was_replaced_is_read_anew_when_the_old_one_is_refused(
    cluster: FakeKubernetes, kubeconfig: Kubeconfig
) -> None:
    """And the call is made again: nobody notices."""
    async with await Api.connect() as api:
        assert api.namespace == "spaces"
        await api.call("list", "jobs")
        cluster.token = "second"
        kubeconfig.token.write_text("second")
        await asyncio.gather(*(api.call("list", "jobs") for _ in range(8)))
        assert not api.locked_out
        assert len(cluster.requests) == 9


async def test_another_context_that_has_become_the_current_one_is_not_taken(
    cluster: FakeKubernetes, kubeconfig: Kubeconfig
) -> None:
    """The server goes on where it was."""
    async with await Api.connect() as api:
        cluster.token = "second"
        kubeconfig.token.write_text("second")
        kubeconfig.write(api.server, "other")
        await api.call("list", "jobs")


async def test_who_is_locked_out_is_told_so_and_asks_for_a_token_once_a_second(
    cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin may be what is asked."""
    asked = []

    async def ask(configuration: Configuration) -> None:
        asked.append(1)
        configuration.api_key["BearerToken"] = "Bearer wrong"

    async with cluster.serve(ask) as api:
        for _ in range(5):
            with pytest.raises(Refusal, match="401 Unauthorized"):
                await api.call("list", "jobs")
        assert api.locked_out
        assert len(asked) == 1
        monkeypatch.setattr(credentials, "RENEWED_EVERY", 0.0)
        cluster.token = "wrong"
        await api.call("list", "jobs")
        assert not api.locked_out


async def test_a_watch_that_is_refused_has_the_new_token_the_next_time(
    cluster: FakeKubernetes, kubeconfig: Kubeconfig
) -> None:
    """The reflector begins it anew."""
    async with await Api.connect() as api:
        cluster.token = "second"
        kubeconfig.token.write_text("second")
        with pytest.raises(Refusal):
            async with api.watch("jobs", {"resourceVersion": "1"}, silence=5):
                pass
        async with api.watch("jobs", {"resourceVersion": "1"}, silence=5):
            assert cluster.turned_away == 1


async def test_a_kubeconfig_that_is_half_written_leaves_the_token_that_was_there(kubeconfig: Kubeconfig) -> None:
    """One at the start is told of."""
    async with await Api.connect() as api:
        kubeconfig.path.write_text("users: [{name: wor")
        assert not await api._credentials.renew(await api._credentials.headers())
        await api.call("list", "jobs")
    with pytest.raises(Unavailable, match="no way to Kubernetes"):
        await Credentials.read()


async def test_a_token_that_is_none_is_left_out(cluster: FakeKubernetes, kubeconfig: Kubeconfig) -> None:
    """A header cannot have two lines; the API says that it does not know us."""
    async with await Api.connect() as api:
        cluster.token = "second"
        kubeconfig.token.write_text("sec\nond")
        with pytest.raises(Refusal, match="401"):
            await api.call("list", "jobs")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the kubeconfig is not one"),
        ("clusters: 5", "the kubeconfig is not one"),
        ("users: [{name: workers, user: text}]", "no way to Kubernetes"),
        ("a: {b: S3CRET\n", "expected ',' or '}'"),
        (
            "current-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, users: {token: S3CRET}}]",
            "Expected key user in",
        ),
        (
            "current-context: c\nclusters: [{name: c, cluster: {server: 'https://127.0.0.1:1',"
            " certificate-authority-data: bm9uZQ==}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: S3CRET}}]",
            "its certificates cannot be read",
        ),
        (
            "current-context: c\nclusters: [{name: c, cluster: {server: 'https://u:S3CRET@127.0.0.1:99999'}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {token: S3CRET}}]",
            "its server's address is none",
        ),
    ],
    ids=["empty", "no clusters", "no user", "no YAML", "a slip of the pen", "no certificate", "no port"],
)
async def test_a_kubeconfig_that_is_none_is_told_of_without_its_secrets(
    text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library quotes what it does not understand."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(Unavailable, match=words) as caught:
        await Api.connect()
    assert "S3CRET" not in caught.value.message


async def test_a_kubeconfig_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else is tried."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match=r"KUBECONFIG is .*/nowhere, and there is no such file"):
        await Api.connect()


async def test_those_who_wait_for_a_token_share_the_answer(
    cluster: FakeKubernetes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plugin that hangs is asked once."""
    monkeypatch.setattr(credentials, "RENEWING", 0.05)
    asked = []

    async def hang(_: Configuration) -> None:
        asked.append(1)
        await asyncio.Event().wait()

    async with cluster.serve(hang) as api:
        refused = await asyncio.gather(*(api.call("list", "jobs") for _ in range(8)), return_exceptions=True)
    assert {type(error) for error in refused} == {Refusal}
    assert len(asked) == 1
