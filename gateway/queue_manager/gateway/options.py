"""What a gateway is told. Where it comes from, and how it is written there, is its caller's business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Defaults are those of the documentation."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0: the system picks one."""
    server: str = "127.0.0.1:50051"
    """Where the server serves gRPC."""
    origins: Sequence[str] = ()
    """Origins of other sites whose pages may call; `*` for any."""
    hosts: Sequence[str] = ()
    """Names that the gateway is called by; `*`: any; empty: any, and on loopback only this machine's."""
    timeout: float = 30.0
    """Seconds that a call may take where the request does not say."""
    max_body_bytes: int = 2**20
    body_timeout: float = 10.0
    """Seconds in which a body must have come, and the first request of a connection."""
    max_streams: int = 10_000
    """Streams that are open at a time."""
    version: str = "0"
    """Of the software, for the document."""
