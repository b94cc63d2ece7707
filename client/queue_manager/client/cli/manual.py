"""The words of `queuectl --help`: examples, environment and exit codes. The options' own words stand in `app.py`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Final

from queue_manager.client.cli.exit_codes import MEANINGS

SUMMARY: Final = """Launch, stop and watch groups of StreamForge microservices.

A queue is one run of a group of microservices (its jobs) under one id. queuectl talks to the Queue Manager's server,
which launches the jobs and follows them; it can be interrupted at any time without harm to a queue.

\b
To begin:
  queue-manager serve                     the server, on a terminal of its own
  queuectl targets                        what can be launched
  queuectl start -f queue.json --watch    launch it, and see it run

On a terminal it writes tables, and into a pipe plain text without colours. -o json and -o yaml write the API's own
messages, -o name ids alone.
"""

DLQ: Final = """Look at dead letters, the messages that nobody could read, and send them again.

Only where the server runs over Kafka.
"""

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "start": (
        ("queuectl start -f historical-pipeline.json --watch", "start a queue, and follow it until it has ended"),
        (
            "queuectl start -f gated-pipeline.yaml --set symbol=ETHUSDT --validate-only",
            "the same for another pair: check it and show the plan",
        ),
        ("generate | queuectl start -f - --request-id nightly-2024-06-01", "repeated with the same id, it starts once"),
    ),
    "stop": (
        ("queuectl stop QUEUE_ID --reason 'wrong month' --wait", "stop gently, and wait until no worker is left"),
        ("queuectl list -l team=research -o name | xargs -r queuectl stop", "stop every queue that has a label"),
    ),
    "get": (
        ("queuectl get QUEUE_ID", "a queue with its jobs, and why they wait or failed"),
        ("queuectl get QUEUE_ID -o json | jq -r .state", "its state, for a script"),
    ),
    "list": (
        ("queuectl list --state running --state stopping", "what is going on now"),
        ("queuectl list -l team=research --symbol BTCUSDT --limit 10", "the ten newest that match"),
    ),
    "watch": (
        ("queuectl watch QUEUE_ID", "a live table on a terminal; one line an event in a pipe"),
        (
            "queuectl watch QUEUE_ID --after-revision 41 -o json",
            "the changes after revision 41, one JSON frame a line",
        ),
    ),
    "targets": (
        ("queuectl targets", "what can be launched"),
        ("queuectl targets graph-builder", "one target: its types and parameters with their rules"),
    ),
    "doctor": (
        ("queuectl doctor", "what is wrong with the server, and what to do about it"),
        ("queuectl doctor -o json | jq -r '.findings[].subjects[]'", "the workers and topics that it is about"),
    ),
    "dlq list": (
        ("queuectl dlq list --topic queue-events", "telemetry that could not be read, and why"),
        (
            "queuectl dlq list -o json | jq -r '.dead_letters[0].value' | base64 -d",
            "the newest, as it came",
        ),
    ),
    "dlq replay": (
        ("queuectl dlq replay queue-events.dlq/0/17 --dry-run", "whether this one would be sent again"),
        ("queuectl dlq replay --all --topic queue-events -y", "all that have not been replayed, without asking"),
    ),
}
"""Two examples or more for each command: the line to type, and what it does."""

ENVIRONMENT: Final = """\b
Environment:
  QM_SERVER  address of the server, unless --server says it;
             default 127.0.0.1:50051
  QM_DEBUG   when set, an unexpected error shows its traceback
  NO_COLOR   when set, no colours
"""

COMPLETION: Final = """\b
Shell completion, for bash, zsh and fish; queue ids and targets, too:
  queuectl --install-completion
"""

_COLUMNS: Final = 76
"""Of a terminal of 80, less typer's indent."""


def epilog() -> str:
    """What stands below the list of commands: each one's examples, the environment and the exit codes."""
    blocks = ["\b\nExamples:"]
    blocks += [_block(EXAMPLES[name]) for name in EXAMPLES]
    return "\n\n".join(["\n\n".join(blocks), ENVIRONMENT, COMPLETION, _exit_codes()])


def command_epilog(name: str) -> str:
    """What stands below one command's options."""
    return "\n\n".join(["\b\nExamples:", _block(EXAMPLES[name]), "Exit codes: see queuectl --help."])


def _block(examples: tuple[tuple[str, str], ...]) -> str:
    return "\b\n" + "\n".join(f"  {line}\n      {what}" for line, what in examples)


def _exit_codes() -> str:
    lines = []
    for code, meaning in MEANINGS.items():
        lines += textwrap.wrap(meaning, _COLUMNS, initial_indent=f"  {code:3}  ", subsequent_indent=" " * 7)
    return "\n".join(["\b\nExit codes; of several queues, the lowest but 0:", *lines])
