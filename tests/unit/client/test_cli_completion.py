"""queuectl's shell completion: by a real bash, and as zsh and fish ask for it."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from asyncio.subprocess import PIPE
from functools import cache
from pathlib import Path

import grpc
import pytest

from queue_manager.client.cli import completion, formats
from queue_manager.client.cli.completion import join_bash_words
from queue_manager.v1.queue_pb2 import Queue, QueueState
from queue_manager.v1.target_pb2 import Target

from .fake_server import Failure, FakeServer, Journal
from .samples import NOBODY
from .terminal import environment

QUEUECTL = Path(sys.executable).with_name("queuectl")
COMPLETE = """
eval "$SCRIPT"
COMP_WORDS=("${@}"); COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
_queuectl_completion queuectl
printf '%s\\n' "${COMPREPLY[@]}"
"""

pytestmark = pytest.mark.skipif(not QUEUECTL.exists(), reason="queuectl is not installed beside this Python")


async def run(*command: str, server: str, **more: str) -> tuple[str, str]:
    """What it writes, to both streams, with queuectl on the PATH."""
    path = f"{QUEUECTL.parent}:{environment('')['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(server, PATH=path, **more)
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


@cache
def bash_script() -> str:
    """What is sourced in bash."""
    asked = environment(NOBODY, _QUEUECTL_COMPLETE="source_bash")
    return subprocess.run([QUEUECTL], env=asked, capture_output=True, text=True, check=True).stdout


async def bash(line: str, server: str = NOBODY) -> list[str]:
    """What bash offers at the end of a line. It splits at colons and equals signs, too, as readline does."""
    words = re.findall(r"[:=]+|[^\s:=]+", line)
    if line.endswith((" ", "=", ":")):
        words.append("")
    out, err = await run("bash", "--norc", "-c", COMPLETE, "bash", *words, server=server, SCRIPT=bash_script())
    assert err == ""
    return out.split()


async def other(shell: str, line: str, server: str = NOBODY, **more: str) -> str:
    """What zsh's or fish's script is answered for a line."""
    asked = {"_QUEUECTL_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": line, **more}
    out, err = await run(str(QUEUECTL), server=server, **asked)
    assert err == ""
    return out


@pytest.fixture
def stocked(server: FakeServer) -> FakeServer:
    """Two queues and two targets."""
    for queue_id in ("wf-a-1", "wf-b-2"):
        server.add(Journal(Queue(queue_id=queue_id, state=QueueState.QUEUE_STATE_RUNNING)))
    server.targets.append(Target(name="graph-builder", description="Builds graphs:\nall of them."))
    server.targets.append(Target(name="gnn-trainer"))
    return server


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
class TestBash:
    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("queuectl ", ["start", "stop", "get", "list", "watch", "targets", "doctor", "dlq"]),
            ("queuectl st", ["start", "stop"]),
            ("queuectl get x -o ", ["table", "json", "yaml", "name"]),
            ("queuectl get x --output=", ["table", "json", "yaml", "name"]),
            ("queuectl get x --output=y", ["yaml"]),
            ("queuectl list --state s", ["stopping", "stopped"]),
            ("queuectl start --failure-policy ", ["keep-going", "stop-all"]),
            ("queuectl start --val", ["--validate-only"]),
            ("queuectl start -f ", []),
        ],
    )
    async def test_words(self, line: str, offered: list[str]) -> None:
        """Nothing for a file: bash then offers those that there are."""
        assert await bash(line) == offered

    @pytest.mark.parametrize(
        ("line", "offered"),
        [
            ("queuectl get ", ["wf-b-2", "wf-a-1"]),
            ("queuectl watch wf-a", ["wf-a-1"]),
            ("queuectl stop wf-b-2 wf-", ["wf-a-1"]),
            ("queuectl targets g", ["graph-builder", "gnn-trainer"]),
            ("queuectl list --target gnn", ["gnn-trainer"]),
        ],
    )
    async def test_what_the_server_knows(self, line: str, offered: list[str], stocked: FakeServer) -> None:
        assert await bash(line, stocked.address) == offered

    @pytest.mark.parametrize(
        "line", ["queuectl --server {} get wf-a", "queuectl --server={} get wf-a", "queuectl get --server {} wf-a"]
    )
    async def test_the_server_that_the_line_names(self, line: str, stocked: FakeServer) -> None:
        """Although bash takes an address for three words."""
        assert await bash(line.format(stocked.address)) == ["wf-a-1"]

    @pytest.mark.parametrize("server", [NOBODY, "http://nonsense", "qm.invalid:1"])
    async def test_without_a_server_nothing_is_offered_and_nothing_said(self, server: str) -> None:
        assert await bash("queuectl get ", server) == []

    async def test_nor_after_an_error(self, stocked: FakeServer) -> None:
        stocked.failures["ListQueues"].append(Failure(grpc.StatusCode.PERMISSION_DENIED, "no"))
        assert await bash("queuectl get ", stocked.address) == []

    async def test_only_what_can_be_stopped_is_offered_to_stop(self, stocked: FakeServer) -> None:
        await bash("queuectl stop ", stocked.address)
        await bash("queuectl get ", stocked.address)
        stop, get = stocked.requests("ListQueues")
        assert tuple(stop.states) == formats.UNFINISHED_QUEUES
        assert list(get.states) == []

    async def test_a_server_that_thinks_is_not_waited_for(self, stocked: FakeServer) -> None:
        """The deadline is one for all: connecting, asking, answering."""
        stocked.answer_delay = 30
        assert completion.DEADLINE <= 1.0
        assert await bash("queuectl get ", stocked.address) == []
        assert stocked.requests("ListQueues")

    async def test_it_can_be_installed(self, tmp_path: Path) -> None:
        out, _ = await run("bash", "-c", "queuectl --install-completion; true", server=NOBODY, HOME=str(tmp_path))
        script = tmp_path / ".bash_completions/queuectl.sh"
        assert str(script) in out
        assert f"source '{script}'" in (tmp_path / ".bashrc").read_text()
        line = f"source '{tmp_path}/.bashrc'; complete -p queuectl"
        assert (await run("bash", "--norc", "-c", line, server=NOBODY)) == (
            "complete -o default -F _queuectl_completion queuectl\n",
            "",
        )

    async def test_it_can_be_shown(self) -> None:
        out, _ = await run("bash", "-c", "queuectl --show-completion; true", server=NOBODY)
        assert out.rstrip().endswith("complete -o default -F _queuectl_completion queuectl")


class TestOtherShells:
    @pytest.mark.parametrize(
        ("shell", "begins"), [("zsh", "#compdef queuectl"), ("fish", "complete --command queuectl")]
    )
    async def test_there_is_a_script(self, shell: str, begins: str) -> None:
        out, err = await run(str(QUEUECTL), server=NOBODY, _QUEUECTL_COMPLETE=f"source_{shell}")
        assert out.strip().startswith(begins)
        assert err == ""

    async def test_zsh_shows_what_a_word_means(self, stocked: FakeServer) -> None:
        assert (await other("zsh", "queuectl stop wf-a", stocked.address)).strip() == (
            """_arguments '*: :(("wf-a-1":"RUNNING"))'"""
        )
        shown = await other("zsh", "queuectl targets gr", stocked.address)
        assert '"graph-builder":"Builds graphs\\\\: all of them."' in shown

    async def test_fish_shows_what_a_word_means(self, stocked: FakeServer) -> None:
        line = f"queuectl --server {stocked.address} get wf-a"
        shown = await other("fish", line, _TYPER_COMPLETE_FISH_ACTION="get-args")
        assert shown == "wf-a-1\tRUNNING\n"


class TestBashWords:
    @pytest.mark.parametrize(
        ("split", "number", "joined", "at"),
        [
            (["queuectl", "get"], 1, ["queuectl", "get"], 1),
            (["queuectl", "--server", "a", ":", "1", "get", ""], 6, ["queuectl", "--server", "a:1", "get", ""], 4),
            (["queuectl", "--server", "=", "a", ":", "1", "x"], 6, ["queuectl", "--server=a:1", "x"], 2),
            (["queuectl", "--output", "=", ""], 3, ["queuectl", "--output="], 1),
            (["queuectl", "--server", "a", ":", "1", "get"], 1, ["queuectl", "--server", "a:1", "get"], 1),
            (["queuectl", "--server", "a", ":"], 3, ["queuectl", "--server", "a:"], 2),
        ],
    )
    def test_they_are_joined_as_they_were_typed(
        self, split: list[str], number: int, joined: list[str], at: int
    ) -> None:
        environ = {"_QUEUECTL_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(split), "COMP_CWORD": str(number)}
        join_bash_words(environ)
        assert (environ["COMP_WORDS"].split("\n"), environ["COMP_CWORD"]) == (joined, str(at))

    @pytest.mark.parametrize(
        "environ",
        [
            {},
            {"COMP_WORDS": "a\n:\nb", "COMP_CWORD": "2"},
            {"_QUEUECTL_COMPLETE": "complete_bash", "COMP_WORDS": "a\n:"},
        ],
    )
    def test_nothing_else_is_touched(self, environ: dict[str, str]) -> None:
        before = dict(environ)
        join_bash_words(environ)
        assert environ == before
