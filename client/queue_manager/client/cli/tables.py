"""How lists look: queues, targets, one target, and the plan of a start. One queue is `queue_view`'s."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from queue_manager.client.cli import formats
from queue_manager.client.cli.queue_view import WIDE, state_text
from queue_manager.v1.dead_letter_pb2 import DeadLetter
from queue_manager.v1.queue_pb2 import Lifetime, Queue
from queue_manager.v1.service_pb2 import StartQueueResponse
from queue_manager.v1.target_pb2 import KubernetesOptions, Parameter, Reads, Target, TargetType, TimeRangeEnd

_LIFETIMES: Final = {
    Lifetime.LIFETIME_FINITE: "ends by itself",
    Lifetime.LIFETIME_ENDLESS: "runs until stopped",
    Lifetime.LIFETIME_DRAINS: "ends when all is read",
}

_READS: Final = {Reads.READS_OWN: "its topic", Reads.READS_ALL: "all topics"}

_VALUE: Final = 40
"""Characters of a dead letter's value that a table shows."""


def queues(listed: Sequence[Queue], *, console: Console, now: float) -> RenderableType:
    """The queues, one a row. `now`: seconds since the epoch, for their ages. ENDED: of how many jobs how many have."""
    if not listed:
        return Text("no queues match", style="dim")
    piped = not console.file.isatty()
    wide = piped or console.width >= WIDE
    rows: list[list[Text]] = []
    for queue in listed:
        ended = sum(job.state in formats.ENDED_JOBS for job in queue.jobs)
        cells = [
            Text(queue.queue_id),
            state_text(formats.queue_state(queue.state)),
            Text(f"{ended}/{len(queue.jobs)}"),
            Text(formats.count(queue.records_written) if piped else formats.short_count(queue.records_written)),
            Text(formats.utc(queue.create_time) if piped else formats.age(max(0.0, now - queue.create_time.seconds))),
        ]
        if wide:
            cells += [Text(queue.symbol), Text(formats.one_line(queue.requested_by), style="dim")]
        rows.append(cells)
    titles = ["QUEUE ID", "STATE", "ENDED", "RECORDS", "CREATED" if piped else "AGE", "SYMBOL", "STARTED BY"]
    numbers = {"ENDED", "RECORDS", "AGE"}
    table = _table()
    for title, *cells in zip(titles, *rows, strict=False):
        widest = max(len(title), *map(len, cells))
        table.add_column(title, no_wrap=True, min_width=widest, justify="right" if title in numbers else "left")
    for row in rows:
        table.add_row(*row)
    return table


def dead_letters(listed: Sequence[DeadLetter], *, console: Console, now: float) -> RenderableType:
    """The dead letters, one a row. `now`: seconds since the epoch, for their ages."""
    if not listed:
        return Text("there are no dead letters", style="dim")
    piped = not console.file.isatty()
    wide = piped or console.width >= WIDE

    def when(time: Timestamp) -> str:
        return formats.utc(time) if piped or not time.seconds else formats.age(max(0.0, now - time.seconds))

    table = _table()
    for title in ("ID", "BURIED" if piped else "AGE", "BYTES", "REPLAYED"):
        table.add_column(title, no_wrap=True, justify="right" if title in {"AGE", "BYTES"} else "left")
    table.add_column("WHY", no_wrap=piped, overflow="fold")
    if wide:
        table.add_column("VALUE", no_wrap=True)
    for letter in listed:
        cells = [
            Text(formats.one_line(letter.id)),
            Text(when(letter.bury_time)),
            Text(formats.count(letter.value_size)),
            Text(when(letter.replay_time)),
            Text(formats.one_line(letter.error)),
        ]
        table.add_row(*cells, *([_value(letter)] if wide else []))
    return table


def targets(listed: Iterable[Target]) -> RenderableType:
    """The catalogue in short."""
    table = _table()
    table.add_column("TARGET", no_wrap=True)
    table.add_column("TYPES", ratio=2, overflow="fold")
    table.add_column("WHAT IT DOES", ratio=3, overflow="fold")
    for target in listed:
        types = ", ".join(kind.name for kind in target.types)
        table.add_row(Text(target.name, style="bold"), Text(types), Text(formats.one_line(target.description)))
    return table


def target(shown: Target) -> RenderableType:
    """One target with all its rules."""
    parts: list[RenderableType] = [
        Text.assemble((shown.name, "bold"), f": {formats.one_line(shown.description)}"),
        Text("\nTypes", style="bold"),
    ]
    parts += [_indented(_type(kind)) for kind in shown.types]
    if shown.parameters:
        parts.append(Text("\nParameters", style="bold"))
        parts += [_indented(_parameter(parameter)) for parameter in shown.parameters]
    workers = _workers(shown)
    if workers.row_count:
        parts += [Text("\nWorkers", style="bold"), _indented(workers)]
    if shown.HasField("kubernetes"):
        parts += [Text("\nOn Kubernetes", style="bold"), _indented(_pods(shown.kubernetes))]
    return Group(*parts)


def plan(response: StartQueueResponse) -> RenderableType:
    """What `--validate-only` found: the queue that would be, and how each job would be launched."""
    parts: list[RenderableType] = [
        Text("valid; nothing has been started. The queue would be"),
        _indented(Text(response.queue.queue_id, style="bold")),
    ]
    for entry in response.plan:
        grid = _facts()
        grid.add_row("worker", Text(entry.worker_name))
        grid.add_row("image", Text(entry.image))
        if entry.command:
            grid.add_row("command", Text(formats.one_line(" ".join(entry.command))))
        pairs = (f"{name}={formats.one_line(value)}" for name, value in sorted(entry.environment.items()))
        grid.add_row("environment", Text("\n".join(pairs)))
        if entry.secret_environment:
            grid.add_row("secrets", Text(", ".join(sorted(entry.secret_environment))))
        parts += [Text(f"\n{entry.job}", style="bold"), _indented(grid)]
    return Group(*parts)


def _value(letter: DeadLetter) -> Text:
    """Its beginning; who wants all of it takes JSON."""
    if not letter.text:
        return Text("not text", style="dim")
    text = formats.one_line(letter.value[: 4 * _VALUE].decode(errors="ignore"))
    return Text(text if len(text) <= _VALUE else f"{text[: _VALUE - 3]}...")


def _type(kind: TargetType) -> RenderableType:
    facts = [_LIFETIMES.get(kind.lifetime, "")]
    if kind.needs_time_range:
        facts.append("needs time_range")
    if kind.required_fields:
        facts.append(f"needs {', '.join(kind.required_fields)}")
    if kind.optional_fields:
        facts.append(f"takes {', '.join(kind.optional_fields)}")
    if kind.feeds:
        facts.append("writes its topic")
    if reads := _READS.get(kind.reads):
        facts.append(f"reads {reads} as {formats.one_line(kind.consumer_group)}")
    if kind.time_range_end == TimeRangeEnd.TIME_RANGE_END_EXCLUSIVE:
        facts.append("leaves out the last day that it is told")
    lines: list[RenderableType] = [Text.assemble((kind.name, "cyan"), f"  {'; '.join(fact for fact in facts if fact)}")]
    if kind.description:
        lines.append(_indented(Text(formats.one_line(kind.description))))
    if kind.default_image:
        lines.append(_indented(Text(f"image {kind.default_image}", style="dim")))
    return Group(*lines)


def _workers(shown: Target) -> Table:
    """How its workers are run, as far as its entry says so."""
    grid = _facts()
    if shown.command:
        grid.add_row("command", Text(formats.one_line(" ".join(shown.command))))
    if shown.environment:
        grid.add_row("environment", _pairs(shown.environment))
    if shown.secret_environment:
        grid.add_row("secrets", _pairs(shown.secret_environment, " from "))
    if shown.plaintext_kafka:
        grid.add_row("Kafka", Text("without TLS and credentials"))
    return grid


def _pods(options: KubernetesOptions) -> Table:
    """What its pods get."""
    grid = _facts()
    for title, values in (
        ("requests", options.requests),
        ("limits", options.limits),
        ("nodes", options.node_selector),
    ):
        if values:
            grid.add_row(title, Text(", ".join(f"{key}={formats.one_line(values[key])}" for key in sorted(values))))
    lists = (("tolerations", options.tolerations), ("volumes", options.volumes), ("mounts", options.volume_mounts))
    for title, objects in lists:
        if objects:
            grid.add_row(title, Text("\n".join(formats.one_line(_json(each)) for each in objects)))
    secrets = f", with {', '.join(options.image_pull_secrets)}" if options.image_pull_secrets else ""
    grid.add_row("pulls", Text(formats.one_line(f"{options.image_pull_policy}{secrets}")))
    if options.service_account:
        grid.add_row("account", Text(formats.one_line(options.service_account)))
    root = "read-only root" if options.read_only_root else "writable root"
    shared = "shared processes" if options.share_process_namespace else "its own processes"
    grid.add_row("runs as", Text(f"{options.run_as_user}:{options.run_as_group}, {root}, {shared}"))
    grid.add_row("grace", Text(f"{options.grace.seconds} s"))
    if options.HasField("patch"):
        grid.add_row("patch", Text(formats.one_line(_json(options.patch))))
    return grid


def _json(value: Struct) -> str:
    """Kubernetes' own objects, on one line. A `Struct` knows no whole numbers, and Kubernetes has hardly any others."""
    told = json_format.MessageToJson(value, indent=None)
    whole = json.loads(told, parse_float=lambda text: int(text[:-2]) if text.endswith(".0") else float(text))
    return json.dumps(whole, sort_keys=True)


def _pairs(values: Mapping[str, str], between: str = "=") -> Text:
    return Text("\n".join(f"{name}{between}{formats.one_line(values[name])}" for name in sorted(values)))


def _facts() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def _parameter(parameter: Parameter) -> RenderableType:
    facts = [formats.parameter_type(parameter.type)]
    if parameter.required:
        facts.append("required")
    if parameter.default_value:
        facts.append(f"default {parameter.default_value}")
    if parameter.HasField("minimum"):
        facts.append(f"at least {parameter.minimum:g}")
    if parameter.HasField("maximum"):
        facts.append(f"at most {parameter.maximum:g}")
    if parameter.pattern:
        facts.append(f"matches {parameter.pattern}")
    if parameter.allowed_values:
        facts.append(f"one of {', '.join(parameter.allowed_values)}")
    lines: list[RenderableType] = [
        Text.assemble((parameter.name, "cyan"), f"  {', '.join(facts)}; {parameter.environment_variable}")
    ]
    if parameter.description:
        lines.append(_indented(Text(formats.one_line(parameter.description))))
    return Group(*lines)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)
