"""The connection to a server: which, with which options, and as whom. No call is made here."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from typing import Final

import grpc

DEFAULT_TARGET: Final = "127.0.0.1:50051"
MAX_RECEIVE_BYTES: Final = 64 * 1024 * 1024
"""A page of 500 queues with 64 jobs each is more than grpc's own 4 MiB."""
MAX_REQUESTED_BY: Final = 256
"""Characters; the server keeps no more."""

_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MAX_RECEIVE_BYTES),
    # grpc waits 1 s to 2 minutes between connection attempts, and fails every call meanwhile. A server that restarts
    # must be found again within the pauses of our own retries.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # The least time that one connection attempt gets; grpc's own 20 s is longer than a call's timeout.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    # Two clients of one process don't share a broken connection's backoff.
    ("grpc.use_local_subchannel_pool", 1),
)


def resolve_target(target: str | None) -> str:
    """The server's address: as given, else `QM_SERVER`, else 127.0.0.1:50051."""
    return target or os.environ.get("QM_SERVER", "").strip() or DEFAULT_TARGET


def is_loopback(target: str) -> bool:
    """Whether the address is on this machine."""
    host = target.removeprefix("dns:").lstrip("/")
    return host.startswith(("127.", "localhost:", "[::1]:", "unix:")) or host == "localhost"


def open_channel(target: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """A channel to the server; it connects with the first call. Needs the running event loop."""
    # An `http_proxy` of the environment is meant for the network, not for this machine.
    options = [*_OPTIONS, ("grpc.enable_http_proxy", 0)] if is_loopback(target) else list(_OPTIONS)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


def caller_metadata(requested_by: str | None) -> tuple[tuple[str, str], ...]:
    """The metadata that says who calls: as given, else user@host."""
    name = default_caller() if requested_by is None else requested_by
    # Metadata values are printable ASCII (gRPC over HTTP/2); a name that is not must not break the call.
    ascii_name = "".join(c if " " <= c <= "~" else "?" for c in name.strip())[:MAX_REQUESTED_BY]
    return (("x-requested-by", ascii_name),) if ascii_name else ()


def default_caller() -> str:
    """`user@host` of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a passwd entry
        user = f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
