"""How a measured server is told what to do: JSON lines on its standard input, answered on its standard output.

Both servers of the benchmark, `bare` and `manager`, are processes of their own that obey the same lines, so that the
driver treats them alike.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from time import monotonic
from typing import Any, Final

import uvloop

Action = Callable[..., Awaitable[Any]]

CATCH_UP: Final = 64
"""Changes made in a row at most while the feed is behind, so that streams get their turn."""


def run(serve: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a server's coroutine on the event loop that the Queue Manager uses, too."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


async def obey(port: int, actions: Mapping[str, Action], **facts: float) -> None:
    """Say the port and what else there is to say, then obey until standard input ends."""
    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _say({"port": port, **facts})
    async for line in reader:
        wish = json.loads(line)
        try:
            _say({"answer": await actions[wish.pop("do")](**wish)})
        except TimeoutError as error:
            _say({"failed": str(error)})


async def feed(change: Callable[[int], Awaitable[None]], *, rate: float, seconds: float) -> dict[str, float]:
    """Make `rate` changes a second, spread evenly: `change(0)`, `change(1)`, …. Answers how many, and in what time.

    A server that is too busy to make them in time makes them late, and all of them.
    """
    began, made, wanted = monotonic(), 0, round(rate * seconds)
    while made < wanted:
        due = min(wanted, int((monotonic() - began) * rate) + 1)
        for number in range(made, min(due, made + CATCH_UP)):
            await change(number)
            made = number + 1
        await asyncio.sleep(0.001 if made >= due else 0)
    return {"changes": made, "seconds": monotonic() - began}


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()
