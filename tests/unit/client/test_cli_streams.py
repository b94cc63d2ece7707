"""queuectl and the world around it: streams that are closed, full or gone, odd terminals, signals, and bugs of ours."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

import grpc
import pytest

from queue_manager.client.cli.exit_codes import ExitCode
from queue_manager.v1.queue_pb2 import Queue

from .fake_server import FakeServer, Journal, scripted_journal
from .samples import EXAMPLE, NOBODY, QUEUE_ID, failed_journal
from .terminal import COMMAND, Ended, environment, on_terminal, piped, typed, without_escapes

FULL = "error: cannot write the output: No space left on device\n"
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110


async def by_shell(line: str, server: str = NOBODY, **more: str) -> Ended:
    """Run a line by bash; `queuectl` in it is the command. The code is that of the line's first command."""
    words = " ".join(COMMAND)
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-c",
        f'queuectl() {{ {words} "$@"; }}\n{line}; exit "${{PIPESTATUS[0]}}"',
        stdin=subprocess.DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(server, **more),
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


class TestOutput:
    @needs_full
    @pytest.mark.parametrize("command", ["list", f"get {QUEUE_ID} -o json", f"watch {QUEUE_ID}", f"start -f {EXAMPLE}"])
    async def test_a_full_disk_is_an_error(self, command: str, server: FakeServer) -> None:
        """Not a success, which a script would build on."""
        server.add(scripted_journal())
        assert await by_shell(f"queuectl {command} > /dev/full", server.address) == Ended(1, "", FULL)

    @needs_full
    @pytest.mark.parametrize("command", ["--help", "--version", "start --help"])
    async def test_for_help_too(self, command: str) -> None:
        assert await by_shell(f"queuectl {command} > /dev/full") == Ended(ExitCode.UNEXPECTED, "", FULL)

    @needs_full
    @pytest.mark.parametrize(
        "command",
        ["list > /dev/full 2> /dev/full", "list 2> /dev/full", "begin 2> /dev/full", "start -f / 2> /dev/full"],
    )
    async def test_with_nowhere_to_complain_the_code_is_all(self, command: str) -> None:
        ended = await by_shell(f"queuectl {command}")
        assert ended.code != ExitCode.OK
        assert (ended.out, ended.err) == ("", "")

    async def test_what_the_shell_has_closed_is_no_crash(self, server: FakeServer) -> None:
        """And no socket gets its number: what is printed would go to the server."""
        server.add(scripted_journal())
        assert await by_shell("queuectl list >&-", server.address) == Ended(0, "", "")
        assert await by_shell("queuectl get wf-none 2>&-", server.address) == Ended(ExitCode.NOT_FOUND, "", "")
        assert await by_shell("queuectl begin >&- 2>&- <&-", server.address) == Ended(ExitCode.USAGE, "", "")
        ended = await by_shell("queuectl list -o name <&- 2>&-", server.address)
        assert ended == Ended(0, f"{QUEUE_ID}\n", "")
        ended = await by_shell("queuectl start -f - <&-", server.address)
        assert (ended.code, "standard input is empty" in ended.err) == (ExitCode.USAGE, True)

    @pytest.mark.parametrize("command", ["list --limit 500", "--help", "begin 2>&1"])
    async def test_a_reader_who_leaves_is_no_error(self, command: str, server: FakeServer) -> None:
        """As with `| head`: nothing is said, and the code is a pipe's."""
        for number in range(500):
            server.add(Journal(Queue(queue_id=f"wf-{number}" + "x" * 500)))
        ours, theirs = os.pipe()
        os.close(ours)
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"{' '.join(COMMAND)} {command}",
            env=environment(server.address),
            stdout=theirs,
            stderr=PIPE,
        )
        os.close(theirs)
        _, err = await process.communicate()
        assert (process.returncode, err) == (ExitCode.BROKEN_PIPE, b"")


class TestTerminals:
    async def test_one_without_a_name(self, server: FakeServer) -> None:
        server.add(failed_journal())
        ended = await on_terminal(server.address, "watch", QUEUE_ID, TERM="")
        assert ended.code == ExitCode.QUEUE_FAILED
        assert "graph-builder" in without_escapes(ended.out)

    @pytest.mark.parametrize("columns", [20, 50])
    async def test_a_list_loses_nothing_on_a_narrow_one(self, columns: int, server: FakeServer) -> None:
        """Its lines wrap, as any command's do."""
        server.add(scripted_journal())
        ended = await on_terminal(server.address, "list", columns=columns)
        header, row = without_escapes(ended.out).splitlines()
        assert header.split() == ["QUEUE", "ID", "STATE", "ENDED", "RECORDS", "AGE"]
        assert row.split()[:4] == [QUEUE_ID, "FINISHED", "2/2", "800"]

    async def test_the_c_locale(self, server: FakeServer) -> None:
        server.add(failed_journal())
        ended = await piped(
            server.address, "get", QUEUE_ID, PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", LANG="C", LC_ALL="C"
        )
        assert ended.code == 0
        assert ended.out.isascii()
        assert "graph-builder: exited with code 3" in ended.out


class TestArguments:
    @pytest.mark.parametrize(
        "arguments",
        [("get", "\udcff"), ("stop", "x", "--reason", "\udcff"), ("list", "-l", "\udcff")],
        ids=lambda a: a[0],
    )
    async def test_bytes_that_are_no_text(self, arguments: tuple[str, ...], server: FakeServer) -> None:
        ended = await piped(server.address, *arguments)
        assert (ended.code, ended.out) == (ExitCode.USAGE, "")
        assert ended.err == "error: an argument is not UTF-8 text: '\\udcff'; check how it is typed or made\n"


class TestInterrupts:
    async def test_while_it_waits_for_standard_input(self) -> None:
        """It has said what it waits for, where somebody sits there."""
        ended = await on_terminal(NOBODY, "start", "-f", "-", interrupt_at=lambda text: "then Ctrl-D" in text)
        assert ended.code == ExitCode.INTERRUPTED
        assert without_escapes(ended.out).splitlines() == [
            "type or paste the request, then Ctrl-D on a line of its own"
        ]

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    async def test_while_the_server_thinks(self, number: signal.Signals, code: int, server: FakeServer) -> None:
        server.answer_delay = 30
        process = await asyncio.create_subprocess_exec(
            *COMMAND, "start", "-f", EXAMPLE, env=environment(server.address), stdout=PIPE, stderr=PIPE
        )
        while not server.calls:  # noqa: ASYNC110 - the other side is a process
            await asyncio.sleep(0.01)
        process.send_signal(number)
        out, err = await process.communicate()
        assert (process.returncode, out, err) == (code, b"", b"")


class TestNoQueueManager:
    """Something answers, but not what was meant."""

    @pytest.fixture
    async def plain_text(self) -> AsyncIterator[str]:
        """Says something at once, as a mail server does."""

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example.com ESMTP ready\r\n")
            await writer.drain()
            writer.close()

        listening = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with listening:
            yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"

    async def test_it_speaks_no_grpc(self, plain_text: str) -> None:
        ended = await typed(plain_text, "list")
        assert ended.code == ExitCode.UNREACHABLE
        assert ended.err == (
            f"cannot reach the server at {plain_text}; what listens there speaks no gRPC; check --server or QM_SERVER\n"
        )

    async def test_it_offers_other_services(self) -> None:
        other = grpc.aio.server()
        port = other.add_insecure_port("127.0.0.1:0")
        await other.start()
        try:
            ended = await typed(f"127.0.0.1:{port}", "list")
        finally:
            await other.stop(None)
        assert ended.code == ExitCode.UNEXPECTED
        assert "Is it a Queue Manager, and as new as this queuectl?" in ended.err

    async def test_it_takes_connections_and_hangs_up(self) -> None:
        """Nobody is told to start a server where there is something already."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            address = f"127.0.0.1:{listening.getsockname()[1]}"
            loop = asyncio.get_running_loop()

            def hang_up() -> None:
                listening.accept()[0].close()

            loop.add_reader(listening, hang_up)
            try:
                ended = await typed(address, "list")
            finally:
                loop.remove_reader(listening)
        assert ended == Ended(5, "", f"cannot reach the server at {address}; check --server or QM_SERVER\n")

    async def test_a_proxy_is_named_but_not_its_password(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("http_proxy", "http://ada:secret@127.0.0.1:1")
        ended = await typed("qm.invalid:50051", "list")
        assert ended.code == ExitCode.UNREACHABLE
        assert ended.err == (
            "cannot reach the server at qm.invalid:50051; check --server or QM_SERVER, and the proxy in http_proxy\n"
        )


class TestBugs:
    CODE = """
import sys
from queue_manager.client.cli import main, running
running.AsyncClient = lambda *_, **__: 1 / 0
sys.argv = ["queuectl", "list"]
main()
"""

    def test_a_bug_of_ours_is_a_line(self) -> None:
        ended = subprocess.run([sys.executable, "-c", self.CODE], capture_output=True, text=True, check=False)
        assert ended.returncode == ExitCode.UNEXPECTED
        assert ended.stderr == "error: unexpected: ZeroDivisionError: division by zero; QM_DEBUG=1 shows where\n"

    def test_whoever_looks_for_it_sees_where(self) -> None:
        debug = {**os.environ, "QM_DEBUG": "1"}
        ended = subprocess.run(
            [sys.executable, "-c", self.CODE], capture_output=True, text=True, check=False, env=debug
        )
        assert ended.returncode == 1
        assert "Traceback" in ended.stderr
