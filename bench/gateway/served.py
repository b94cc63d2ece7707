"""The gateway to be measured, as `queue-manager gateway` runs it: `python -m bench.gateway.served SERVER`."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

from bench.control import obey, run
from queue_manager.gateway.app import running
from queue_manager.gateway.options import Options
from queue_manager.server.observability.logging import configure


async def serve() -> None:
    """Serve until standard input ends."""
    configure("json", "warning")
    async with running(Options(port=0, server=sys.argv[1])) as url:
        port = urlsplit(url).port
        assert port is not None
        await obey(port, {})


if __name__ == "__main__":
    run(serve)
