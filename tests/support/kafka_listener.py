"""`python -m tests.support.kafka_listener FILE NAME`: a server's bus, whose records are lines of a file that others share.

A process of its own, so that it can be killed. A message is stored when its line is written.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

from queue_manager.server.adapters.kafka.access import Access
from queue_manager.server.adapters.kafka.bus import KafkaBus, Topics
from queue_manager.server.application.ports import Message
from tests.support.local_workers import WallClock


class Listener:
    """Takes in what comes; each batch is stored a moment later, as a server's window has it."""

    def __init__(self, file: Path) -> None:
        """Where it is stored."""
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def telemetry(self, messages: Sequence[Message]) -> None:
        """See `ports.Receiver`."""
        await asyncio.sleep(0.1)
        for message in messages:
            line = json.dumps([message.source, message.position, message.value.decode()]) + "\n"
            os.write(self._file, line.encode())  # so short that it is written whole

    commands = telemetry


async def listen() -> None:
    """Until SIGTERM."""
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    topics = Topics(control=os.environ["QUEUE_CONTROL_TOPIC"], events=os.environ["QUEUE_EVENTS_TOPIC"], partitions=6)
    access = Access(bootstrap_servers=os.environ["KAFKA_BOOTSTRAP_SERVERS"])
    group = os.environ["QM_KAFKA_GROUP"]
    instance = sys.argv[2]
    bus = KafkaBus(access, topics, group=group, clock=WallClock(), rng=Random(), instance=instance)
    bus.subscribe(Listener(Path(sys.argv[1])))
    async with bus:
        await ended.wait()


if __name__ == "__main__":
    asyncio.run(listen())
