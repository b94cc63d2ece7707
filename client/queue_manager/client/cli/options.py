"""The options that several commands share, the words that they take, and how what was typed becomes a value.

Loaded by `--help` and by a shell's completion: nothing here may need more than typer.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from queue_manager.client.cli import completion
from queue_manager.client.cli.durations import parse_duration


class Output(StrEnum):
    """How results are written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


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


QueueId = Annotated[
    str,
    typer.Argument(
        metavar="QUEUE_ID",
        help="The id, as start and list tell it.",
        autocompletion=completion.queue_ids,
        show_default=False,
    ),
]
QueueIds = Annotated[
    list[str],
    typer.Argument(
        metavar="QUEUE_ID...",
        help="One or more ids, as start and list tell them.",
        autocompletion=completion.queue_ids,
        show_default=False,
    ),
]
UnfinishedIds = Annotated[
    list[str],
    typer.Argument(
        metavar="QUEUE_ID...",
        help="One or more ids, as start and list tell them.",
        autocompletion=completion.unfinished_queue_ids,
        show_default=False,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="HOST:PORT",
        show_default="QM_SERVER, else 127.0.0.1:50051",
        help="Address of the server; stands before or after the command.",
    ),
]
OutputOption = Annotated[
    Output,
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        case_sensitive=False,
        help="table, for people; json or yaml, the API's own messages; name, ids alone.",
    ),
]


def label(text: str) -> tuple[str, str]:
    """Key and value of a `--label`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is no label; write it like team=research", param_hint="--label")
    return key, value


def grace_seconds(text: str | None) -> float | None:
    """What `--grace` says, in seconds."""
    if text is None:
        return None
    try:
        return parse_duration(text)
    except ValueError as e:
        raise typer.BadParameter(str(e), param_hint="--grace") from e
