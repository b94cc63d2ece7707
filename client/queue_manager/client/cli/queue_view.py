"""How one queue looks: a header line, a row a job, and when it has ended a verdict. For `get`, `start` and `watch`.

Made for 80 columns and more: a name is never cut, a message is. Messages come from workers, so none is read as markup,
and none can move the cursor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console, ConsoleOptions, Group, OverflowMethod, RenderableType, RenderResult
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from queue_manager.client.cli import formats
from queue_manager.client.cli.terminal import plain_ascii, spell
from queue_manager.v1.queue_pb2 import Job, JobState, Queue, QueueState

WIDE: Final = 116
"""Columns from which on there is room for percentages and whole numbers."""

_STYLES: Final = {
    "PENDING": "dim",
    "LAUNCHING": "cyan",
    "STARTING": "cyan",
    "RUNNING": "bold blue",
    "FINISHED": "green",
    "FAILED": "bold red",
    "STOPPING": "yellow",
    "STOPPED": "yellow",
    "LOST": "bold red",
    "SKIPPED": "dim",
}
_SIGNS: Final = {"FINISHED": "✓", "FAILED": "✗", "STOPPED": "■"}


def state_text(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=_STYLES.get(name, ""), no_wrap=True)


@dataclass(slots=True)
class QueueView:
    """One queue, drawn for the width it is given. `now`: seconds since the epoch, for the time elapsed."""

    queue: Queue
    now: float
    note: str = ""
    """A dim line below: what the reader may do, or that the connection is lost."""
    note_style: str = "dim"
    max_rows: int | None = None
    """Rows there are for jobs: on a terminal more would scroll, and a live table cannot be redrawn then."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's protocol."""
        ascii_only = plain_ascii(console.encoding)
        width = options.max_width
        jobs, hidden = _fitting(self.queue.jobs, self.max_rows)
        parts: list[RenderableType] = [_header(self.queue, self.now, width), Text("")]
        parts.append(_job_table(jobs, width=width, ascii_only=ascii_only, piped=not console.file.isatty()))
        if hidden:
            parts.append(Text(spell(f"… and {_summary(hidden)}", ascii_only=ascii_only), style="dim"))
        if self.note:
            parts += [Text(""), _line(Text(spell(self.note, ascii_only=ascii_only), style=self.note_style))]
        yield Group(*parts)


def verdict(queue: Queue, *, ascii_only: bool) -> Group:
    """How the queue ended, in a line, and below it in full why each bad job ended badly."""
    state = formats.queue_state(queue.state)
    took = formats.clock(formats.elapsed_seconds(queue, 0.0))
    finished = queue.state == QueueState.QUEUE_STATE_FINISHED
    line = Text.assemble(
        (f"{spell(_SIGNS.get(state, '·'), ascii_only=ascii_only)} ", _STYLES.get(state, "")),
        (queue.queue_id, "bold"),
        " ",
        (state, _STYLES.get(state, "")),
        f" {'in' if finished else 'after'} {took}, {formats.records(queue.records_written)}",
    )
    lines: list[RenderableType] = [line]
    if queue.state == QueueState.QUEUE_STATE_STOPPED and queue.stopped_by:
        because = f": {formats.one_line(queue.stop_reason)}" if queue.stop_reason else ""
        lines.append(_indented(Text(f"stopped by {formats.one_line(queue.stopped_by)}{because}")))
    bad = [job for job in queue.jobs if job.state in formats.BAD_JOBS]
    for job in bad:
        said = formats.reason_text(job) or formats.one_line(job.last_error) or "no reason is known"
        lines.append(_indented(Text.assemble((job.name, "bold"), f": {said}")))
    if not bad and not finished and queue.HasField("state_reason") and not queue.stopped_by:
        lines.append(_indented(Text(formats.reason_text(queue))))
    return Group(*lines)


def _header(queue: Queue, now: float, width: int) -> RenderableType:
    """One line: id, state, time, records, and as much more as there is room for."""
    pieces: list[Text] = [
        Text(queue.queue_id, style="bold"),
        state_text(formats.queue_state(queue.state)),
        Text(formats.clock(formats.elapsed_seconds(queue, now))),
    ]
    if queue.HasField("progress"):
        pieces.append(Text(formats.percent(queue.progress)))
    pieces.append(Text(formats.records(queue.records_written)))
    used = sum(len(piece) + 2 for piece in pieces)
    ended = queue.state in formats.ENDED_QUEUES
    if not ended and (why := formats.reason_text(queue)) and used + 12 < width:
        pieces.append(Text(why, style="dim"))
    return _line(Text("  ").join(pieces))


def _job_table(jobs: Sequence[Job], *, width: int, ascii_only: bool, piped: bool) -> Table:
    """Widths are reckoned here, not left to rich, so that no column moves when a message gets longer."""
    wide = width >= WIDE
    gap = 2 if wide else 1
    cut: OverflowMethod = "crop" if ascii_only else "ellipsis"
    name_width = max((len(job.name) for job in jobs), default=3)
    type_width = max((len(job.type) for job in jobs), default=4)
    columns = {
        "JOB": name_width,
        "TYPE": type_width if wide else min(type_width, 15),
        "STATE": 9,
        "PROGRESS": 16 if wide and not piped else 8,
        "RECORDS": 12 if wide else 7,
    }
    message_width = max(8, width - sum(columns.values()) - gap * len(columns))
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
    for title, column_width in columns.items():
        table.add_column(
            title,
            width=column_width,
            no_wrap=True,
            overflow="crop" if title == "JOB" else cut,
            justify="right" if title == "RECORDS" else "left",
        )
    table.add_column("MESSAGE", no_wrap=True, overflow=cut, max_width=message_width)
    for job in jobs:
        table.add_row(
            Text(job.name),
            Text(job.type, style="dim"),
            state_text(formats.job_state(job.state)),
            _progress(job, wide=wide, piped=piped),
            Text(_records(job, wide=wide)),
            _message(job),
        )
    return table


def _progress(job: Job, *, wide: bool, piped: bool) -> RenderableType:
    """A bar where the job says how far it is; a finished one is full. Nothing where nobody knows."""
    finished = job.state == JobState.JOB_STATE_FINISHED
    if not finished and not job.HasField("progress"):
        return Text("")
    done = 1.0 if finished else min(max(job.progress, 0.0), 1.0)
    if piped:
        return Text(formats.percent(done))
    running = job.state not in formats.ENDED_JOBS
    style = "blue" if running else _STYLES.get(formats.job_state(job.state), "")
    bar = ProgressBar(
        total=1.0,
        completed=done,
        width=11 if wide else 8,
        style="bright_black",
        complete_style=style,
        finished_style=style,
    )
    if not wide:
        return bar
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(bar, Text(f"{formats.percent(done):>4}"))
    return row


def _records(job: Job, *, wide: bool) -> str:
    if not job.records_written:
        return ""
    return formats.count(job.records_written) if wide else formats.short_count(job.records_written)


def _message(job: Job) -> Text:
    """What is worth knowing now: why it waits or failed, else the last thing that it said."""
    bad = job.state in formats.BAD_JOBS
    reason = formats.reason_text(job)
    if bad or job.state != JobState.JOB_STATE_RUNNING:
        text = reason or formats.one_line(job.message)
        return Text(text, style="red" if bad else "dim")
    return Text(formats.one_line(job.message) or reason, style="dim")


def _fitting(jobs: Sequence[Job], rows: int | None) -> tuple[list[Job], list[Job]]:
    """The jobs that there is room for, in their order, and those left out: the least telling ones."""
    if rows is None or len(jobs) <= rows:
        return list(jobs), []
    shown = max(1, rows - 1)
    ranked = sorted(range(len(jobs)), key=lambda index: (_rank(jobs[index]), index))
    chosen = set(ranked[:shown])
    return [jobs[i] for i in sorted(chosen)], [jobs[i] for i in sorted(set(ranked) - chosen)]


def _rank(job: Job) -> int:
    if job.state in formats.BAD_JOBS:
        return 0
    if job.state in formats.ENDED_JOBS:
        return 3
    return 2 if job.state == JobState.JOB_STATE_PENDING else 1


def _summary(jobs: Sequence[Job]) -> str:
    states: dict[str, int] = {}
    for job in jobs:
        name = formats.job_state(job.state)
        states[name] = states.get(name, 0) + 1
    return f"{len(jobs)} more: " + ", ".join(f"{number} {name}" for name, number in states.items())


def _line(text: Text) -> Text:
    """Exactly one line, whatever the width."""
    text.no_wrap = True
    text.overflow = "ellipsis"
    return text


def _indented(text: Text) -> Padding:
    return Padding(text, (0, 0, 0, 2), expand=False)
