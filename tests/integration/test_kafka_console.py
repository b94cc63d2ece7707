"""What docs/kafka.md tells somebody to type who has nothing but Kafka's console tools and jq, typed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from tests.e2e.conftest import ROOT
from tests.e2e.server_process import ServerProcess
from tests.e2e.test_readme import blocks, missing
from tests.integration.test_kafka_server import PLAIN, SECURE, access, own_topics, payload, until_ready
from tests.support.event_schema import fault
from tests.support.kafka_tools import needs_tools, path_with_tools

Test = TypeVar("Test", bound=Callable[..., object])

PAGE = "docs/kafka.md"
BROKER = "kafka:9092"
"""As the page writes it."""


def on_a_broker(test: Test) -> Test:
    """It needs one, and the console tools."""
    for mark in (
        pytest.mark.integration,
        pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
        needs_tools,
        pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq"),
        pytest.mark.timeout(180),
    ):
        test = mark(test)
    return test


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with the console tools."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return path_with_tools(folder)


class Terminal:
    """Somebody who types what the page says, with this broker and these topics in the place of those that it writes."""

    def __init__(self, topics: Mapping[str, str], path: str) -> None:
        self._names = {
            BROKER: PLAIN,
            "queue-control": topics["QUEUE_CONTROL_TOPIC"],
            "queue-events": topics["QUEUE_EVENTS_TOPIC"],
        }
        self._environment = {**os.environ, "PATH": path}

    async def run(self, *names: str, **variables: str) -> str:
        """Run blocks in one shell; what they print."""
        async with self.running(*names, **variables) as process:
            printed, _ = await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    @asynccontextmanager
    async def running(self, *names: str, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """The shell that runs these blocks; it is ended with all that it has started."""
        process = await asyncio.create_subprocess_exec(
            "bash",
            "-euc",
            "\n".join(self._typed(name) for name in names),
            cwd=ROOT,
            env={**self._environment, **variables},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()

    def _typed(self, name: str) -> str:
        (block,) = (block for block in blocks(PAGE) if (block.kind, block.name) == ("run", name))
        text = block.text
        for written, real in self._names.items():
            text = text.replace(written, real)
        return text


def shown(name: str) -> str:
    """What the page says that a block prints."""
    (block,) = (block for block in blocks(PAGE) if (block.kind, block.name) == ("shows", name))
    return block.text


@on_a_broker
async def test_a_queue_is_started_followed_and_stopped_as_the_page_says(tmp_path: Path, path: str) -> None:
    """With nothing but a console producer and a console consumer."""
    topics = own_topics()
    terminal = Terminal(topics, path)
    lines: list[str] = []
    async with ServerProcess(tmp_path, **access(), **topics) as server:
        await until_ready(server)
        answer = json.loads(await terminal.run("start", "answer"))
        assert answer["event"] == "command_accepted", answer
        queue_id = answer["queue_id"]
        async with asyncio.timeout(120), terminal.running("follow", queue_id=queue_id) as following:
            assert following.stdout is not None
            running: set[str] = set()
            while not lines or " queue stopped " not in lines[-1]:
                lines.append((await following.stdout.readline()).decode())
                assert lines[-1], f"the consumer has ended: {lines}"
                _, who, status, *_ = lines[-1].split()
                if status == "running" and who not in {*running, "queue"}:
                    running.add(who)
                    if len(running) == len(payload("realtime")["requests"]):
                        await terminal.run("stop", queue_id=queue_id)
        assert not server.worker_pids()
    assert not missing("".join(lines), shown("follow")), "".join(lines)
    example = json.loads(shown("answer"))
    assert list(example) == list(answer)
    same = ("producer", "finished", "event", "status", "command", "request_id", "created")
    assert [example[field] for field in same] == [answer[field] for field in same]


@on_a_broker
@pytest.mark.skipif(not SECURE, reason="KAFKA_SASL_BOOTSTRAP_SERVERS names no broker that wants a login")
def test_a_login_is_given_as_the_page_says(tmp_path: Path, path: str) -> None:
    """The file of the page, with this broker's user."""
    (properties,) = re.findall(r"^```properties\n(.*?)^```$", (ROOT / PAGE).read_text(), re.DOTALL | re.MULTILINE)
    for written, real in (
        ("streamforge", os.environ["KAFKA_USER"]),
        ("…", os.environ["KAFKA_PASSWORD"]),
        ("ca.pem", os.environ["CA_PATH"]),
    ):
        assert written in properties
        properties = properties.replace(written, real)
    (tmp_path / "client.properties").write_text(properties)
    topic = f"login-{uuid.uuid4().hex[:8]}"
    with_login = f"--bootstrap-server {SECURE} --topic {topic} --command-config client.properties"
    done = subprocess.run(
        f"echo made | kafka-console-producer.sh --bootstrap-server {PLAIN} --topic {topic}\n"
        f"echo said | kafka-console-producer.sh {with_login}\n"
        f"kafka-console-consumer.sh {with_login} --from-beginning --max-messages 2 --timeout-ms 30000",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert sorted(done.stdout.split()) == ["made", "said"], done.stderr


def test_every_marked_block_is_of_use() -> None:
    """None is marked that is not run here."""
    assert [(block.kind, block.name) for block in blocks(PAGE)] == [
        ("run", "start"),
        ("run", "answer"),
        ("shows", "answer"),
        ("run", "follow"),
        ("run", "stop"),
        ("shows", "follow"),
    ]
    assert all(BROKER in block.text for block in blocks(PAGE) if block.kind == "run")
    assert not fault(json.loads(shown("answer")))
