"""Topics that were made before the server, with other settings: what is said of them, and what is done about it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from queue_manager.client import AsyncClient
from queue_manager.v1 import service_pb2
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_security import checked
from tests.integration.test_kafka_server import PLAIN, access, own_topics
from tests.support.kafka_tools import needs_tools, path_with_tools

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PLAIN, reason="KAFKA_BOOTSTRAP_SERVERS names no broker"),
    pytest.mark.timeout(180),
]

DAY = 86_400_000
ERROR, WARNING = service_pb2.Severity.SEVERITY_ERROR, service_pb2.Severity.SEVERITY_WARNING


@pytest.fixture
def topics() -> dict[str, str]:
    """Topics of a test's own, which should have 3 partitions and are kept for a week."""
    return own_topics()


@asynccontextmanager
async def admin() -> AsyncIterator[AIOKafkaAdminClient]:
    """One of the library's, as somebody else has it."""
    client = AIOKafkaAdminClient(bootstrap_servers=PLAIN)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make(name: str, partitions: int, **settings: str) -> None:
    """Make a topic."""
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    async with admin() as client:
        response = await client.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    assert [error[1] for error in response.topic_errors] == [0]


async def make_strange_topics(topics: Mapping[str, str]) -> None:
    """One that is too small and too short, one that is too large and too long, and dead letters that are kept for ever."""
    await make(topics["QUEUE_CONTROL_TOPIC"], 1, retention_ms=str(DAY))
    await make(topics["QUEUE_EVENTS_TOPIC"], 5, retention_ms=str(30 * DAY))
    await make(f"{topics['QUEUE_EVENTS_TOPIC']}.dlq", 2, retention_ms="-1")


async def findings(client: AsyncClient) -> list[service_pb2.Finding]:
    """What is wrong with the bus."""
    return [finding for finding in (await client.diagnose()).findings if finding.part == "bus"]


async def command(*words: str, path: str = os.environ["PATH"]) -> tuple[int, str]:
    """Run something; its exit code, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *words, env={**os.environ, "PATH": path}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


async def until_probed(server: ServerProcess, code: int, words: str = "") -> None:
    """Wait until the health service is asked with this exit code, and says this."""
    said: tuple[int, str] | None = None
    try:
        async with asyncio.timeout(45):
            while said is None or said[0] != code or words not in said[1]:
                said = await command(sys.executable, "-m", "queue_manager.server", "probe", "--server", server.address)
    except TimeoutError:
        pytest.fail(f"it says {said}, not {code}, {words}")


async def test_topics_of_other_settings_are_found_by_doctor_and_the_server_is_ready(
    tmp_path: Path, topics: dict[str, str]
) -> None:
    """Each with what is, what is wanted and what to do; the log has them, too, and once."""
    control, events = topics["QUEUE_CONTROL_TOPIC"], topics["QUEUE_EVENTS_TOPIC"]
    await make_strange_topics(topics)
    async with ServerProcess(tmp_path, **access(), **topics) as server, AsyncClient(server.address) as client:
        await until_probed(server, 0)
        found = await findings(client)
        assert {finding.severity for finding in found} == {WARNING}
        assert sorted(finding.message.split(":")[0] for finding in found) == sorted(
            (
                f"topic {control} has 1 partition, and QM_KAFKA_PARTITIONS says 3",
                f"topic {control} keeps messages for 86400 s, and QM_KAFKA_RETENTION says for 604800 s",
                f"topic {events} has 5 partitions, and QM_KAFKA_PARTITIONS says 3",
                f"topic {events} keeps messages for 2592000 s, and QM_KAFKA_RETENTION says for 604800 s",
                f"topic {events}.dlq keeps messages for ever, and QM_KAFKA_RETENTION says for 604800 s",
            )
        )
        assert {subject for finding in found for subject in finding.subjects} == {control, events, f"{events}.dlq"}
        assert all(finding.remedy for finding in found)
        logged = [line["problem"] for line in server.log if line.get("event") == "a topic is not as it is wanted"]
        assert sorted(logged) == sorted(finding.message for finding in found)


@needs_tools
async def test_what_doctor_says_is_to_be_done_can_be_typed_and_helps(tmp_path: Path, topics: dict[str, str]) -> None:
    """Every command, as it stands; partitions that are too many stay."""
    folder = tmp_path / "bin"
    folder.mkdir()
    path = path_with_tools(folder)
    await make_strange_topics(topics)
    plain = {"KAFKA_BOOTSTRAP_SERVERS": PLAIN}  # the tools would need a login else
    async with ServerProcess(tmp_path, **plain, **topics) as server, AsyncClient(server.address) as client:
        await until_probed(server, 0)
        commands = [
            typed
            for finding in await findings(client)
            for typed in re.findall(r"kafka-[a-z]+\.sh [^;]*", finding.remedy)
        ]
        assert len(commands) == 4
        for typed in commands:
            code, said = await command("bash", "-euc", typed, path=path)
            assert code == 0, said
        (left,) = await findings(client)
        assert "has 5 partitions" in left.message


async def test_a_compacted_topic_refuses_workers_so_the_server_is_not_ready_until_it_is_put_right(
    tmp_path: Path, topics: dict[str, str]
) -> None:
    """Doctor, readiness and `serve --check` say so in the same words, as far as a probe has room for them."""
    events = topics["QUEUE_EVENTS_TOPIC"]
    beside = tmp_path / "beside"
    beside.mkdir()
    await make(events, 3, cleanup_policy="compact,delete", retention_ms=str(7 * DAY))
    async with AIOKafkaProducer(bootstrap_servers=PLAIN) as worker:
        with pytest.raises(KafkaError):
            await worker.send_and_wait(events, b'{"status": "started"}')
        await worker.send_and_wait(events, b"{}", key=b"a key")
    async with ServerProcess(tmp_path, **access(), **topics) as server, AsyncClient(server.address) as client:
        await until_probed(server, 1, f"topic {events} is compacted")
        (finding,) = await findings(client)
        assert finding.severity == ERROR
        assert finding.message.startswith(f"topic {events} is compacted (cleanup.policy=compact,delete): ")
        assert f"--entity-name {events} --add-config cleanup.policy=delete" in finding.message
        assert await checked(beside, {**access(), **topics}) == (1, finding.message)
        async with admin() as client_of_kafka:
            await client_of_kafka.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, events, {"retention.ms": str(7 * DAY)})]
            )
        await until_probed(server, 0)
        assert await findings(client) == []
