"""The catalogue that a server has: the built-in targets, the file and the variables, as its runner can run them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from queue_manager.server.app import installed_targets, pods_told
from queue_manager.server.domain.catalogue import Catalogue
from queue_manager.server.domain.errors import InvalidRequest
from queue_manager.server.domain.request import JobRequest, StartRequest, accept
from queue_manager.server.settings import load_settings

FILE = """
targets:
  counter:
    command: [python, -m, counter]
    types:
      count: {lifetime: finite}
      count_all: {lifetime: finite, image: "registry.example.com/counter:1"}
  loader-producer: {environment: {LIMIT: 500}}
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set but the file."""
    for name in list(os.environ):
        if name.startswith(("QM_", "KAFKA_", "K8S_")) or name.endswith("_IMAGE"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "targets.yaml").write_text(FILE)
    monkeypatch.setenv("QM_CATALOGUE", str(tmp_path / "targets.yaml"))


def refused(catalogue: Catalogue, job: JobRequest) -> dict[str, str]:
    """The violations of a request for one job: field → rule."""
    request = StartRequest(symbol="BTCUSDT", requests=[job])
    try:
        accept(request, catalogue, now=0.0, suffix="a1b2c3", requested_by="")
    except InvalidRequest as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


def test_on_kubernetes_a_command_alone_is_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts the server is told; a request may name one, and is refused where it does not."""
    monkeypatch.setenv("QM_RUNNER", "kubernetes")
    with capture_logs() as logs:
        catalogue, _ = installed_targets(load_settings())
    warned = [(entry["target"], entry["types"]) for entry in logs if entry["event"] == "target without an image"]
    assert warned == [("counter", ["count"])]
    assert refused(catalogue, JobRequest(target="counter", type="count")) == {
        "requests[0].image": "is required, because the catalogue has no image for counter count; add it, "
        "or have it set there"
    }
    assert not refused(catalogue, JobRequest(target="counter", type="count", image="registry.example.com/mine:1"))
    assert not refused(catalogue, JobRequest(target="counter", type="count_all"))


def test_as_a_local_process_a_command_is_enough() -> None:
    """There is nothing that would run an image."""
    with capture_logs() as logs:
        catalogue, _ = installed_targets(load_settings())
    assert logs == []
    assert not refused(catalogue, JobRequest(target="counter", type="count"))


def test_the_built_in_targets_have_images_on_kubernetes_without_any_being_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The platform's, which its variables go before."""
    monkeypatch.setenv("QM_RUNNER", "kubernetes")
    monkeypatch.setenv("VISUALIZER_IMAGE", "registry.example.com/visualizer:2")
    catalogue, _ = installed_targets(load_settings())
    images = {
        name: {kind.default_image for kind in target.types}
        for name, target in catalogue.targets.items()
        if name in {"graph-builder", "visualizer"}
    }
    assert images == {
        "graph-builder": {"streamforge/graph-builder:latest"},
        "visualizer": {"registry.example.com/visualizer:2"},
    }


def test_what_pods_get_is_told_where_there_are_pods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of every target, also where the file says nothing of it."""
    (tmp_path / "targets.yaml").write_text("targets: {visualizer: {kubernetes: {requests: {memory: 2Gi}}}}")
    catalogue, pods = installed_targets(load_settings())
    assert pods_told(load_settings(), catalogue, pods) is None
    monkeypatch.setenv("QM_RUNNER", "kubernetes")
    told = pods_told(load_settings(), catalogue, pods)
    assert told is not None
    assert set(told) == set(catalogue.targets)
    assert told["visualizer"]["limits"] == {"cpu": "1", "memory": "2Gi"}
    assert told["graph-builder"]["limits"] == {"cpu": "1", "memory": "1Gi"}
