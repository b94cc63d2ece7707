"""gRPC's asyncio part does not survive a fork while anybody uses it: in the new process its first call would hang.

So whoever uses it is counted, and in a process that was forked meanwhile the next use is refused instead. A fork before
the first use does no harm; nor does one after the last, with gRPC's own support for forks (GRPC_ENABLE_FORK_SUPPORT),
which is on by default.
"""

from __future__ import annotations

import os
from typing import Final
from weakref import WeakSet

_users: Final[WeakSet[object]] = WeakSet()
_lost = False


def enter(user: object) -> None:
    """The user has something of gRPC's open from now on, until `leave` or its end. Raises `RuntimeError`."""
    check()
    _users.add(user)


def leave(user: object) -> None:
    """It has nothing open any more."""
    _users.discard(user)


def lost() -> bool:
    """Whether this process was forked while somebody used it."""
    return _lost


def check() -> None:
    """Raise `RuntimeError` where it was."""
    if _lost:
        raise RuntimeError(
            "this process was forked while the Queue Manager's client (or its testing server) was open, and gRPC does not "
            "survive that: fork before it is opened, or start the process with the method 'spawn'"
        )


def _forked() -> None:
    global _lost  # noqa: PLW0603 - it is the process that has lost it
    _lost = _lost or len(_users) > 0


if hasattr(os, "register_at_fork"):  # elsewhere there are no forks
    os.register_at_fork(after_in_child=_forked)
