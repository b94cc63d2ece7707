# ruff: noqa: PTH208, SIM105
# pathlib and contextlib would cost the shim 13 ms at each start.
"""What a shim does: start the worker at most once, keep its output, end it when told, record its end.

    order ← standard input        everything the worker needs; a shim whose server died while writing it does nothing
    lock                          held exclusively until this process ends; nobody else starts this worker meanwhile
    ticket, identity, tombstone   checked under the lock: only the newest launch, and only the first that gets so far
    fork                          the child waits
    identity.json                 durable, before any code of the worker runs
    go → child: exec
    report → standard output      `started`, or why not; then the server is needed no more
    copy, watch, obey SIGTERM     until the worker has ended
    exit.json                     durable, after the last byte of output

SIGTERM means: end the worker as the file `stop` says (`<grace> …`, in seconds; without it, the default grace):
SIGTERM to its process group, and SIGKILL when the grace is over. A later, shorter grace hastens that.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # what `signal` wraps in enums; see the package's docstring
import os
import select
import sys
import time

from . import process
from .streams import LineFile

CHUNK = 65536
DRAIN = 1.0
"""How long output is still read when the worker has ended but something outside its group holds the pipe (seconds)."""

LOCK_WAIT = 2.0
"""How long those who look at the directory may keep the lock from a shim, in seconds. They need a millisecond."""

COMPLETE = "."
"""Last field of an order, by which one is told that was cut off."""


class Order:
    """What the server asks for: fields, each ended by a NUL."""

    def __init__(self, fields: list[str]) -> None:
        """Ticket, default grace, timeout, limits of stdout and stderr, number of arguments, arguments, environment."""
        self.ticket = fields[0]
        self.grace = float(fields[1])
        self.timeout = float(fields[2]) if fields[2] else None
        self.limits = (int(fields[3]), int(fields[4]))
        count = int(fields[5])
        self.command = fields[6 : 6 + count]
        self.environment = dict(field.split("=", 1) for field in fields[6 + count :])


def read_order() -> Order | None:
    """The order from standard input; None if it was cut off."""
    parts = []
    while part := os.read(0, CHUNK):
        parts.append(part)
    fields = os.fsdecode(b"".join(parts)).split("\0")
    if fields[-2:] != [COMPLETE, ""]:
        return None
    return Order(fields[:-2])


def report(line: str) -> None:
    """Tell the server, if it still lives."""
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass


class Shim:
    """The supervisor of one worker, in its directory."""

    def __init__(self, directory: str, order: Order) -> None:
        """The lock is held, and the worker is to be started."""
        self._directory = directory
        self._order = order
        self._pid = 0
        self._status: int | None = None
        self._told = False
        self._overdue = False
        self._kill_at: float | None = None
        self._wakeup, wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup, False)
        for signum in (_signal.SIGTERM, _signal.SIGCHLD):
            _signal.signal(signum, lambda *_: None)  # only what has a handler is written to the pipe
        for signum in (_signal.SIGINT, _signal.SIGHUP):
            _signal.signal(signum, _signal.SIG_IGN)
        _signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def start(self) -> bool:
        """Fork the worker, record it, let it go; or record why its command cannot be run."""
        fifo = self._path(process.STDIN)
        if not os.path.lexists(fifo):  # an earlier shim may have died before it started anything
            os.mkfifo(fifo, 0o600)
        self._stdin = os.open(
            fifo, os.O_RDWR
        )  # so that the worker never sees an end of input while servers come and go
        stdin = os.open(fifo, os.O_RDONLY)
        stdout, worker_stdout = os.pipe()
        stderr, worker_stderr = os.pipe()
        limits = self._order.limits
        self._streams = {
            stdout: LineFile(self._directory, "stdout", limits[0]),
            stderr: LineFile(self._directory, "stderr", limits[1]),
        }
        go_read, go = os.pipe()
        failure, failure_write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._become_worker(go_read, go, failure_write, (stdin, worker_stdout, worker_stderr))
        for fd in (stdin, worker_stdout, worker_stderr, go_read, failure_write):
            os.close(fd)
        try:
            self._record_identity()
        except BaseException:
            os.close(go)  # without its go the child ends
            os.waitpid(self._pid, 0)
            raise
        os.write(go, b"!")
        os.close(go)
        error = os.read(failure, 64)
        os.close(failure)
        if not error:
            return True
        os.waitpid(self._pid, 0)
        number = int(error)
        self._record_exit(127 if number == 2 else 126, errno=number)
        return False

    def watch(self) -> None:
        """Until the worker has ended, and then until that is recorded."""
        poll = select.poll()
        for fd in (self._wakeup, *self._streams):
            poll.register(fd, select.POLLIN)
        began = time.monotonic()
        deadline = None if self._order.timeout is None else began + self._order.timeout
        while not self._has_ended():
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                deadline, self._overdue = None, True
                self._end(self._order.grace)
            if self._kill_at is not None and now >= self._kill_at:
                self._signal_group(_signal.SIGKILL)
                self._kill_at = now + 1.0
            times = [time for time in (deadline, self._kill_at) if time is not None]
            self._serve(poll, None if not times else max(0.0, min(times) - now))
        self._signal_group(_signal.SIGKILL)
        if self._status is None:
            _, self._status = os.waitpid(self._pid, 0)
        until = time.monotonic() + DRAIN
        while self._streams and (left := until - time.monotonic()) > 0:
            self._serve(poll, left)
        for file in self._streams.values():
            file.close()
        code = os.waitstatus_to_exitcode(self._status)
        self._record_exit(code if code >= 0 else 128 - code, signal=-code if code < 0 else None)

    def _serve(self, poll: select.poll, timeout: float | None) -> None:
        """Wait for output or a signal, once, and take it."""
        for fd, _ in poll.poll(None if timeout is None else timeout * 1000):
            if fd == self._wakeup:
                if _signal.SIGTERM in os.read(fd, 4096):
                    self._end(self._grace())
            elif chunk := os.read(fd, CHUNK):
                self._streams[fd].write(chunk)
            else:
                poll.unregister(fd)
                os.close(fd)
                self._streams.pop(fd).close()

    def _has_ended(self) -> bool:
        """Whether the worker has. It is left unreaped where possible, so that its id and its group's stay its own."""
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        pid, status = os.waitpid(self._pid, os.WNOHANG)  # macOS before Python 3.13
        if pid:
            self._status = status
        return pid != 0

    def _grace(self) -> float:
        text = process.read(self._path(process.STOP))
        return self._order.grace if text is None else float(text.split()[0])

    def _end(self, grace: float) -> None:
        at = time.monotonic() + grace
        self._kill_at = at if self._kill_at is None else min(at, self._kill_at)
        if grace > 0 and not self._told:
            self._told = True
            self._signal_group(_signal.SIGTERM)

    def _signal_group(self, signum: int) -> None:
        try:
            os.killpg(self._pid, signum)
        except (ProcessLookupError, PermissionError):  # macOS: EPERM where only a zombie is left
            pass

    def _become_worker(self, go_read: int, go: int, failure: int, streams: tuple[int, int, int]) -> None:
        try:
            os.close(go)
            _signal.set_wakeup_fd(-1)
            os.setsid()
            if not os.read(go_read, 1):
                os._exit(127)
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
            for signum in (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM, _signal.SIGPIPE, _signal.SIGXFSZ):
                _signal.signal(signum, _signal.SIG_DFL)
            command = self._order.command
            os.execvpe(command[0], command, self._order.environment)  # noqa: S606 - it is what a runner is for
        except OSError as e:
            os.write(failure, str(e.errno or 0).encode())
        finally:
            os._exit(127)

    def _record_identity(self) -> None:
        worker, shim = process.start_mark(self._pid), process.start_mark(os.getpid())
        process.write_durably(
            self._path(process.IDENTITY),
            f'{{"uid": "{os.urandom(16).hex()}", "pid": {self._pid}, "start": "{worker}", '
            f'"shim_pid": {os.getpid()}, "shim_start": "{shim}", "time": {time.time():.6f}}}\n',
        )

    def _record_exit(self, code: int, *, signal: int | None = None, errno: int | None = None) -> None:
        text = (
            f'{{"exit_code": {code}, "signal": {_json(signal)}, "errno": {_json(errno)}, '
            f'"overdue": {"true" if self._overdue else "false"}, "time": {time.time():.6f}}}\n'
        )
        for _ in range(60):  # a full disk may be tidied up; without this record nobody knows how the worker ended
            try:
                process.write_durably(self._path(process.EXIT), text)
            except OSError:
                time.sleep(1.0)
            else:
                return

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _json(number: int | None) -> str:
    return "null" if number is None else str(number)


def lock_directory(directory: str) -> bool:
    """Take the lock for the rest of this process' life. Others hold it for moments, or it is another shim's for good."""
    until = time.monotonic() + LOCK_WAIT
    while process.take_lock(directory, exclusive=True) is None:
        if os.path.lexists(f"{directory}/{process.IDENTITY}") or time.monotonic() >= until:
            return False
        time.sleep(0.002)
    return True


def may_start(directory: str, ticket: str) -> bool:
    """Whether this is the newest launch of a worker that has not been started, ended, or deleted. The lock is held."""
    once = (process.IDENTITY, process.EXIT, process.TOMBSTONE)
    if any(os.path.lexists(f"{directory}/{name}") for name in once):
        return False
    return process.read(f"{directory}/{process.TICKET}") == ticket


def main() -> None:
    """Supervise the worker whose directory is the only argument."""
    directory = sys.argv[1]
    for fd in [int(name) for name in os.listdir("/dev/fd")]:
        if fd > 2:
            try:
                os.close(fd)  # a socket of the server that its libraries let leak would keep its port taken
            except OSError:  # the listing's own
                pass
    try:
        os.setsid()
    except PermissionError:  # is a session's leader already
        pass
    order = read_order()
    if order is None:
        return
    if not lock_directory(directory) or not may_start(directory, order.ticket):
        report("superseded")
        return
    shim = Shim(directory, order)
    started = shim.start()
    report("started" if started else "refused")
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    if started:
        shim.watch()
