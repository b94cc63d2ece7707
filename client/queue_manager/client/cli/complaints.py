"""What a user is told when something went wrong: what, where, and what to do about it. Never a traceback."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from queue_manager.client import (
    DeadlineExceeded,
    InternalError,
    InvalidRequest,
    NotFound,
    QueueManagerError,
    Unavailable,
    Violation,
)
from queue_manager.client.channel import is_loopback
from queue_manager.client.cli.formats import one_line
from queue_manager.client.errors import REASON_UNREACHABLE

START_HINT: Final = "start one with: queue-manager serve"
CHECK_HINT: Final = "check --server or QM_SERVER"
BESIDE: Final = 40
"""Columns there must be for a description to stand beside its field."""
PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that lead gRPC through a proxy, in its order; not to this machine."""


def print_error(console: Console, error: QueueManagerError, *, server: str) -> None:
    """Write the error to standard error, and a line for each of its notes; `server` is the address that was called."""
    _print(console, _complaint(error, console, server=server))
    for note in getattr(error, "__notes__", ()):
        _print(console, Text(one_line(note)))


def print_line(console: Console, text: str) -> None:
    """One more sentence of an error, or an error that is the command line's own."""
    _print(console, _headline(text))


def print_faults(console: Console, source: str, faults: Sequence[Violation]) -> None:
    """Everything that is wrong with what stands after one option."""
    headline = f"{source} has {len(faults)} fault{'' if len(faults) == 1 else 's'}; nothing has been sent"
    _print(console, Group(_headline(headline), _by_field(faults, console)))


def print_unknown(console: Console, kind: str, name: str, known: Sequence[str]) -> None:
    """There is no such thing: what was meant, or what there is."""
    near = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(known) or 'none'}"
    print_line(console, f"there is no {kind} {one_line(name)!r}; {remedy}")


def _print(console: Console, what: RenderableType) -> None:
    """On a terminal wrapped to its width; elsewhere a line stays a line, without the spaces that fill a table."""
    if console.file.isatty():
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what, soft_wrap=True)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), file=sys.stderr, flush=True)  # noqa: T201


def _complaint(error: QueueManagerError, console: Console, *, server: str) -> RenderableType:
    if isinstance(error, InvalidRequest) and error.violations:
        return _violations(error, console)
    if isinstance(error, Unavailable) and error.reason == REASON_UNREACHABLE:
        return _unreachable(error, server)
    if isinstance(error, DeadlineExceeded) and not error.from_server:
        return _headline(f"{error.message}; {CHECK_HINT}, or try again")
    if isinstance(error, NotFound) and (queue_id := error.metadata.get("resource")):
        return _headline(f"there is no queue {one_line(queue_id)!r}; queuectl list shows which there are")
    text = one_line(error.message)
    if isinstance(error, InternalError) and error.error_id and error.error_id not in text:
        text = f"{text}; the server's log has it under {error.error_id}"
    if isinstance(error, InternalError) and error.reason == "UNIMPLEMENTED":
        text = f"{text} Is it a Queue Manager, and as new as this queuectl?"
    if error.retry_after:
        text = f"{text}; try again in {error.retry_after:g} s"
    return _headline(text)


def _unreachable(error: Unavailable, server: str) -> RenderableType:
    """Without the usual `error: `, so that it fits on one line of 80 columns."""
    said = f"cannot reach the server at {server}; "
    # What gRPC says is for people, and is only read to tell them more.
    if "HTTP/2" in error.message:
        return Text(f"{said}what listens there speaks no gRPC; {CHECK_HINT}", style="bold red")
    if is_loopback(server):
        nobody = "refused" in error.message or server.startswith("unix:")
        other = Text("or name another one with --server or QM_SERVER", style="dim")
        return (
            Group(Text(f"{said}{START_HINT}", style="bold red"), other)
            if nobody
            else Text(f"{said}{CHECK_HINT}", style="bold red")
        )
    proxy = next((name for name in PROXIES if os.environ.get(name)), "")
    through = f", and the proxy in {proxy}" if proxy else ""
    return Text(f"{said}{CHECK_HINT}{through}", style="bold red")


def _violations(error: InvalidRequest, console: Console) -> RenderableType:
    number = sum(bool(violation.field) for violation in error.violations)
    # The server counts those that it had no room for in an entry without a field.
    at_least = "" if number == len(error.violations) else "more than "
    headline = f"the request breaks {at_least}{number} rule{'' if number == 1 else 's'}"
    return Group(_headline(headline), _by_field(error.violations, console))


def _by_field(violations: Sequence[Violation], console: Console) -> RenderableType:
    """A field a line with what is wrong with it beside it, or below it where there is no room."""
    fields = [one_line(violation.field) for violation in violations]
    beside = not console.file.isatty() or console.width - max(map(len, fields), default=0) >= BESIDE
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=beside, overflow="fold")
    for field, violation in zip(fields, violations, strict=True):
        name, text = Text(f"  {field}", style="bold"), Text(one_line(violation.description))
        if beside:
            table.add_row(name, text)
        else:
            table.add_row(name)
            table.add_row(Padding(text, (0, 0, 0, 4)))
    return table


def _headline(text: str) -> Text:
    return Text.assemble(("error: ", "bold red"), text)
