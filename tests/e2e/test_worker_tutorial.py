"""The tutorial of the worker kit, as its reader follows it: the worker and the catalogue of the page are run."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from queue_manager.client import AsyncClient
from queue_manager.v1 import queue_pb2
from tests.e2e.server_process import ServerProcess

PAGE = Path(__file__).resolve().parents[2] / "docs" / "worker.md"


def block(language: str) -> str:
    """The page's first block in this language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


async def test_the_worker_of_the_tutorial_runs_to_its_end(tmp_path: Path) -> None:
    """With its parameter, and with what it says of itself."""
    program, catalogue = tmp_path / "counter.py", tmp_path / "targets.yaml"
    program.write_text(block("python"))
    text = block("yaml").replace("/path/to/counter.py", str(program))
    catalogue.write_text(text.replace("[python,", f"[{sys.executable},"))
    assert shutil.which(sys.executable)
    async with (
        ServerProcess(tmp_path, QM_CATALOGUE=str(catalogue)) as server,
        AsyncClient(server.address, timeout=30) as client,
    ):
        job = {"target": "counter", "type": "count", "parameters": {"goal": "7"}}
        started = await client.start_queue({"symbol": "BTCUSDT", "requests": [job]})
        async for frame in client.watch(started.queue.queue_id):
            last = frame.queue
        assert last.state == queue_pb2.QUEUE_STATE_FINISHED, last
        (counter,) = last.jobs
        assert (counter.records_written, counter.progress, counter.exit_code) == (7, 1.0, 0)
        assert await server.terminate() == 0
