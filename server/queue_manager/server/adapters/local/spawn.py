"""Starting a shim and handing it its order.

The order goes through a pipe: no environment or secret ever stands in a file or a command line, and a shim whose server
dies before the order is complete does nothing. The answer comes back through another one.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from queue_manager.server.adapters.local.shim.main import COMPLETE

_BOOTSTRAP: Final = "import sys; sys.path.insert(0, sys.argv.pop(1)); from shim.main import main; main()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Everything that a shim needs; `shim.main.Order` reads it."""

    ticket: str
    grace: float
    timeout: float | None
    stdout_limit: int
    stderr_limit: int
    command: Sequence[str]
    environment: Mapping[str, str]

    def encode(self) -> bytes:
        """Fields, each ended by a NUL: what can be neither in an argument nor in an environment."""
        fields = (
            self.ticket,
            str(self.grace),
            "" if self.timeout is None else str(self.timeout),
            str(self.stdout_limit),
            str(self.stderr_limit),
            str(len(self.command)),
            *self.command,
            *(f"{name}={value}" for name, value in self.environment.items()),
            COMPLETE,
        )
        return b"".join(os.fsencode(field) + b"\0" for field in fields)


def spawn(python: str, directory: Path, order: Order, *, timeout: float) -> tuple[int, str]:
    """Start a shim in a worker's directory. Blocks until it reports, at most `timeout` seconds.

    Answers the shim's process id, which this process must reap, and its report: `started`, `refused` (the command
    cannot be run), `superseded`, or "" where it has said nothing.
    """
    until = time.monotonic() + timeout
    order_read, order_write = os.pipe()
    report_read, report_write = os.pipe()
    try:
        log = os.open(directory / "shim.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            pid = os.posix_spawn(
                python,
                [python, "-I", "-S", "-c", _BOOTSTRAP, str(Path(__file__).parent), str(directory)],
                {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, order_read, 0),
                    (os.POSIX_SPAWN_DUP2, report_write, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                ],
                setsigmask=(),
            )
        finally:
            os.close(log)
        os.close(order_read)
        os.close(report_write)
        order_read = report_write = -1
        _write(order_write, order.encode(), until)
        os.close(order_write)
        order_write = -1
        return pid, _read_line(report_read, until)
    finally:
        for fd in (order_read, order_write, report_read, report_write):
            if fd >= 0:
                os.close(fd)


def _write(fd: int, data: bytes, until: float) -> None:
    """Write all, unless the reader goes away or is too slow: then it is cut off, and the shim does nothing."""
    os.set_blocking(fd, False)
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while data and (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return


def _read_line(fd: int, until: float) -> str:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    line = b""
    while not line.endswith(b"\n") and (left := until - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            part = os.read(fd, 256)
            if not part:
                break
            line += part
    return line.decode(errors="replace").strip()
