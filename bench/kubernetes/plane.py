"""The control plane's processes, as far as they are this machine's: which they are, and a processor of their own."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final
from urllib.parse import urlsplit

import psutil

NAMES: Final = frozenset({"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"})


def control_plane(server: str) -> list[psutil.Process]:
    """The processes of the API server with this URL: itself, the etcd that it calls, the controllers that call it.

    Not everybody is shown whose a connection is. Who is not gets all the processes of these names.
    """
    url = urlsplit(server)
    port = url.port or (80 if url.scheme == "http" else 443)
    if not _is_here(url.hostname or "", port):
        return []
    ports = {}
    for process in psutil.process_iter(["name"]):
        if process.info["name"] in NAMES:
            try:
                ports[process] = _ports(process)
            except psutil.AccessDenied:
                return [each for each in psutil.process_iter(["name"]) if each.info["name"] in NAMES]
            except psutil.NoSuchProcess:
                continue
    called = {port}.union(*(calls for listens, calls in ports.values() if port in listens))
    return [process for process, (listens, calls) in ports.items() if listens & called or port in calls]


def can_part(plane: Collection[psutil.Process]) -> bool:
    """Whether there is a processor for it alone, and we may give it that one."""
    if not plane or not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        return False
    try:
        for process in plane:
            os.sched_setaffinity(process.pid, os.sched_getaffinity(process.pid))
    except OSError:
        return False
    return True


@contextmanager
def parted(plane: Sequence[psutil.Process], others: Sequence[psutil.Process]) -> Iterator[None]:
    """The control plane on one processor, and these on another."""
    first, second, *_ = sorted(os.sched_getaffinity(0))
    before = [(process, os.sched_getaffinity(process.pid)) for process in (*plane, *others)]
    try:
        _bind(plane, {first})
        _bind(others, {second})
        yield
    finally:
        for process, processors in before:
            _bind([process], processors)


def _bind(processes: Iterable[psutil.Process], processors: set[int]) -> None:
    """Have every thread of these run on these processors alone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, processors)


def _is_here(host: str, port: int) -> bool:
    """Whether one of this machine's addresses is meant."""
    ours = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    return any(str(address[0]) in ours for *_, address in socket.getaddrinfo(host, port))


def _ports(process: psutil.Process) -> tuple[set[int], set[int]]:
    """The ports that it listens on, and those at the other end of its connections."""
    sockets = process.net_connections("tcp")
    listens = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
    return listens, {each.raddr.port for each in sockets if each.status == psutil.CONN_ESTABLISHED}
