"""`queue-manager`: the command that runs the server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated

import typer

app = typer.Typer(
    name="queue-manager",
    help="The StreamForge Queue Manager: launches, stops and watches groups of microservices.",
    epilog="Everything is set by environment variables or a `.env` file; the README has the table. "
    "`queuectl` is the command for callers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

DISTRIBUTION = "streamforge-queue-manager"
EXIT_CANNOT_START = 2


def _print_version(wanted: bool) -> None:
    if wanted:
        print(version(DISTRIBUTION))  # noqa: T201 - the answer
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The StreamForge Queue Manager: launches, stops and watches groups of microservices."""


@app.command()
def serve() -> None:
    """Serve gRPC and /metrics until SIGTERM or Ctrl-C.

    Without any configuration it runs whole on this machine: state in SQLite, workers as local processes. The log says
    which parts it runs on, and the line `serving` says where. Exit code 0 after a shutdown that was asked for, 2 where it
    cannot start (the message says what to do), 1 after a fault.
    """
    from queue_manager.server.app import serve as run  # noqa: PLC0415 - `--help` needs none of it
    from queue_manager.server.domain.errors import QueueManagerError  # noqa: PLC0415
    from queue_manager.server.observability.logging import configure  # noqa: PLC0415
    from queue_manager.server.settings import load_settings  # noqa: PLC0415

    try:
        settings = load_settings()
        configure(settings.logging.format, settings.logging.level, settings.secrets().values())
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(run(settings, version=version(DISTRIBUTION)))
    except QueueManagerError as error:
        print(f"queue-manager cannot start: {error}", file=sys.stderr)  # noqa: T201 - also where no log is set up
        raise typer.Exit(EXIT_CANNOT_START) from None


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop where it can be had, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return None
    return uvloop.new_event_loop


def main() -> None:
    """Entry point of `queue-manager`."""
    try:
        import structlog  # noqa: F401, PLC0415
    except ImportError:
        sys.exit("queue-manager: the server is not installed; pip install 'streamforge-queue-manager[server]'")
    app()


if __name__ == "__main__":
    main()
