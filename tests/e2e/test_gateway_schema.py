"""The gateway keeps what its OpenAPI document says: schemathesis, with all its checks, against real processes.

It finds a 5xx; a status, header, body or event that the document does not tell; a request that the document allows and the
gateway refuses, or one that it forbids and the gateway takes. What it is told of this API is in `schemathesis.toml` and
`schemathesis_hooks.py`. To play on with other seeds, before a server and a gateway that run already:
`PYTHONPATH=. st --config-file tests/e2e/schemathesis.toml run http://127.0.0.1:8080/openapi.json --seed 2`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.server_process import ServerProcess
from tests.support.gateway_process import GatewayProcess

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = Path(__file__).with_name("schemathesis.toml")

TARGETS = ("loader-producer", "arango-connector", "graph-builder", "gnn-trainer", "visualizer")
CATALOGUE = {"targets": {name: {"command": ["true"]} for name in TARGETS}}
"""Queues are really started, by the dozen: so their workers are processes that end at once."""

WITHOUT_BROKER = {"GET /v1/deadLetters", "POST /v1/deadLetters:replay"}
"""Operations that can only refuse, for want of a broker."""

PATIENCE = 200.0

pytestmark = pytest.mark.timeout(PATIENCE + 30)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    """A gateway before a server. Neither may log an error."""
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(yaml.safe_dump(CATALOGUE))
    async with (
        ServerProcess(tmp_path, QM_CATALOGUE=str(catalogue)) as server,
        GatewayProcess(server.address, tmp_path) as running,
    ):
        yield running
        log = [*server.log, *map(json.loads, (tmp_path / "gateway.log").read_text().splitlines())]
        assert not [line for line in log if line.get("level") in {"error", "critical"}]


async def test_each_operation(gateway: GatewayProcess) -> None:
    """Thousands of requests, well and badly made, of every operation: no check fails, and each is also carried out."""
    told = await play(gateway, "--phases=examples,coverage,fuzzing", "--max-examples=160")
    assert told["test_cases"]["generated"] >= 3000
    assert told["operations"]["tested"] == told["operations"]["total"]
    carried_out = {
        name for name, phases in told["valid_rates"].items() if any(each["accepted"] for each in phases.values())
    }
    assert carried_out | WITHOUT_BROKER == told["valid_rates"].keys()


async def test_operations_one_after_another(gateway: GatewayProcess) -> None:
    """Hundreds of requests that take what earlier ones answered: queues are started, looked at, stopped, watched, listed.

    A run ends where the server answers otherwise than before, and there are new ids each time: so it takes several.
    """
    cases = 0
    for seed in range(1, 20):
        told = await play(gateway, "--phases=examples,stateful", "--max-examples=100", f"--seed={seed}")
        assert told["phases"]["stateful"]["status"] == "success"
        cases += told["test_cases"]["generated"]
        if cases >= 600:
            return
    pytest.fail(f"these were only {cases} cases")


async def play(gateway: GatewayProcess, *options: str) -> Mapping[str, Any]:
    """Run schemathesis. Its report, where it has found nothing; else a failure with what it has found."""
    report = gateway.folder / "report.json"
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        "--no-color",
        f"--config-file={CONFIGURATION}",
        "run",
        f"{gateway.url}/openapi.json",
        f"--report-json-path={report}",
        *options,
        cwd=gateway.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(PATIENCE):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        pytest.fail(said.decode(errors="replace"), pytrace=False)
    told: Mapping[str, Any] = json.loads(report.read_text())
    return told
