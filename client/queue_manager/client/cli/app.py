"""The command line of `queuectl`: its commands, their options and their words. What they do is in `commands.py`.

That, and with it grpc and what draws, is loaded with the first command that runs, so that `--help` and a shell's
completion of words answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from queue_manager.client.cli import completion, manual, options
from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.client.cli.options import Output, OutputOption, Policy, QueueId, QueueIds, ServerOption, State

if TYPE_CHECKING:
    from queue_manager.client import AsyncClient

app = typer.Typer(
    name="queuectl",
    help=manual.SUMMARY,
    epilog=manual.epilog(),
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

dlq = typer.Typer(help=manual.DLQ, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(dlq, name="dlq")


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata

        typer.echo(f"queuectl {metadata.version('streamforge-queue-manager')}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    server: ServerOption = None,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options that may stand before any command."""
    ctx.obj = server


@app.command(epilog=manual.command_epilog("start"))
def start(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Option("-f", "--file", metavar="FILE", help="JSON or YAML file with the queue; - is standard input.")
    ],
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="PATH=VALUE",
            help="A value that goes over the file's; may be repeated.",
        ),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="Makes it safe to repeat: the same id starts one queue only.")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="A label to find it by; may be repeated.")
    ] = None,
    failure_policy: Annotated[
        Policy | None,
        typer.Option(
            metavar="POLICY",
            help=f"What the other jobs do when one fails: {' or '.join(Policy)}.",
            show_default="keep-going",
            case_sensitive=False,
        ),
    ] = None,
    validate_only: Annotated[
        bool, typer.Option("--validate-only", help="Check it and show the plan; start nothing.")
    ] = False,
    watch_it: Annotated[bool, typer.Option("--watch", help="Follow it until it has ended.")] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Start the queue that a file describes.

    The file holds one object: symbol, time_range, requests, and what else StartQueueRequest takes. --set goes over it,
    by the path of the value; PATH= takes a field away.

    \b
    --set symbol=ETHUSDT                       a field
    --set labels.team=research                 a label; parameters.KEY likewise
    --set 'requests[0].interval=1m'            an entry of a list, from 0; the
                                               one past the last adds one
    --set 'requests[gnn-trainer].timeout=2h'   the request of a job, by its name

    Every rule that is broken is reported at once, with its field. In a pipe the new queue's id is all that is written.
    """
    if watch_it and validate_only:
        raise typer.BadParameter("--watch needs a queue, and --validate-only starts none")
    if watch_it:
        _refuse_names(output)
    from queue_manager.client.cli.running import load_payload

    labels = dict(options.label(text) for text in label or [])
    _run(
        server or ctx.obj,
        "start",
        payload=load_payload(file, override or []),
        request_id=request_id,
        labels=labels,
        validate_only=validate_only,
        failure_policy=failure_policy.name if failure_policy else None,
        follow=watch_it,
        output=output,
    )


@app.command(epilog=manual.command_epilog("stop"))
def stop(
    ctx: typer.Context,
    queue_ids: options.UnfinishedIds,
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
    """Stop queues: gently, and after the grace period for good.

    Stopping is idempotent: a queue that has ended stays as it is, and --force hastens a stop under way.
    """
    if force and grace is not None:
        raise typer.BadParameter("--force knows no grace; give one of --force and --grace")
    _run(
        server or ctx.obj,
        "stop",
        list(dict.fromkeys(queue_ids)),
        force=force,
        grace=options.grace_seconds(grace),
        wait=wait,
        reason=reason,
        output=output,
    )


@app.command(epilog=manual.command_epilog("get"))
def get(
    ctx: typer.Context, queue_ids: QueueIds, output: OutputOption = Output.TABLE, server: ServerOption = None
) -> None:
    """Show queues with their jobs, and why these wait or failed."""
    _run(server or ctx.obj, "get", list(dict.fromkeys(queue_ids)), output=output)


@app.command("list", epilog=manual.command_epilog("list"))
def list_queues(
    ctx: typer.Context,
    state: Annotated[
        list[State] | None,
        typer.Option(
            "--state",
            case_sensitive=False,
            metavar="STATE",
            help=f"Only queues in this state: {', '.join(State)}; may be repeated.",
        ),
    ] = None,
    symbol: Annotated[str, typer.Option(metavar="PAIR", help="Only queues of this trading pair.")] = "",
    target: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Only queues with a job of this target.", autocompletion=completion.target_names
        ),
    ] = "",
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
        server or ctx.obj,
        "list_queues",
        states=[one.name for one in state or []],
        symbol=symbol,
        target=target,
        selector=selector,
        limit=limit,
        output=output,
    )


@app.command(epilog=manual.command_epilog("watch"))
def watch(
    ctx: typer.Context,
    queue_id: QueueId,
    after_revision: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Begin with the changes after this revision.")
    ] = None,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Follow a queue until it has ended, across restarts of the server.

    On a terminal it draws a live table, in a pipe it writes one line an event, with -o json one JSON frame a line, with
    -o yaml one document a frame. Ctrl-C ends the watching and leaves the queue running.
    """
    _refuse_names(output)
    _run(server or ctx.obj, "watch", queue_id, after_revision=after_revision, output=output)


@app.command(epilog=manual.command_epilog("targets"))
def targets(
    ctx: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One target, with all its rules.", autocompletion=completion.target_names),
    ] = None,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Show what can be launched: targets, their types and parameters."""
    _run(server or ctx.obj, "targets", name, output=output)


@app.command(epilog=manual.command_epilog("doctor"))
def doctor(ctx: typer.Context, output: OutputOption = Output.TABLE, server: ServerOption = None) -> None:
    """Ask the server what is wrong with it and its surroundings, and what to do about it."""
    _run(server or ctx.obj, "doctor", output=output)


@dlq.command("list", epilog=manual.command_epilog("dlq list"))
def list_dead_letters(
    ctx: typer.Context,
    topic: Annotated[str, typer.Option(metavar="TOPIC", help="Only those that came from this topic.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, metavar="N", help="How many at most.")] = 50,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """List the messages that nobody could read, newest first.

    With where each came from, why it could not be read, and whether it has been replayed. -o json and -o yaml have the
    value, up to 64 KiB of it, in base64.
    """
    _run(server or ctx.obj, "list_dead_letters", topic=topic, limit=limit, output=output)


@dlq.command("replay", epilog=manual.command_epilog("dlq replay"))
def replay_dead_letters(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="One or more ids, as dlq list tells them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All of --topic that have not been replayed; asks before, on a terminal.")
    ] = False,
    topic: Annotated[str, typer.Option(metavar="TOPIC", help="With --all: the topic that they came from.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which would be sent; send none.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also those that have been replayed before.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    output: OutputOption = Output.TABLE,
    server: ServerOption = None,
) -> None:
    """Send messages that nobody could read again, to the topics that they came from.

    For when what reads them has been mended: a message keeps its value, and what is still not readable becomes a new
    dead letter. One that has been replayed is passed over, so that the command may be repeated.
    """
    if everything == bool(ids):
        raise typer.BadParameter("give one of ID... and --all")
    if everything != bool(topic):
        raise typer.BadParameter("--all and --topic go together; an id names its topic")
    if everything and not (yes or dry_run) and sys.stdin.isatty():
        which = "all" if force else "all that have not been replayed yet"
        typer.confirm(f"replay the dead letters of {topic}, {which}?", abort=True, err=True)
    _run(
        server or ctx.obj,
        "replay_dead_letters",
        list(dict.fromkeys(ids or [])),
        topic=topic,
        dry_run=dry_run,
        force=force,
        output=output,
    )


def _run(server: str | None, command: str, *arguments: Any, **values: Any) -> NoReturn:
    """Load what commands need, run one, and exit with its code."""
    from queue_manager.client.cli import commands, running

    chosen: Callable[..., Awaitable[ExitCode]] = getattr(commands, command)

    def call(client: AsyncClient) -> Awaitable[ExitCode]:
        return chosen(client, *arguments, **values)

    raise typer.Exit(running.run(server, call))


def _refuse_names(output: Output) -> None:
    if output is Output.NAME:
        raise typer.BadParameter("a watch tells what happens, and an id alone does not; use table, json or yaml")
