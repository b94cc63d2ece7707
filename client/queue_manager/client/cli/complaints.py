"""What a user is told when something went wrong: what, where, and what to do about it. Never a traceback."""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from queue_manager.client import DeadlineExceeded, InternalError, InvalidRequest, QueueManagerError, Unavailable
from queue_manager.client.channel import is_loopback
from queue_manager.client.cli.formats import one_line
from queue_manager.client.errors import REASON_UNREACHABLE

START_HINT: Final = "start one with: queue-manager serve"


def print_error(console: Console, error: QueueManagerError, *, server: str) -> None:
    """Write the error to standard error; `server` is the address that was called."""
    console.print(_complaint(error, server=server), soft_wrap=not console.file.isatty())


def print_line(console: Console, text: str) -> None:
    """One more sentence of an error, or an error that is the command line's own."""
    console.print(_headline(text), soft_wrap=not console.file.isatty())


def _complaint(error: QueueManagerError, *, server: str) -> RenderableType:
    if isinstance(error, InvalidRequest) and error.violations:
        return _violations(error)
    if isinstance(error, Unavailable) and error.reason == REASON_UNREACHABLE:
        remedy = START_HINT if is_loopback(server) else "check --server or QM_SERVER"
        # Without the usual `error: `, so that it fits on one line of 80 columns.
        return Text(f"cannot reach the server at {server}; {remedy}", style="bold red")
    if isinstance(error, DeadlineExceeded) and not error.from_server:
        return _headline(f"{error.message}; check --server or QM_SERVER, or try again")
    text = one_line(error.message)
    if isinstance(error, InternalError) and error.error_id and error.error_id not in text:
        text = f"{text}; the server's log has it under {error.error_id}"
    if error.retry_after:
        text = f"{text}; try again in {error.retry_after:g} s"
    return _headline(text)


def _violations(error: InvalidRequest) -> RenderableType:
    number = sum(bool(violation.field) for violation in error.violations)
    # The server counts those that it had no room for in an entry without a field.
    at_least = "" if number == len(error.violations) else "more than "
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column()
    for violation in error.violations:
        table.add_row(Text(f"  {violation.field}", style="bold"), Text(one_line(violation.description)))
    return Group(_headline(f"the request breaks {at_least}{number} rule{'' if number == 1 else 's'}"), table)


def _headline(text: str) -> Text:
    return Text.assemble(("error: ", "bold red"), text)
