"""The words of `queuectl --help`: examples and exit codes. The options' own words stand with them in `app.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUMMARY: Final = """Launch, stop and watch groups of StreamForge microservices.

A queue is one run of a group of microservices (its jobs) under one id. queuectl talks to the Queue Manager's server,
which launches the jobs and follows them; it can be interrupted at any time without harm to a queue.

On a terminal it writes tables, and into a pipe plain text without colours; -o json writes the API's own messages.
"""

EXAMPLES: Final[Mapping[str, tuple[tuple[str, str], tuple[str, str]]]] = {
    "start": (
        ("queuectl start -f historical-pipeline.json --watch", "start a queue, and follow it until it has ended"),
        ("generate | queuectl start -f - --request-id nightly-2024-06-01", "repeated with the same id, it starts once"),
    ),
    "stop": (
        ("queuectl stop QUEUE_ID --reason 'wrong month' --wait", "stop gently, and wait until no worker is left"),
        ("queuectl stop QUEUE_ID --force", "delete the workers at once"),
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
}
"""Two examples for each command: the line to type, and what it does."""

EXIT_CODES: Final = """\b
Exit codes:
    0  ok; with watch, --watch or --wait the queue has FINISHED, or with
       stop --wait it is STOPPED as asked
    1  unexpected error
    2  wrong usage, or a request that the server calls invalid
    3  no such queue or target
    4  conflict: the request id is taken, or the queue is in a wrong state
    5  server not reachable, or no answer in time
    6  the queue ended FAILED (watch, start --watch, stop --wait)
    7  the queue ended STOPPED (watch, start --watch)
  130  interrupted with Ctrl-C; the queue goes on
"""

ENVIRONMENT: Final = """\b
Environment:
  QM_SERVER  address of the server, default 127.0.0.1:50051
  QM_DEBUG   when set, an unexpected error shows its traceback
  NO_COLOR   when set, no colours
"""


def epilog() -> str:
    """What stands below the list of commands: two examples for each, the environment and the exit codes."""
    blocks = ["\b\nExamples:"]
    blocks += [_block(EXAMPLES[name]) for name in EXAMPLES]
    return "\n\n".join(["\n\n".join(blocks), ENVIRONMENT, EXIT_CODES])


def command_epilog(name: str) -> str:
    """What stands below one command's options."""
    return "\n\n".join(["\b\nExamples:", _block(EXAMPLES[name]), "Exit codes: see queuectl --help."])


def _block(examples: tuple[tuple[str, str], ...]) -> str:
    return "\b\n" + "\n".join(f"  {line}\n      {what}" for line, what in examples)
