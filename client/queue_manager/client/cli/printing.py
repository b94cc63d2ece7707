"""Writes results to standard output in the form that `-o` asks for. What a table looks like is the caller's to say."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from queue_manager.client.cli import terminal
from queue_manager.client.cli.options import Output

if TYPE_CHECKING:
    from rich.console import RenderableType


class Results:
    """The results of one command, one after the other."""

    def __init__(self, output: Output) -> None:
        """Nothing is written yet."""
        self._output = output
        self._written = 0

    def write(self, message: Message, names: Iterable[str], for_people: Callable[[], None]) -> None:
        """One result: as the message, as the names in it, or by `for_people`, which is called only if it is wanted."""
        match self._output:
            case Output.TABLE:
                for_people()
            case Output.NAME:
                for name in names:
                    say(name)
            case _:
                self.document(message)

    def document(self, message: Message, *, one_line: bool = False) -> None:
        """The message as JSON or YAML, out at once. YAML documents are separated by `---`, JSON's by their ends."""
        from queue_manager.client.cli import documents

        ascii_only = terminal.plain_ascii(sys.stdout.encoding)
        if self._output is Output.YAML:
            say(("---\n" if self._written else "") + documents.as_yaml(message, ascii_only=ascii_only))
        else:
            say(documents.as_json(message, one_line=one_line, ascii_only=ascii_only))
        self._written += 1


def say(text: str) -> None:
    """A line of plain text, out at once, because whoever reads a pipe acts on it."""
    print(text, flush=True)  # noqa: T201 - the program's output


def hint(text: str) -> None:
    """What helps somebody who sits there, and nobody else."""
    if sys.stdout.isatty():
        terminal.out().print(text, style="dim")


def draw(what: RenderableType) -> None:
    """A table or the like."""
    console = terminal.out()
    if console.file.isatty():
        # On a terminal that is too narrow a line wraps, rather than lose its end.
        everything = console.options.update(max_width=terminal.PIPE_WIDTH)
        console.width = max(console.width, console.measure(what, options=everything).minimum)
        console.print(what)
        return
    with console.capture() as captured:
        console.print(what)
    # A table fills its last column with spaces, which nobody wants in a file.
    say("\n".join(line.rstrip() for line in captured.get().splitlines()))
