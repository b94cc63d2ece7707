"""The two streams as rich consoles, and what a terminal can show. What is shown is elsewhere.

rich is loaded when the first console is made: what only writes lines needs none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

if sys.platform != "win32":
    import termios

PIPE_WIDTH = 10_000
"""Columns of a pipe: whoever reads it wants whole values."""


def out() -> Console:
    """Standard output."""
    return _console(sys.stdout)


def err() -> Console:
    """Standard error."""
    return _console(sys.stderr)


def is_live() -> bool:
    """Whether a table can be redrawn in place: a terminal that is not dumb. FORCE_COLOR makes no terminal of a pipe."""
    return sys.stdout.isatty() and not out().is_dumb_terminal


def plain_ascii(encoding: str | None) -> bool:
    """Whether arrows, bars and ellipses have to be written in ASCII, to a stream of this encoding."""
    return not (encoding or "utf-8").lower().startswith("utf")


def spell(text: str, *, ascii_only: bool) -> str:
    """The text with our own few signs spelled in ASCII where it has to be."""
    if not ascii_only:
        return text
    for sign, spelled in (("→", "->"), ("…", "..."), ("✓", "+"), ("✗", "x"), ("■", "#"), ("·", ".")):
        text = text.replace(sign, spelled)
    return text


@contextmanager
def silent_keyboard() -> Iterator[None]:
    """Keys that are typed don't show: an echoed Enter would scroll a table from under its next redraw.

    Ctrl-C and Ctrl-Z work as ever. Nothing happens where standard input is no terminal, or is somebody else's now (a
    background job that touches it is stopped by the kernel).
    """
    if sys.platform == "win32" or not sys.stdin.isatty() or os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
        yield
        return
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    silent = [*before]
    silent[3] = before[3] & ~termios.ECHO
    termios.tcsetattr(keyboard, termios.TCSANOW, silent)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


def _console(file: TextIO) -> Console:
    from rich.console import Console

    terminal = file.isatty()
    environment = dict(os.environ)
    if terminal:
        # An exported COLUMNS is from when the shell was started; the terminal itself knows how wide it is now.
        environment.pop("COLUMNS", None)
        environment.pop("LINES", None)
    return Console(
        file=file,
        width=None if terminal else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        _environ=environment,
    )
