# ruff: noqa: PTH105, PTH108, PTH110, PTH120, PTH123, SIM105
# pathlib and contextlib would cost the shim 13 ms at each start.
"""What shim and server must agree on: how a process is told from all others, a file written, a lock taken.

Not here: what the files mean (`directory`), what the shim does (`main`).
"""

from __future__ import annotations

import fcntl
import os

LOCK = "lock"
TICKET = "ticket"
SPEC = "spec.json"
IDENTITY = "identity.json"
EXIT = "exit.json"
TOMBSTONE = "tombstone.json"
STOP = "stop"
STDIN = "stdin"

_boot_id = ""


def start_mark(pid: int) -> str | None:
    """When the process of this id started, in a form that no other process of this id ever has.

    None where there is none, or only a zombie. Linux: boot id and start time in clock ticks; elsewhere: what `ps` says,
    to the second.
    """
    return _start_mark_proc(pid) if os.path.exists("/proc/self/stat") else start_mark_ps(pid)


def _start_mark_proc(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name in parentheses may hold anything, so fields are counted from its end: state is the 3rd, start the 22nd.
    fields = stat[stat.rindex(b")") + 2 :].split()
    if fields[0] in (b"Z", b"X"):
        return None
    return f"{_boot()}:{int(fields[19])}"


def _boot() -> str:
    global _boot_id  # noqa: PLW0603 - a constant of the machine, read once
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            _boot_id = file.read().strip().decode("ascii")
    return _boot_id


def start_mark_ps(pid: int) -> str | None:
    """`start_mark` by `ps`, for systems without /proc."""
    read, write = os.pipe()
    try:
        child = os.posix_spawnp(
            "ps",
            ["ps", "-o", "state=", "-o", "lstart=", "-p", str(pid)],
            {"PATH": "/bin:/usr/bin", "LC_ALL": "C", "TZ": "UTC"},
            file_actions=[(os.POSIX_SPAWN_DUP2, write, 1)],
        )
    except BaseException:
        os.close(read)
        raise
    finally:
        os.close(write)
    with open(read, "rb") as file:
        words = file.read().decode("ascii", "replace").split()
    os.waitpid(child, 0)
    if not words or words[0].startswith("Z"):
        return None
    return " ".join(words[1:])


def write_durably(path: str, text: str) -> None:
    """Make `text` the whole content of the file: after a crash at any point there is the old file or the new one."""
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            data = text.encode()
            while data:
                data = data[os.write(fd, data) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make renames and new names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def read(path: str) -> str | None:
    """A small file's content; None where it is not there."""
    try:
        with open(path, "rb") as file:
            return file.read().decode()
    except FileNotFoundError:
        return None


def take_lock(directory: str, *, exclusive: bool) -> int | None:
    """Lock a worker's directory, until the returned descriptor is closed, at the latest by this process' end.

    None where another holds it now. A shim holds it exclusively for as long as it lives; who only wants to know whether
    one does takes it shared, so that two who ask are not in each other's way.
    """
    fd = os.open(f"{directory}/{LOCK}", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    return fd
