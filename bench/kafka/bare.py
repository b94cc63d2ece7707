"""The yardstick: a bare aiokafka consumer that parses the JSON of a topic, and does nothing with it.

`python -m bench.kafka.bare` obeys `bench.control`.
"""

from __future__ import annotations

from time import monotonic

import msgspec
from aiokafka import AIOKafkaConsumer

from bench.control import obey, run
from bench.kafka.broker import options
from queue_manager.server.adapters.kafka.consumer import POLLED


async def drain(topic: str) -> float:
    """Read all that is in a topic: in how many seconds, from before its group is joined."""
    began = monotonic()
    group = f"{topic}-bare"
    consumer = AIOKafkaConsumer(
        topic, **options(), group_id=group, auto_offset_reset="earliest", enable_auto_commit=False
    )
    async with consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        left = {tp: end for tp, end in ends.items() if end}
        while left:
            for tp, records in (await consumer.getmany(timeout_ms=500, max_records=POLLED)).items():
                for record in records:
                    msgspec.json.decode(record.value)
                if records[-1].offset + 1 >= left.get(tp, 0):
                    left.pop(tp, None)
        return monotonic() - began


async def serve() -> None:
    """Drain until standard input ends."""
    await obey(0, {"drain": drain})


if __name__ == "__main__":
    run(serve)
