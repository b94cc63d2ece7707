"""Where the log of a server inside another program goes: to the standard library's `logging`, as a library's does.

Unconfigured, structlog prints every line on standard output, which belongs to the program (and to its tests). One that
has configured structlog keeps what it has chosen.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

_FACTORY: Final = structlog.stdlib.LoggerFactory()
"""By it the configuration is known as the one made here."""
_lock = threading.Lock()
_users = 0


@contextmanager
def quiet_log() -> Iterator[None]:
    """While inside; any number at a time. Afterwards structlog is as it was."""
    global _users  # noqa: PLW0603 - structlog's configuration is the process's, and so is the count of its users
    with _lock:
        _users += 1
        if not structlog.is_configured():
            structlog.configure(
                processors=[
                    structlog.stdlib.filter_by_level,
                    structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
                ],
                wrapper_class=structlog.stdlib.BoundLogger,
                logger_factory=_FACTORY,
                cache_logger_on_first_use=False,
            )
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users and structlog.get_config()["logger_factory"] is _FACTORY:
                structlog.reset_defaults()
