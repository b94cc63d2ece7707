"""Which processes are the control plane that is measured, and whether it can have a processor of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from bench.kubernetes import plane


def listening(port: int) -> Any:
    """A socket that takes connections."""
    return SimpleNamespace(status=psutil.CONN_LISTEN, laddr=SimpleNamespace(port=port), raddr=())


def connected(own: int, other: int) -> Any:
    """A socket between these ports."""
    return SimpleNamespace(
        status=psutil.CONN_ESTABLISHED, laddr=SimpleNamespace(port=own), raddr=SimpleNamespace(port=other)
    )


class FakeProcess:
    """A process with a name and sockets; None: they are not shown."""

    def __init__(self, name: str, sockets: Sequence[Any] | None) -> None:
        """As said."""
        self.info = {"name": name}
        self._sockets = sockets

    def net_connections(self, kind: str) -> Sequence[Any]:
        """Its sockets."""
        assert kind == "tcp"
        if self._sockets is None:
            raise psutil.AccessDenied(1)
        return self._sockets


def control_plane_on(port: int) -> list[FakeProcess]:
    """One whose API server listens there."""
    etcd = port + 1
    return [
        FakeProcess("etcd", [listening(etcd), connected(etcd, port + 1000)]),
        FakeProcess("kube-apiserver", [listening(port), connected(port + 1000, etcd), connected(port, port + 2000)]),
        FakeProcess("kube-scheduler", [listening(port + 2), connected(port + 2000, port)]),
    ]


def test_the_control_plane_is_the_one_of_the_server_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others of the same machine are left alone, and so is whoever else calls the API."""
    ours, theirs = control_plane_on(6443), control_plane_on(16443)
    other = FakeProcess("kubectl", [connected(5000, 6443)])
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter([*theirs, other, *ours]))
    found: list[Any] = list(plane.control_plane("https://127.0.0.1:6443"))
    assert found == ours


def test_a_server_elsewhere_has_no_processes_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where something here listens on the same port, nor where nothing does."""
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter(control_plane_on(6443)))
    assert plane.control_plane("https://192.0.2.1:6443") == []
    assert plane.control_plane("https://127.0.0.1:8000") == []


def test_where_sockets_are_not_shown_names_have_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """As to others than root where the control plane is root's."""
    hidden = [FakeProcess("kube-apiserver", None), FakeProcess("etcd", None), FakeProcess("bash", None)]
    monkeypatch.setattr(psutil, "process_iter", lambda _: iter(hidden))
    found: list[Any] = list(plane.control_plane("https://127.0.0.1:6443"))
    assert found == hidden[:2]


def test_a_control_plane_that_may_not_be_bound_is_not_parted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its processes are another user's."""

    def refuse(_pid: int, _processors: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    assert plane.can_part([psutil.Process()])
    assert not plane.can_part([])
    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert not plane.can_part([psutil.Process()])
