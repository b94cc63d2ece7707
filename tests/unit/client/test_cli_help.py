"""queuectl's help: a manual that is right, and that costs next to nothing to open."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from queue_manager.client.cli import manual, running
from queue_manager.client.cli.app import app
from queue_manager.client.cli.exit_codes import MEANINGS, ExitCode
from queue_manager.client.cli.options import Policy, State
from queue_manager.v1.queue_pb2 import FailurePolicy, QueueState

from .fake_server import FakeServer, scripted_journal
from .samples import QUEUE_ID
from .terminal import environment

ROOT = Path(__file__).parents[3]
COMMANDS = tuple(manual.EXAMPLES)

HEAVY = ("queue_manager.server", "kubernetes", "pydantic", "structlog", "msgspec", "uvloop", "prometheus_client")
"""The server's, which no command needs."""
DRAWS = ("rich",)
CALLS = ("grpc", "google", "asyncio", "queue_manager.v1")
ONE_FORM_ONLY = ("yaml",)


def help_of(command: str) -> str:
    """What `--help` writes into 80 columns."""
    result = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="queuectl")
    assert result.exit_code == 0
    return result.output


def names_of(group: object) -> Iterator[str]:
    """The commands of a group, and of those in it."""
    for name, command in getattr(group, "commands", {}).items():
        inner = list(names_of(command))
        yield from (f"{name} {each}" for each in inner) if inner else [name]


def loaded_by(*arguments: str, server: str = "") -> list[str]:
    """The modules that a run has loaded when it ends."""
    code = f"""
import sys
from queue_manager.client.cli import main
sys.argv = ["queuectl", *{arguments!r}]
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(server)
    )
    return ended.stderr.split()


def among(modules: list[str], *packages: str) -> list[str]:
    """Those of the modules that belong to one of the packages."""
    return [name for name in modules if name.startswith(tuple(f"{p}." for p in packages)) or name in packages]


class TestManual:
    def test_every_command_is_listed_with_its_examples(self) -> None:
        text = help_of("")
        assert set(COMMANDS) == set(names_of(typer.main.get_command(app)))
        for name, examples in manual.EXAMPLES.items():
            assert re.search(rf"^  {name.split()[0]} +\w", text, re.MULTILINE)
            for line, what in examples:
                assert f"    {line}\n        {what}\n" in text

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_command_has_two_examples_and_the_common_options(self, command: str) -> None:
        text = help_of(command)
        assert len(manual.EXAMPLES[command]) >= 2
        for line, _ in manual.EXAMPLES[command]:
            assert line.startswith("queuectl ") or " queuectl " in line
            assert line in text
        assert "--server HOST:PORT" in text
        assert "QM_SERVER" in text
        assert "table, for people; json or yaml" in text

    @pytest.mark.parametrize("command", ["", *COMMANDS])
    def test_it_fits_80_columns(self, command: str) -> None:
        assert [line for line in help_of(command).splitlines() if len(line) > 80] == []

    def test_the_examples_are_commands_that_it_takes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Parsed for real: an option that is renamed must be renamed here, too."""
        monkeypatch.setattr(running, "run", lambda *_: ExitCode.OK)
        monkeypatch.setattr(running, "load_payload", lambda *_: {})
        for examples in manual.EXAMPLES.values():
            for line, _ in examples:
                for part in line.split(" | "):
                    words = shlex.split(part)
                    if "queuectl" not in words:
                        continue
                    arguments = words[words.index("queuectl") + 1 :]
                    if words[0] == "xargs":
                        arguments.append(QUEUE_ID)
                    result = CliRunner().invoke(app, arguments, prog_name="queuectl")
                    assert (result.exit_code, result.output) == (0, ""), line

    def test_without_arguments_it_is_the_help(self) -> None:
        result = CliRunner().invoke(app, [], prog_name="queuectl")
        assert (result.exit_code, result.output) == (ExitCode.USAGE, help_of(""))

    def test_version(self) -> None:
        assert re.fullmatch(
            r"queuectl \d+\.\d+\S*\n", CliRunner().invoke(app, ["--version"], prog_name="queuectl").output
        )

    def test_the_states_and_policies_are_the_apis(self) -> None:
        states = {f"QUEUE_STATE_{state.name}" for state in State} | {"QUEUE_STATE_UNSPECIFIED"}
        assert states == set(QueueState.keys())
        policies = {f"FAILURE_POLICY_{policy.name}" for policy in Policy} | {"FAILURE_POLICY_UNSPECIFIED"}
        assert policies == set(FailurePolicy.keys())


class TestExitCodes:
    def test_each_has_a_meaning(self) -> None:
        assert list(MEANINGS) == list(ExitCode)

    def test_the_help_lists_them(self) -> None:
        listed = re.split(r"\n +(?=\d+  \w)", help_of("").split("Exit codes")[1])[1:]
        found = {int(code): " ".join(meaning.split()) for code, meaning in (line.split("  ", 1) for line in listed)}
        assert found == dict(MEANINGS)

    def test_the_documentation_lists_them(self) -> None:
        text = (ROOT / "docs/queuectl.md").read_text(encoding="utf-8")
        rows = re.findall(r"^\| (\d+) \| (.+) \|$", text, re.MULTILINE)
        assert {int(code): meaning.replace("\\|", "|") for code, meaning in rows} == dict(MEANINGS)


class TestStartUp:
    """What is loaded, not how long it takes: that is the machine's, and this is why."""

    @pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("start", "--help")])
    def test_help_loads_neither_what_draws_nor_what_calls(self, arguments: tuple[str, ...]) -> None:
        modules = loaded_by(*arguments)
        assert "queue_manager.client.cli.app" in modules
        assert among(modules, *HEAVY, *DRAWS, *CALLS, *ONE_FORM_ONLY) == []

    async def test_a_command_loads_only_what_it_needs(self, server: FakeServer) -> None:
        """JSON draws nothing, a table has no YAML, and nothing of the server's is there at all."""
        server.add(scripted_journal())
        for arguments, unwanted in (
            (("get", QUEUE_ID), ONE_FORM_ONLY),
            (("get", QUEUE_ID, "-o", "json"), (*DRAWS, *ONE_FORM_ONLY)),
            (("list", "-o", "name"), (*DRAWS, *ONE_FORM_ONLY)),
            (("watch", QUEUE_ID), (*DRAWS, *ONE_FORM_ONLY)),
        ):
            modules = await asyncio.to_thread(loaded_by, *arguments, server=server.address)
            assert "queue_manager.client.cli.commands" in modules
            assert among(modules, *HEAVY, *unwanted) == [], arguments

    def test_the_completion_of_words_asks_nobody(self) -> None:
        code = "from queue_manager.client.cli import main; main()"
        words = {"_QUEUECTL_COMPLETE": "complete_bash", "COMP_WORDS": "queuectl\nst", "COMP_CWORD": "1"}
        ended = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **words},
        )
        assert ended.stdout.split() == ["start", "stop"]
        assert "queue_manager.client.cli.commands" not in ended.stderr
        assert " rich" not in ended.stderr
