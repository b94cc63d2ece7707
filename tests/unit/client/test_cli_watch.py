"""queuectl watch: one line an event in a pipe, a live table on a terminal."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from asyncio.subprocess import PIPE

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo

from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.v1.queue_pb2 import (
    EventType,
    Job,
    JobState,
    Queue,
    QueueState,
)

from .fake_server import Failure, FakeServer, Journal, Plan, scripted_journal, simulate
from .samples import EXAMPLE, QUEUE_ID, failed_journal, running_journal
from .terminal import COMMAND, environment, on_terminal, piped, typed, without_escapes


class TestWatchInAPipe:
    async def test_one_line_an_event(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        ended = await typed(server.address, "watch", QUEUE_ID)
        assert ended.code == 0
        assert ended.out.splitlines() == [
            "2026-11-24T07:00:00Z rev 1 queue PENDING; loader-producer PENDING; graph-builder PENDING",
            "2026-11-24T07:00:01Z rev 2 queue RUNNING; loader-producer PENDING→RUNNING",
            "2026-11-24T07:00:02Z rev 3 100 records",
            "2026-11-24T07:00:03Z rev 4 200 records",
            "2026-11-24T07:00:04Z rev 5 loader-producer RUNNING→FINISHED; graph-builder PENDING→RUNNING",
            "2026-11-24T07:00:05Z rev 6 queue FINISHED; graph-builder RUNNING→FINISHED",
            "2026-11-24T07:00:05Z rev 6 queue ended FINISHED after 0:05; 200 records",
        ]

    async def test_reasons_stand_beside_their_jobs(self, server: FakeServer) -> None:
        server.add(failed_journal())
        ended = await typed(server.address, "watch", QUEUE_ID, "--after-revision", "1")
        assert ended.code == ExitCode.QUEUE_FAILED
        assert ended.out.splitlines()[0] == (
            "2026-11-24T07:00:01Z rev 2 graph-builder RUNNING→FAILED "
            "(EXIT_CODE: exited with code 3: ValueError: cannot read candle 17 of 8640 in 2024-06-05)"
        )

    async def test_merged_revisions_hide_no_change_of_state(self, server: FakeServer) -> None:
        """Their event is only the newest one; the states are compared."""
        server.add(scripted_journal(revisions=6))
        server.plans.append(Plan(merge=lambda: 4))
        lines = (await typed(server.address, "watch", QUEUE_ID)).out.splitlines()
        assert lines[1] == (
            "2026-11-24T07:00:04Z rev 5 queue RUNNING; loader-producer PENDING→FINISHED; "
            "graph-builder PENDING→RUNNING [4 revisions]"
        )

    async def test_json_is_one_frame_a_line(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        ended = await typed(server.address, "watch", QUEUE_ID, "-o", "json", "--after-revision", "4")
        frames = [json.loads(line) for line in ended.out.splitlines()]
        assert [(frame["kind"], frame["revision"]) for frame in frames] == [
            ("FRAME_KIND_UPDATE", "5"),
            ("FRAME_KIND_UPDATE", "6"),
            ("FRAME_KIND_END", "6"),
        ]

    async def test_lines_come_out_at_once(self, server: FakeServer) -> None:
        """Whoever reads the pipe acts on them; a Ctrl-C then leaves the queue alone."""
        server.add(running_journal())
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "watch", QUEUE_ID, env=environment(server.address), stdout=PIPE, stderr=PIPE
        )
        assert process.stdout is not None
        assert b"rev 1 queue RUNNING" in await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert await process.communicate() == (b"", b"")
        assert process.returncode == ExitCode.INTERRUPTED
        assert not server.requests("StopQueue")

    async def test_a_cut_is_told_on_standard_error(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        server.plans.append(Plan(cut_after=3))
        ended = await typed(server.address, "watch", QUEUE_ID)
        assert ended.code == 0
        assert len(ended.out.splitlines()) == 7
        assert re.fullmatch(r"connection lost; trying again in 0\.\d s\n", ended.err)

    async def test_a_stopped_queue_has_its_own_code(self, server: FakeServer) -> None:
        journal = running_journal()
        journal.queue.state = QueueState.QUEUE_STATE_STOPPED
        journal.record(EventType.EVENT_TYPE_QUEUE_STATE_CHANGED)
        server.add(journal)
        assert (await typed(server.address, "watch", QUEUE_ID)).code == ExitCode.QUEUE_STOPPED

    async def test_an_unknown_queue_and_a_revision_to_come(self, server: FakeServer) -> None:
        server.add(scripted_journal())
        assert (await typed(server.address, "watch", "wf-none")).code == ExitCode.NOT_FOUND
        assert (await typed(server.address, "watch", QUEUE_ID, "--after-revision", "99")).code == ExitCode.USAGE

    async def test_an_ascii_pipe_gets_ascii(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        ended = await piped(server.address, "watch", QUEUE_ID, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert ended.code == 0
        assert "loader-producer PENDING->RUNNING" in ended.out


class TestWatchOnATerminal:
    async def test_a_live_table_then_a_verdict(self, server: FakeServer) -> None:
        server.on_start = lambda journal: simulate(journal, tick=0.03)
        ended = await on_terminal(server.address, "start", "-f", EXAMPLE, "--watch")
        shown = without_escapes(ended.out).splitlines()
        assert ended.code == 0
        assert re.fullmatch(r"✓ wf-\S+ FINISHED in 0:0\d, 518,280 records", shown[-1])
        table = shown[-8:-2]
        assert [line.split()[0] for line in table] == [
            "loader-producer",
            "loader-producer-2",
            "arango-connector",
            "arango-connector-2",
            "graph-builder",
            "gnn-trainer",
        ]
        assert all("FINISHED" in line and "━━━━━━━━" in line for line in table)
        assert "\x1b[?25h" in ended.out  # the cursor is given back

    @pytest.mark.parametrize("columns", [40, 80, 200])
    async def test_no_line_is_wider_than_the_terminal(self, columns: int, server: FakeServer) -> None:
        """A line that wraps would spoil every redraw; an exported COLUMNS is old news."""
        server.on_start = lambda journal: simulate(journal, tick=0.02, fail_job="graph-builder")
        ended = await on_terminal(server.address, "start", "-f", EXAMPLE, "--watch", columns=columns, COLUMNS="300")
        assert ended.code == ExitCode.QUEUE_FAILED
        lines = without_escapes(ended.out).splitlines()
        assert [line for line in lines[1:] if len(line) > columns] == []
        assert "cannot read candle" in " ".join(lines[-6:])

    async def test_more_jobs_than_rows_are_summed_up(self, server: FakeServer) -> None:
        """A table that scrolls cannot be redrawn in place; at the end all are shown."""
        queue = Queue(queue_id=QUEUE_ID, state=QueueState.QUEUE_STATE_RUNNING)
        for number in range(30):
            queue.jobs.append(Job(name=f"loader-{number}", type="api_trades", state=JobState.JOB_STATE_RUNNING))
        queue.jobs[29].state = JobState.JOB_STATE_FAILED
        journal = Journal(queue)
        journal.record(EventType.EVENT_TYPE_QUEUE_CREATED)
        server.add(journal)
        ended = await on_terminal(
            server.address, "watch", QUEUE_ID, rows=20, interrupt_at=lambda text: "Ctrl-C" in text
        )
        first = without_escapes(ended.out).split("Ctrl-C")[0]
        assert "loader-29" in first  # what failed is never left out
        assert "loader-20" not in first
        assert "… and 17 more: 17 RUNNING" in first
        assert ended.out.count("loader-20") == 1

    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)]
    )
    async def test_an_interrupt_leaves_the_table_and_the_queue(
        self, number: signal.Signals, code: ExitCode, server: FakeServer
    ) -> None:
        server.add(running_journal())
        ended = await on_terminal(
            server.address, "watch", QUEUE_ID, interrupt_at=lambda text: "RUNNING" in text, number=number
        )
        shown = without_escapes(ended.out)
        assert ended.code == code
        assert "Traceback" not in shown
        assert "loader-producer" in shown.splitlines()[-1]
        assert "\x1b[?25h" in ended.out
        assert not server.requests("StopQueue")

    async def test_keys_that_are_typed_do_not_show(self, server: FakeServer) -> None:
        """An echoed Enter would scroll the table from under its next redraw."""
        server.add(running_journal())
        ended = await on_terminal(
            server.address, "watch", QUEUE_ID, keys=b"typed\n", interrupt_at=lambda text: text.count("RUNNING") > 3
        )
        assert ended.code == ExitCode.INTERRUPTED
        assert "typed" not in ended.out

    async def test_a_lost_connection_is_shown_and_forgotten(self, server: FakeServer) -> None:
        journal = scripted_journal(revisions=6)
        server.add(journal)
        server.plans.append(Plan(cut_after=3, cut=Failure(grpc.StatusCode.UNAVAILABLE)))
        ended = await on_terminal(server.address, "watch", QUEUE_ID)
        assert ended.code == 0
        assert "trying again" not in without_escapes(ended.out).splitlines()[-1]

    async def test_it_is_shown_at_once_that_the_connection_is_back(self, server: FakeServer) -> None:
        """Though nothing new comes: a heartbeat would take 15 s."""
        server.add(running_journal())
        retry = RetryInfo(retry_delay=Duration(seconds=1))
        server.plans.append(Plan(cut_after=1, cut=Failure(grpc.StatusCode.UNAVAILABLE, "bye", (retry,))))

        def back(text: str) -> bool:
            _, lost, later = text.rpartition("trying again")
            return bool(lost) and "Ctrl-C" in later

        begun = time.monotonic()
        ended = await on_terminal(server.address, "watch", QUEUE_ID, interrupt_at=back)
        assert ended.code == ExitCode.INTERRUPTED
        assert time.monotonic() - begun < 12

    async def test_no_color_is_respected(self, server: FakeServer) -> None:
        server.add(failed_journal())
        coloured = await on_terminal(server.address, "watch", QUEUE_ID)
        plain = await on_terminal(server.address, "watch", QUEUE_ID, NO_COLOR="1")
        colour = re.compile(r"\x1b\[[0-9;]*3[0-7][0-9;]*m")
        assert colour.search(coloured.out)
        assert not colour.search(plain.out)

    async def test_a_terminal_that_is_not_utf_8(self, server: FakeServer) -> None:
        server.on_start = lambda journal: simulate(journal, tick=0.02)
        ended = await on_terminal(
            server.address, "start", "-f", EXAMPLE, "--watch", PYTHONUTF8="0", PYTHONIOENCODING="ascii"
        )
        assert ended.code == 0
        assert ended.out.isascii()
        assert "+ wf-" in without_escapes(ended.out)

    async def test_a_dumb_terminal_gets_lines(self, server: FakeServer) -> None:
        server.add(scripted_journal(revisions=6))
        process = await on_terminal(server.address, "watch", QUEUE_ID, TERM="dumb")
        assert "rev 6 queue ended FINISHED" in process.out
        assert "\x1b" not in process.out
