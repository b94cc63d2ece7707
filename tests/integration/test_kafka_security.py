"""Every way to log in at a real broker, and what is said where that fails."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from queue_manager.client import AsyncClient
from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.knock import knock
from queue_manager.server.domain.errors import Unavailable
from queue_manager.v1.service_pb2 import Severity, StopMode
from tests.e2e.server_process import ServerProcess
from tests.integration.test_kafka_server import own_topics, payload
from tests.support.kafka_broker import CLASSPATH, LIMITED, PASSWORD, Broker
from tests.support.kafka_tools import path_with_tools

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CLASSPATH, reason="KAFKA_CLASSPATH does not name Kafka's jars"),
    pytest.mark.timeout(180),
]

WAYS = [
    ("SSL", ""),
    ("SASL_PLAINTEXT", "SCRAM-SHA-512"),
    ("SASL_PLAINTEXT", "PLAIN"),
    ("SASL_SSL", "SCRAM-SHA-512"),
    ("SASL_SSL", "SCRAM-SHA-256"),
    ("SASL_SSL", "PLAIN"),
]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker for the tests of this module, once it lets somebody in."""
    with Broker(tmp_path_factory.mktemp("kafka")) as opened:
        asyncio.run(_until_open(opened))
        yield opened


async def _until_open(broker: Broker) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await knock(Access(bootstrap_servers=broker.address("PLAINTEXT")))
            except Unavailable:
                await asyncio.sleep(0.2)
            else:
                return


async def checked(folder: Path, environment: Mapping[str, str]) -> tuple[int, str]:
    """What `queue-manager serve --check` says of the bus, and its exit code."""
    server = ServerProcess(folder, **environment)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "queue_manager.server", "serve", "--check"),
        cwd=folder,
        env=server.environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, log = await process.communicate()
    lines = [line for line in said.decode().splitlines() if line.startswith("bus (kafka): ")]
    assert len(lines) == 1, log.decode()
    assert process.returncode is not None
    return process.returncode, lines[0].removeprefix("bus (kafka): ")


@pytest.mark.parametrize(("protocol", "mechanism"), WAYS)
async def test_a_server_speaks_over_every_protocol(
    tmp_path: Path, broker: Broker, protocol: str, mechanism: str
) -> None:
    """It reads its topics, which it has made, and its events arrive."""
    topics, access = own_topics(), broker.access(protocol, mechanism)
    assert await checked(tmp_path, {**access, **topics}) == (0, "ok")
    async with ServerProcess(tmp_path, **access, **topics) as server, AsyncClient(server.address) as client:
        queue = (await client.start_queue(payload("realtime"))).queue
        consumer = AIOKafkaConsumer(
            topics["QUEUE_EVENTS_TOPIC"],
            bootstrap_servers=broker.address("PLAINTEXT"),
            auto_offset_reset="earliest",
        )
        async with asyncio.timeout(30), consumer:
            async for record in consumer:
                if json.loads(record.value).get("queue_id") == queue.queue_id:
                    break
        await client.stop_queue(queue.queue_id, mode=StopMode.STOP_MODE_FORCE)


def _without(variables: Mapping[str, str], *names: str) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name not in names}


BAD: dict[str, tuple[Callable[[Broker], Mapping[str, str]], list[str]]] = {
    "wrong password": (
        lambda b: {**b.access("SASL_SSL"), "KAFKA_PASSWORD": "not-it"},
        ["does not know user streamforge with this password", "see KAFKA_USER and KAFKA_PASSWORD"],
    ),
    "wrong password, in the clear": (
        lambda b: {**b.access("SASL_PLAINTEXT", "PLAIN"), "KAFKA_PASSWORD": "not-it"},
        ["does not know user streamforge with this password"],
    ),
    "wrong CA": (
        lambda b: {**b.access("SASL_SSL"), "CA_PATH": str(b.other_ca)},
        ["its certificate is not accepted: self-signed certificate in certificate chain", "see CA_PATH"],
    ),
    "expired certificate": (
        lambda b: {**b.access("SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": b.address("EXPIRED")},
        ["its certificate is not accepted: certificate has expired"],
    ),
    "name that does not resolve": (
        lambda b: {**b.access("SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": "no-such-broker.invalid:9093"},
        ["no-such-broker.invalid:9093: its name cannot be resolved", "see KAFKA_BOOTSTRAP_SERVERS"],
    ),
    "nobody there": (
        lambda b: {**b.access("SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9,localhost:9"},
        ["127.0.0.1:9: nobody listens there", "localhost:9: nobody listens there"],
    ),
    "TLS where there is none": (
        lambda b: {**b.access("SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": b.address("PLAINTEXT")},
        ["does it speak SASL_SSL there? See QM_KAFKA_PROTOCOL"],
    ),
    "no TLS where there is": (
        lambda b: {**b.access("PLAINTEXT"), "KAFKA_BOOTSTRAP_SERVERS": b.address("SASL_SSL")},
        ["does it speak PLAINTEXT there?"],
    ),
    "no login where there is none": (
        lambda b: {**b.access("SASL_PLAINTEXT"), "KAFKA_BOOTSTRAP_SERVERS": b.address("PLAINTEXT")},
        ["does it speak SASL_PLAINTEXT there?"],
    ),
    "no certificate of our own": (
        lambda b: _without(b.access("SSL"), "QM_KAFKA_CERTIFICATE", "QM_KAFKA_KEY"),
        ["TLS fails", "see QM_KAFKA_PROTOCOL and QM_KAFKA_CERTIFICATE"],
    ),
    "topics that are not allowed": (
        lambda b: b.access("SASL_SSL", user=LIMITED),
        ["Kafka does not allow it", "TopicAuthorizationFailed", "topic control-"],
    ),
    "a CA that is none": (
        lambda b: {**b.access("SASL_SSL"), "CA_PATH": str(b.key)},
        ["Kafka's credentials cannot be read", "no certificate or crl found"],
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_is_said_in_plain_words(tmp_path: Path, broker: Broker, case: str) -> None:
    """By `serve --check`, with an exit code for scripts; no password in it."""
    variables, words = BAD[case]
    code, said = await checked(tmp_path, {**variables(broker), **own_topics()})
    assert code == 1
    for word in words:
        assert word in said
    assert "not-it" not in said
    assert PASSWORD not in said


async def test_one_broker_that_lets_us_in_is_enough(tmp_path: Path, broker: Broker) -> None:
    """The others may be away."""
    access = {**broker.access("SASL_SSL"), "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:9,{broker.address('SASL_SSL')}"}
    assert await checked(tmp_path, {**access, **own_topics()}) == (0, "ok")


@asynccontextmanager
async def _up_but_not_ready(folder: Path, variables: Mapping[str, str]) -> AsyncIterator[tuple[ServerProcess, str]]:
    """A server that does not reach its broker; and what `doctor` says of that."""
    async with ServerProcess(folder, **variables, **own_topics()) as server, AsyncClient(server.address) as client:
        found = [each for each in (await client.diagnose()).findings if each.part == "bus"]
        assert len(found) == 1
        yield server, found[0].message


@pytest.mark.parametrize("case", ["wrong password", "wrong CA", "expired certificate", "topics that are not allowed"])
async def test_the_server_stays_up_and_says_why_it_is_not_ready(tmp_path: Path, broker: Broker, case: str) -> None:
    """In the log, by the health service and by doctor: the same words. Calls are answered."""
    variables, words = BAD[case]
    async with _up_but_not_ready(tmp_path, variables(broker)) as (server, doctor):
        for word in words:
            assert word in doctor
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "queue_manager.server", "probe", "--server", server.address),
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert process.returncode == 1
        assert doctor.split(" (")[0] in said.decode()
        logged = [str(line.get("error", "")) for line in server.log]
        assert any(words[0] in line for line in logged), logged
        async with AsyncClient(server.address) as client:
            queue = (await client.start_queue(payload("realtime"))).queue
            assert (await client.get_queue(queue.queue_id)).queue_id == queue.queue_id
            await client.stop_queue(queue.queue_id, mode=StopMode.STOP_MODE_FORCE)


@pytest.mark.parametrize("wrong", ["password", "CA"])
async def test_a_file_that_is_put_right_is_read_again(tmp_path: Path, broker: Broker, wrong: str) -> None:
    """The server becomes ready by itself."""
    password, ca = tmp_path / "password", tmp_path / "ca.pem"
    password.write_text("not-it" if wrong == "password" else PASSWORD)
    ca.write_text((broker.other_ca if wrong == "CA" else broker.ca).read_text())
    variables = _without(broker.access("SASL_SSL"), "KAFKA_PASSWORD")
    variables |= {"QM_KAFKA_PASSWORD_FILE": str(password), "CA_PATH": str(ca)}
    async with _up_but_not_ready(tmp_path, variables) as (server, doctor):
        assert ("QM_KAFKA_PASSWORD_FILE" if wrong == "password" else "CA_PATH") in doctor
        password.write_text(PASSWORD)
        ca.write_text(broker.ca.read_text())
        async with asyncio.timeout(60), AsyncClient(server.address) as client:
            while [found for found in await _findings(client) if found.part == "bus"]:  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.5)


async def test_what_the_page_says_that_the_server_has_to_be_allowed_is_enough(tmp_path: Path, broker: Broker) -> None:
    """Without DescribeConfigs it works, too, and says what it cannot tell."""
    path, topics = path_with_tools(tmp_path), own_topics()
    shared = [topics["QUEUE_CONTROL_TOPIC"], topics["QUEUE_EVENTS_TOPIC"]]

    async def allow(resource: str, name: str, *operations: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *("kafka-acls.sh", "--bootstrap-server", broker.address("PLAINTEXT"), "--add"),
            *("--allow-principal", f"User:{LIMITED}", f"--{resource}", name, "--resource-pattern-type", "prefixed"),
            *(word for operation in operations for word in ("--operation", operation)),
            env={**os.environ, "PATH": path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()

    for topic in shared:
        await allow("topic", topic, "Describe", "Read", "Write", "Create")
    await allow("group", topics["QM_KAFKA_GROUP"], "Describe", "Read")
    variables = {**broker.access("SASL_SSL", user=LIMITED), **topics}
    async with ServerProcess(tmp_path, **variables) as server, AsyncClient(server.address) as client:
        async with asyncio.timeout(60):
            found = await _findings(client)
            while any(each.severity == Severity.SEVERITY_ERROR for each in found):
                await asyncio.sleep(0.2)
                found = await _findings(client)
        assert {each.severity for each in found} == {Severity.SEVERITY_WARNING}
        assert {subject for each in found for subject in each.subjects} == {
            *shared,
            *(f"{topic}.dlq" for topic in shared),
        }
        assert all("its settings may not be read" in each.message for each in found)
        assert all("DescribeConfigs" in each.remedy for each in found)
        for topic in shared:
            await allow("topic", topic, "DescribeConfigs")
        async with asyncio.timeout(60):
            while await _findings(client):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)


async def _findings(client: AsyncClient) -> list[Any]:
    return list((await client.diagnose()).findings)
