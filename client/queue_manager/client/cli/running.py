"""Runs one command with an open client to its end, in order whichever way that is: done, failed, or interrupted.

What the client raises becomes a sentence on standard error and an exit code; a bug is `main`'s to put into words.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from queue_manager.client import AsyncClient, Backoff, QueueManagerError
from queue_manager.client.channel import resolve_target
from queue_manager.client.cli import address, exits, formats
from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.client.cli.payload_file import UnreadablePayload, read_payload

ATTEMPTS: Final = 4
"""Of a call: bridges a server's restart, and does not keep somebody waiting who has not started one."""

Command = Callable[[AsyncClient], Awaitable[ExitCode]]
"""A command with its options, waiting for a client."""


def run(server: str | None, command: Command) -> ExitCode:
    """Run a command to its end; Ctrl-C and SIGTERM end it in order. Raises `OSError` where the output is not taken."""
    try:
        return asyncio.run(_until_terminated(server, command))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except asyncio.CancelledError:
        return ExitCode.TERMINATED


async def execute(server: str | None, command: Command) -> ExitCode:
    """Run a command with an open client; an error of the client's becomes a sentence and an exit code."""
    target = resolve_target(server)
    if wrong := address.fault(target):
        _complain(f"{'--server' if server else 'QM_SERVER'} is {formats.one_line(target)!r}; {wrong}")
        return ExitCode.USAGE
    try:
        async with AsyncClient(target, backoff=Backoff(attempts=ATTEMPTS)) as client:
            return await command(client)
    except QueueManagerError as e:
        from queue_manager.client.cli import complaints, terminal

        complaints.print_error(terminal.err(), e, server=target)
        return exits.for_error(e)
    except UnicodeEncodeError as e:  # bytes of the command line that are no text, which no message can hold
        _complain(f"an argument is not UTF-8 text: {e.object!a}; check how it is typed or made")
        return ExitCode.USAGE


def load_payload(path: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a file says, with `--set` over it; exits where that is nothing.

    Before the event loop runs, so that Ctrl-C ends a wait for standard input.
    """
    try:
        payload = read_payload(path)
    except UnreadablePayload as e:
        _complain(str(e))
        raise SystemExit(ExitCode.USAGE) from e
    if not overrides:
        return payload
    from queue_manager.client.cli.overrides import WrongOverrides, overridden

    try:
        return overridden(payload, overrides)
    except WrongOverrides as e:
        from queue_manager.client.cli import complaints, terminal

        complaints.print_faults(terminal.err(), "--set", e.faults)
        raise SystemExit(ExitCode.USAGE) from e


async def _until_terminated(server: str | None, command: Command) -> ExitCode:
    """SIGTERM cancels the command, so that a live table gives the cursor back on its way out."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows has no SIGTERM to handle
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await execute(server, command)


def _complain(text: str) -> None:
    from queue_manager.client.cli import complaints, terminal

    complaints.print_line(terminal.err(), text)
