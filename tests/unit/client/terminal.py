"""Runs queuectl: in this process and event loop, as a process with pipes, or on a pseudo-terminal of a given size."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import re
import signal
import struct
import sys
import termios
from asyncio.subprocess import PIPE
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from queue_manager.client.cli import running
from queue_manager.client.cli.app import app
from queue_manager.client.cli.exit_codes import ExitCode

COMMAND = (sys.executable, "-m", "queue_manager.client.cli")
OWN_TERMINAL = (
    sys.executable,
    "-ISc",
    "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.argv[1], sys.argv[1:])",
)
"""Runs what follows with standard input as its own terminal, as a shell's foreground job has it (`setsid --ctty`).

Not a `preexec_fn`: that forks this process, and a fork of a process with gRPC's threads may die before it gets there.
"""
HIDE_CURSOR = b"\x1b[?25l"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote."""

    code: int
    out: str
    err: str


def environment(server: str, **more: str) -> dict[str, str]:
    """The process's, less what would change how queuectl writes."""
    unwanted = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "GRPC_VERBOSITY", "QM_DEBUG"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return {**kept, "QM_SERVER": server, "PYTHONUTF8": "1", **more}


async def typed(server: str, *arguments: str, stdin: str = "") -> Ended:
    """Run it here, as if its output were piped: fast, and all but signals and the process's streams are real."""
    waiting: list[tuple[str | None, running.Command]] = []

    def remember(given: str | None, command: running.Command) -> ExitCode:
        waiting.append((given, command))
        return ExitCode.OK

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "run", remember)
        patch.setenv("QM_SERVER", server)
        parsed = CliRunner().invoke(app, list(arguments), input=stdin, prog_name="queuectl")
        if not waiting:
            return Ended(parsed.exit_code, parsed.stdout, parsed.stderr)
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = await running.execute(*waiting[0])
    return Ended(code, out.getvalue(), err.getvalue())


async def piped(server: str, *arguments: str, stdin: str = "", **more: str) -> Ended:
    """Run it to its end with pipes."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(server, **more)
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def on_terminal(
    server: str,
    *arguments: str,
    columns: int = 80,
    rows: int = 24,
    keys: bytes = b"",
    keys_at: bytes = HIDE_CURSOR,
    interrupt_at: Callable[[str], bool] | None = None,
    number: signal.Signals = signal.SIGINT,
    **more: str,
) -> Ended:
    """Run it on a pseudo-terminal, standard error too, and give it the keys once it draws, or writes `keys_at`.

    A signal is sent once what it wrote fulfils `interrupt_at`.
    """
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = await asyncio.create_subprocess_exec(
        *OWN_TERMINAL,
        *COMMAND,
        *arguments,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(server, **{"TERM": "xterm-256color", **more}),
    )
    os.close(theirs)
    written = bytearray()
    loop = asyncio.get_running_loop()
    closed = loop.create_future()

    def read() -> None:
        nonlocal interrupt_at, keys
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            chunk = b""
        if not chunk:
            loop.remove_reader(ours)
            closed.set_result(None)
            return
        written.extend(chunk)
        if keys and keys_at in written:
            os.write(ours, keys)
            keys = b""
        if interrupt_at is not None and interrupt_at(written.decode(errors="replace")):
            interrupt_at = None
            process.send_signal(number)

    loop.add_reader(ours, read)
    code = await process.wait()
    await closed
    os.close(ours)
    return Ended(code, written.decode(), "")


def without_escapes(text: str) -> str:
    """What a terminal would show, redraws one below the other."""
    return ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
