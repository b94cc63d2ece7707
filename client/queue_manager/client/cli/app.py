"""The command line of `queuectl`: its commands, options and their words. What they do is in `commands.py`.

What draws (rich) is loaded with the first command that runs, so that `--help` and a shell's completion answer at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import StrEnum
from importlib import metadata
from typing import Annotated, Any, NoReturn

import typer

from queue_manager.client import AsyncClient
from queue_manager.client.cli import manual
from queue_manager.client.cli.exits import ExitCode
from queue_manager.client.cli.formats import parse_duration

app = typer.Typer(
    name="queuectl",
    help=manual.SUMMARY,
    epilog=manual.epilog(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class Output(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"


class State(StrEnum):
    """States of a queue; a test holds them against the API's."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Policy(StrEnum):
    """Failure policies; a test holds them against the API's."""

    KEEP_GOING = "keep-going"
    STOP_ALL = "stop-all"


QueueId = Annotated[str, typer.Argument(metavar="QUEUE_ID", help="Id of the queue, as start and list tell it.")]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        envvar="QM_SERVER",
        show_default="127.0.0.1:50051",
        help="Address of the server.",
    ),
]
OutputOption = Annotated[
    Output, typer.Option("-o", "--output", help="A table for people, or the API's JSON for programs.")
]


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"queuectl {metadata.version('streamforge-queue-manager')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that belong to no command."""


@app.command(epilog=manual.command_epilog("start"))
def start(
    file: Annotated[str, typer.Option("-f", "--file", metavar="FILE", help="JSON file with the queue; - is stdin.")],
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Makes it safe to repeat: the same id starts one queue only.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label to find it by; may be repeated.")
    ] = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check it and show the plan; start nothing.")
    ] = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    failure_policy: Annotated[
        Policy | None,
        typer.Option(help="What the other jobs do when one fails.", show_default="keep-going", case_sensitive=False),
    ] = None,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Start the queue that a file describes.

    The file holds one JSON object: symbol, time_range, requests, and what else StartQueueRequest takes. Every rule that
    it breaks is reported at once, with its field. In a pipe the new queue's id is all that is written.
    """
    if watch_it and validate_only:
        raise typer.BadParameter("--watch needs a queue, and --validate-only starts none")
    from queue_manager.client.cli.commands import read_file  # noqa: PLC0415 - see the module's docstring

    labels = dict(_label(text) for text in label or [])
    policy = failure_policy.name if failure_policy else None
    _run(
        server,
        "start",
        payload=read_file(file),
        request_id=request_id,
        labels=labels,
        validate_only=validate_only,
        failure_policy=policy,
        follow=watch_it,
        json=output is Output.JSON,
    )


@app.command(epilog=manual.command_epilog("stop"))
def stop(
    queue_id: QueueId,
    force: Annotated[bool, typer.Option("--force", help="Delete the workers at once, without asking them.")] = False,
    grace: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", show_default="30s", help="How long workers have to end by themselves: 30s, 1m30s, 2h."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Come back only when no worker is left.")] = False,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the queue's history.")] = "",
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Stop a queue: gently, and after the grace period for good.

    Stopping is idempotent: a queue that has ended stays as it is, and --force hastens a stop under way.
    """
    if force and grace is not None:
        raise typer.BadParameter("--force knows no grace; give one of --force and --grace")
    _run(
        server,
        "stop",
        queue_id,
        force=force,
        grace=_seconds(grace),
        wait=wait,
        reason=reason,
        json=output is Output.JSON,
    )


@app.command(epilog=manual.command_epilog("get"))
def get(queue_id: QueueId, output: OutputOption = Output.TABLE, server: ServerOption = None) -> None:
    """Show a queue with its jobs, and why they wait or failed."""
    _run(server, "get", queue_id, json=output is Output.JSON)


@app.command("list", epilog=manual.command_epilog("list"))
def list_queues(
    state: Annotated[
        list[State] | None,
        typer.Option("--state", case_sensitive=False, help="Only queues in this state; may be repeated."),
    ] = None,
    symbol: Annotated[str, typer.Option(metavar="PAIR", help="Only queues of this trading pair.")] = "",
    target: Annotated[str, typer.Option(metavar="NAME", help="Only queues with a job of this target.")] = "",
    selector: Annotated[
        str,
        typer.Option("-l", "--selector", metavar="SELECTOR", help="Only queues with these labels: key=value,key."),
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many at most.")] = 50,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """List queues, newest first."""
    _run(
        server,
        "list_queues",
        states=[one.name for one in state or []],
        symbol=symbol,
        target=target,
        selector=selector,
        limit=limit,
        json=output is Output.JSON,
    )


@app.command(epilog=manual.command_epilog("watch"))
def watch(
    queue_id: QueueId,
    after_revision: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Begin with the changes after this revision.")
    ] = None,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Follow a queue until it has ended, across restarts of the server.

    On a terminal it draws a live table, in a pipe it writes one line an event, with -o json one JSON frame a line.
    Ctrl-C ends the watching and leaves the queue running.
    """
    _run(server, "watch", queue_id, after_revision=after_revision, json=output is Output.JSON)


@app.command(epilog=manual.command_epilog("targets"))
def targets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One target, with all its rules.")] = None,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Show what can be launched: targets, their types and parameters."""
    _run(server, "targets", name, json=output is Output.JSON)


def _run(server: str | None, command: str, *arguments: Any, **options: Any) -> NoReturn:
    """Load what commands need, run one, and exit with its code."""
    from queue_manager.client.cli import commands  # noqa: PLC0415 - see the module's docstring

    chosen: Callable[..., Awaitable[ExitCode]] = getattr(commands, command)

    def call(client: AsyncClient) -> Awaitable[ExitCode]:
        return chosen(client, *arguments, **options)

    raise typer.Exit(commands.run(server, call))


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is no label; write it like team=research", param_hint="--label")
    return key, value


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--grace") from e
