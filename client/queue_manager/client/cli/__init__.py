"""`queuectl`: the Queue Manager on a command line. This module is the way in; what draws is loaded when it is needed.

Everything that it does it does through `queue_manager.client`; it never imports the server.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import NoReturn

from queue_manager.client.cli.exit_codes import ExitCode

__all__ = ["main"]


def main() -> NoReturn:
    """Run `queuectl` with the process's arguments, and exit with one of the codes that its help lists."""
    # grpc's C core writes to standard error by itself, e.g. when a server says goodbye, in the middle of a live table.
    # What matters of it comes as an exception. Read when the first channel is opened.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    _open_streams()
    try:
        code = _run()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except OSError as e:  # the client's own are QueueManagerErrors
        code = _output_lost(e)
    except Exception as e:
        if os.environ.get("QM_DEBUG"):
            raise
        code = _unexpected(e)
    with suppress(OSError):
        sys.stderr.flush()
    sys.exit(code)


def _run() -> int:
    """Answers the exit code. Raises `OSError` where the output is not taken."""
    from queue_manager.client.cli.app import app
    from queue_manager.client.cli.completion import join_bash_words

    join_bash_words(os.environ)
    try:
        app(prog_name="queuectl")
    except SystemExit as e:
        if isinstance(e.__context__, OSError):  # typer makes 1 of a broken pipe
            raise e.__context__ from None
        return e.code if isinstance(e.code, int) else ExitCode.OK if e.code is None else ExitCode.UNEXPECTED
    return ExitCode.OK


def _open_streams() -> None:
    """Whatever the shell has closed (`>&-`) is the null device: else the next socket would get its number."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows a question mark for what it cannot show, rather than a crash.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _output_lost(error: OSError) -> ExitCode:
    """Nobody takes what is written: the reader has gone, or the disk is full. The rest goes nowhere."""
    broken = isinstance(error, BrokenPipeError)
    if not broken:
        with suppress(OSError):
            print(f"error: cannot write the output: {error.strerror or error}", file=sys.stderr, flush=True)  # noqa: T201
    # The interpreter flushes once more when it ends, and would complain.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    return ExitCode.BROKEN_PIPE if broken else ExitCode.UNEXPECTED


def _unexpected(error: Exception) -> ExitCode:
    """A bug of ours is a line, too."""
    said = " ".join(ascii(str(error))[1:-1].split())
    print(f"error: unexpected: {type(error).__name__}: {said}; QM_DEBUG=1 shows where", file=sys.stderr)  # noqa: T201
    return ExitCode.UNEXPECTED
