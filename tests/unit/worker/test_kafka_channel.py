"""The channel over Kafka: whatever happens to it, the worker goes on, says how it ended, and exits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from queue_manager.worker import kafka
from queue_manager.worker.channel import Hear
from queue_manager.worker.environment import Environment

pytestmark = pytest.mark.virtual_time

LARGEST = 2**20


class Broker:
    """What played clients talk to."""

    def __init__(self) -> None:
        self.away = False
        self.slowness = 0.0
        """Seconds that it takes for a message."""
        self.said: list[bytes] = []
        self.commands: asyncio.Queue[Any] = asyncio.Queue()
        self.clients = 0

    def client(self, *_: object, **__: object) -> Client:
        """A producer and a consumer in one."""
        self.clients += 1
        return Client(self)


class Client:
    """See aiokafka."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def start(self) -> None:
        if self._broker.away:
            raise KafkaConnectionError("away")

    async def stop(self) -> None:
        """Nothing is left."""

    async def send_and_wait(self, _topic: str, message: bytes, *, key: bytes) -> None:
        await asyncio.sleep(self._broker.slowness)
        if len(message) > LARGEST:
            raise MessageSizeTooLargeError("too large")
        self._broker.said.append(message)

    def __aiter__(self) -> Client:
        return self

    async def __anext__(self) -> Any:
        return await self._broker.commands.get()


class Record:
    """A command."""

    def __init__(self, value: bytes) -> None:
        self.value = value


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    """One that both of the channel's clients talk to."""
    broker = Broker()
    monkeypatch.setattr(kafka, "AIOKafkaProducer", broker.client)
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", broker.client)
    return broker


def channel(hear: Hear = lambda _: None, **environment: Any) -> kafka.KafkaChannel:
    """A worker's, where nothing else is said."""
    return kafka.KafkaChannel(
        Environment(queue_id="wf-x", telemetry_id="mine", bootstrap_servers="kafka:9092", **environment), hear
    )


async def test_a_message_that_is_too_large_is_lost_alone(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """It never will be sent, so nothing waits for it."""
    async with channel() as open_channel:
        for message in (b"started", b"x" * (LARGEST + 1), b"finished"):
            await open_channel.send(message)
    assert broker.said == [b"started", b"finished"]
    assert broker.clients == 2
    assert caplog.messages == [
        f"a message of {LARGEST + 1} bytes is lost: [Error 10] MessageSizeTooLargeError: too large"
    ]


async def test_a_certificate_that_cannot_be_read_is_tried_again(
    broker: Broker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One that is being replaced is there a moment later. Until then it is said what is wrong."""
    heard: list[bytes] = []
    ca = tmp_path / "ca.crt"
    async with channel(heard.append, kafka_user="u", kafka_password="p", ca_path=str(ca)) as open_channel:
        await open_channel.send(b"started")
        broker.commands.put_nowait(Record(b"stop"))
        await asyncio.sleep(1)
        assert (broker.said, heard) == ([], [])
        assert {message.split(":")[0] for message in caplog.messages} == {
            "telemetry cannot be sent",
            "commands cannot be read",
        }
        ca.write_text(CERTIFICATE)
        await asyncio.sleep(kafka.AGAIN)
        assert (broker.said, heard) == ([b"started"], [b"stop"])


async def test_an_address_that_is_none_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And keeps nobody from the work."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("no port: 'x'")

    monkeypatch.setattr(kafka, "AIOKafkaProducer", refuse)
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", refuse)
    async with channel() as open_channel:
        await open_channel.send(b"started")
        await asyncio.sleep(1)
        assert caplog.messages == ["telemetry cannot be sent: no port: 'x'", "commands cannot be read: no port: 'x'"]


async def test_where_the_broker_is_away_the_worker_ends_all_the_same(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """However much it has said: nothing waits for room, and the end for no longer than it may."""
    broker.away = True
    now = asyncio.get_running_loop().time
    begun = now()
    async with channel() as open_channel:
        for number in range(kafka.LARGEST_BACKLOG + 5):
            await open_channel.send(b"%d" % number)
        await open_channel.send(b"finished")
        assert now() == begun
    assert now() - begun <= kafka.CLOSING
    assert caplog.messages.count("too much telemetry waits for the broker; the oldest is lost") == 1


async def test_of_too_much_the_newest_is_kept(broker: Broker) -> None:
    """Progress is told anew again and again; how it ended is told once, and last."""
    broker.away = True
    async with channel() as open_channel:
        for number in range(kafka.LARGEST_BACKLOG + 5):
            await open_channel.send(b"%d" % number)
        await open_channel.send(b"finished")
        await asyncio.sleep(0.1)
        broker.away = False
    assert len(broker.said) == kafka.LARGEST_BACKLOG
    assert (broker.said[0], broker.said[-1]) == (b"6", b"finished")


async def test_a_long_backlog_leaves_time_for_the_last_words(broker: Broker) -> None:
    """Where there is no time for all of it."""
    broker.slowness = 0.1
    async with channel() as open_channel:
        for number in range(1000):
            await open_channel.send(b"%d" % number)
        await open_channel.send(b"interrupted")
        await open_channel.send(b"finished")
    assert broker.said[0] == b"0"
    assert broker.said[-2:] == [b"interrupted", b"finished"]


CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBeDCCAR+gAwIBAgIUIho/OYtqlc3GiphaSIRuj7AD1KAwCgYIKoZIzj0EAwIw
ETEPMA0GA1UEAwwGbm9ib2R5MCAXDTI2MTEyODA5NDgxOFoYDzIxMjYxMTA0MDk0
ODE4WjARMQ8wDQYDVQQDDAZub2JvZHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AASYTx773EWJa5fOF3WNtMu7HRgXuYUurSe82H2nL5dF3YbPsVxvzSohfzFJ+bHv
nA+qHsBb7WSmhb6dPSH1EfLro1MwUTAdBgNVHQ4EFgQUqEdy+yip+ouNCLJKch+n
HFeoJf4wHwYDVR0jBBgwFoAUqEdy+yip+ouNCLJKch+nHFeoJf4wDwYDVR0TAQH/
BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiBDSl0pMMAY/ndt5dfr2ztk4IxIQ2Ed
Ej+s7pakjbu/5AIgbwzuPlyNv2iL/7vvPqYNOBRd2sFWqWms5ECLMcLIKC0=
-----END CERTIFICATE-----
"""
"""Of nobody; it is only read."""
