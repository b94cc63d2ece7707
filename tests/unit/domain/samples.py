"""What the tests of the domain share: the user's two payloads, and the golden cases of the design."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from queue_manager.server.domain.builtin import builtin_catalogue
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import InvalidRequest
from queue_manager.server.domain.model import Queue
from queue_manager.server.domain.request import DependencyRequest, JobRequest, StartRequest, accept

REPOSITORY = Path(__file__).parents[3]
GOLDEN = REPOSITORY.parent / "shared" / "data"
NOW = 1722500125.5
"""2024-08-01 08:15:25.5 UTC."""

CATALOGUE = builtin_catalogue()


def golden(name: str) -> list[dict[str, Any]]:
    """The lines of a file in the design's data folder beside the project; skips the test where there is none."""
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"the design's data folder is not beside the project: no {path}")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


def payload(name: str) -> StartRequest:
    """One of the user's payloads, `historical` or `realtime`."""
    return from_json(json.loads((REPOSITORY / "examples" / f"{name}-pipeline.json").read_text(encoding="utf-8")))


def from_json(body: dict[str, Any]) -> StartRequest:
    """A request from its JSON form."""
    return StartRequest(**{**body, "requests": [job(**entry) for entry in body.get("requests", [])]})


def job(target: str = "loader-producer", type: str = "ws_trades", **fields: Any) -> JobRequest:  # noqa: A002 - its name
    """One microservice; gates as names."""
    gates = [DependencyRequest(job=name) for name in fields.pop("depends_on", ())]
    return JobRequest(target=target, type=type, depends_on=gates, **fields)


def start(*jobs: JobRequest, **fields: Any) -> StartRequest:
    """A request that is in order unless told otherwise."""
    return StartRequest(**{"symbol": "BTCUSDT", "requests": jobs or (job(),), **fields})


def accepted(request: StartRequest, *, catalogue: Catalogue = CATALOGUE, suffix: str = "a1b2c3") -> Queue:
    """The queue that the request becomes."""
    return accept(request, catalogue, now=NOW, suffix=suffix, requested_by="tests")


def violations(request: StartRequest, *, catalogue: Catalogue = CATALOGUE) -> dict[str, str]:
    """The violations of a request that is refused: path → rule."""
    with pytest.raises(InvalidRequest) as refused:
        accepted(request, catalogue=catalogue)
    return {violation.field: violation.description for violation in refused.value.violations}
