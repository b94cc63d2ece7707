"""`queue-manager`: the command that runs the server, and the gateway in front of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from enum import StrEnum
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
def serve(
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether every part can be reached, and why not; serve nothing.")
    ] = False,
) -> None:
    """Serve gRPC and /metrics until SIGTERM or Ctrl-C.

    Without any configuration it runs whole on this machine: state in SQLite, workers as local processes. The log says
    which parts it runs on, and the line `serving` says where. Exit code 0 after a shutdown that was asked for, 2 where it
    cannot start (the message says what to do), 1 after a fault; of `--check`, 1 where a part cannot be reached.
    """
    from queue_manager.server.app import check as look  # noqa: PLC0415 - `--help` needs none of it
    from queue_manager.server.app import serve as run  # noqa: PLC0415
    from queue_manager.server.domain.errors import QueueManagerError  # noqa: PLC0415
    from queue_manager.server.observability.logging import configure  # noqa: PLC0415
    from queue_manager.server.settings import load_settings  # noqa: PLC0415

    try:
        settings = load_settings()
        configure(settings.logging.format, settings.logging.level, settings.secrets().values())
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            if not check:
                runner.run(run(settings, version=version(DISTRIBUTION)))
                return
            found = runner.run(look(settings, version=version(DISTRIBUTION)))
    except QueueManagerError as error:
        print(f"queue-manager cannot start: {error}", file=sys.stderr)  # noqa: T201 - also where no log is set up
        raise typer.Exit(EXIT_CANNOT_START) from None
    for part, choice, _ in settings.parts():
        print(f"{part} ({choice}): {found[part] or 'ok'}")  # noqa: T201 - the answer
    raise typer.Exit(any(found.values()))


@app.command()
def gateway() -> None:
    """Serve HTTP/JSON in front of a server until SIGTERM or Ctrl-C.

    A process without state, which calls the server at QM_SERVER by gRPC: the REST paths, live streams, the API's
    documentation with Swagger UI at /docs, a live page at /, /health/live, /health/ready, /health/startup and /metrics.
    The line `serving` in its log says where. Exit codes are those of `serve`.
    """
    from queue_manager.gateway.app import CannotListen  # noqa: PLC0415
    from queue_manager.gateway.app import serve as run  # noqa: PLC0415
    from queue_manager.gateway.options import Options  # noqa: PLC0415
    from queue_manager.server.domain.errors import ListenError, QueueManagerError  # noqa: PLC0415
    from queue_manager.server.observability.logging import configure  # noqa: PLC0415
    from queue_manager.server.settings import load_gateway_settings  # noqa: PLC0415

    try:
        settings, logging, notices = load_gateway_settings()
        configure(logging.format, logging.level)
        options = Options(
            host=settings.listen.host,
            port=settings.listen.port,
            server=settings.server,
            origins=settings.origins,
            hosts=settings.hosts,
            timeout=settings.timeout,
            max_body_bytes=settings.max_body_bytes,
            body_timeout=settings.body_timeout,
            max_streams=settings.max_streams,
            version=version(DISTRIBUTION),
        )
        with asyncio.Runner(loop_factory=_fastest_loop()) as runner:
            runner.run(run(options, notices=notices))
    except CannotListen as error:
        refusal = ListenError("QM_HTTP_LISTEN", error.address, error.why)
        print(f"queue-manager cannot start: {refusal}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_CANNOT_START) from None
    except QueueManagerError as error:
        print(f"queue-manager cannot start: {error}", file=sys.stderr)  # noqa: T201 - also where no log is set up
        raise typer.Exit(EXIT_CANNOT_START) from None


class Part(StrEnum):
    """What can be probed."""

    readiness = "readiness"
    liveness = "liveness"
    startup = "startup"


@app.command()
def probe(
    part: Annotated[Part, typer.Argument(help="What to ask for.")] = Part.readiness,
    server: Annotated[
        str, typer.Option(help="Address, `host:port`. Default: this machine, at the port of QM_GRPC_LISTEN.")
    ] = "",
    timeout: Annotated[float, typer.Option(help="Seconds to wait for an answer.", min=0.1, max=60.0)] = 3.0,
) -> None:
    """Ask a running server how it is, and say it.

    `readiness`: whether calls would succeed now, with what is down where not; `liveness`: whether the process works;
    `startup`: whether its records are loaded. Exit code 0 where it is SERVING, else 1.
    """
    from queue_manager.server.domain.errors import QueueManagerError  # noqa: PLC0415
    from queue_manager.server.probe import probe as ask  # noqa: PLC0415
    from queue_manager.server.settings import load_settings  # noqa: PLC0415

    try:
        address = server or load_settings().grpc.listen.on_this_machine
    except QueueManagerError as error:
        print(f"queue-manager cannot probe: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(EXIT_CANNOT_START) from None
    serving, text = ask(address, part.value, timeout=timeout)
    print(text)  # noqa: T201 - the answer
    raise typer.Exit(0 if serving else 1)


@app.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
def simulated_worker(arguments: Annotated[list[str] | None, typer.Argument()] = None) -> None:
    """Be a worker that only pretends: reads the environment that workers get, reports progress, ends.

    Give it to targets as their `command` in the catalogue file to try the server on Kubernetes with this image
    (docs/simulated-worker.md).
    """
    from queue_manager.server.simulated_worker.__main__ import main as live  # noqa: PLC0415

    live(arguments or [])


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
        app()
    except ModuleNotFoundError as error:
        if not error.name or error.name.startswith("queue_manager."):
            raise
        extras = "'streamforge-queue-manager[server]', or [gateway] for `queue-manager gateway` alone"
        sys.exit(f"queue-manager: {error.name} is not installed; pip install {extras}")


if __name__ == "__main__":
    main()
