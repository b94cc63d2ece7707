"""Processes that outlive the server which started them, told apart for certain.

A process id alone names nothing: ids are used again, within seconds on a busy machine. Id and start time together name
one process for as long as the machine is up, and the boot id does for ever.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass

import msgspec

from queue_manager.server.adapters.local.shim.process import start_mark


@dataclass(frozen=True, slots=True)
class Process:
    """One process, alive or not."""

    pid: int
    start: str

    def alive(self) -> bool:
        """Whether it runs now (a zombie does not)."""
        return self.pid > 0 and start_mark(self.pid) == self.start

    def signal(self, signum: int) -> bool:
        """Send it a signal, it and no later one of the same id. Answers whether it was there."""
        if sys.platform != "linux":
            return self._signal_by_id(signum)
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError:  # a kernel or a sandbox without pidfds
            return self._signal_by_id(signum)
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def signal_group(self, signum: int) -> bool:
        """Send a signal to the process group that it leads."""
        if not self.alive():
            return False
        try:
            os.killpg(self.pid, signum)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal_by_id(self, signum: int) -> bool:
        if not self.alive():
            return False
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            return False
        return True


class Identity(msgspec.Struct, frozen=True):
    """`identity.json`: written by the shim before any code of the worker runs."""

    uid: str
    pid: int
    start: str
    shim_pid: int
    shim_start: str
    time: float

    @property
    def worker(self) -> Process:
        """The worker, leader of its own session."""
        return Process(self.pid, self.start)

    @property
    def shim(self) -> Process:
        """Its supervisor."""
        return Process(self.shim_pid, self.shim_start)


class Exit(msgspec.Struct, frozen=True):
    """`exit.json`: written by the shim when the worker has ended, by the server where no shim was left to."""

    time: float
    exit_code: int | None = None
    """128 + n for signal n; None: nobody knows."""
    signal: int | None = None
    errno: int | None = None
    """Why its command could not be run."""
    overdue: bool = False
    """The shim ended it because its time was up."""


class Tombstone(msgspec.Struct, frozen=True):
    """`tombstone.json`: the worker was deleted before it was started, and never will be."""

    uid: str
    time: float
