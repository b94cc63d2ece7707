"""Jobs out of patterns: each is the one that is made and encoded from its own specification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.adapters.kubernetes import manifest, patterns
from queue_manager.server.adapters.kubernetes.encoding import decode, encode
from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.patterns import Patterns
from queue_manager.server.domain.launch import LaunchSpec, WorkerKey
from tests.unit.adapters.kubernetes.test_manifest import CASES, spec

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["", "$(KAFKA_PASSWORD)", "\ue0000\ue000", "x" * 127, "x" * 128, "é" * 8192]
)
"""What a variable may have, a mark and lengths of one, two and three bytes included."""


class Making:
    """Makes manifests with options, and counts them."""

    def __init__(self, options: PodOptions = PodOptions()) -> None:  # noqa: B008 - immutable
        self.made = 0
        self._options = options

    def __call__(self, launch: LaunchSpec) -> dict[str, Any]:
        """A worker's Job."""
        self.made += 1
        return manifest.job(launch, namespace="workers", secret="secrets", options=self._options)


def assert_is_the_same(sent: Mapping[str, Any] | bytes, job: Mapping[str, Any]) -> None:
    """What is sent says what is to be made."""
    encoded = encode(job)
    assert encoded is not None
    assert isinstance(sent, bytes)
    assert decode(sent) == decode(encoded)


@pytest.mark.parametrize("name", CASES)
@given(texts=st.lists(TEXTS, min_size=20, max_size=20))
def test_a_later_job_is_as_if_it_were_made_by_itself(name: str, texts: list[str]) -> None:
    """Whatever its texts are, and how long they are."""
    launch, options = CASES[name]
    making = Making(options)
    bodies = Patterns(making)
    bodies(launch)
    made = making.made
    environment = {variable: texts[4 + place] for place, variable in enumerate(launch.environment)}
    if "CA_PATH" in environment:
        environment["CA_PATH"] = launch.environment["CA_PATH"]
    key = WorkerKey(texts[0], texts[1], launch.key.attempt, texts[2])
    other = replace(launch, key=key, spec_hash=texts[3], environment=environment)
    assert_is_the_same(bodies(other), making(other))
    assert making.made == made + 1, "only for the comparison"


@pytest.mark.parametrize(
    "changed",
    [
        {"target": "graph-builder"},
        {"image": "registry.example.com/loader:2"},
        {"command": ("python",)},
        {"command": ("python", "$HOME")},
        {"timeout": 60.0},
        {"start_timeout": 60.0},
        {"key": WorkerKey("wf-a", "loader-producer", 2, "a")},
        {"environment": {"SYMBOL": "BTCUSDT"}},
        {"environment": {"TYPE": "api_trades", "SYMBOL": "BTCUSDT", "CA_PATH": "/etc/ca/ca.crt"}},
        {"environment": {"SYMBOL": "BTCUSDT", "TYPE": "api_trades", "CA_PATH": "/other.crt"}},
        {"secret_environment": {"KAFKA_PASSWORD": "kafka-password"}},
        {"secret_environment": {"KAFKA_PASSWORD": "another"}},
    ],
)
def test_what_is_no_text_of_it_makes_another_pattern(changed: dict[str, Any]) -> None:
    """Two Jobs of one pattern differ in nothing else."""
    making = Making()
    bodies = Patterns(making)
    for launch in (spec(), spec(**changed), spec(), spec(**changed)):
        assert_is_the_same(bodies(launch), making(launch))


@pytest.mark.parametrize("text", ["\ue0000\ue000", "\ue0003\ue000", "a\ue0001\ue000"])
def test_a_mark_in_what_is_the_same_for_all_does_no_harm(text: str) -> None:
    """It would be taken for the place of another text."""
    making = Making()
    launch = spec(image=text)
    sent = Patterns(making)(launch)
    if isinstance(sent, bytes):
        assert_is_the_same(sent, making(launch))
    else:
        assert sent == making(launch)


def test_a_mark_in_the_first_jobs_own_texts_does_not_spoil_the_later_ones() -> None:
    """A caller may have written it."""
    making = Making()
    bodies = Patterns(making)
    for symbol in ("\ue0001\ue000", "BTCUSDT"):
        launch = spec(environment={"SYMBOL": symbol})
        assert_is_the_same(bodies(launch), making(launch))


def test_what_protobuf_cannot_say_is_made_anew_each_time() -> None:
    """As JSON."""
    making = Making(PodOptions(patch={"spec": {"template": {"spec": {"hostAliases": [{"ip": "10.0.0.1"}]}}}}))
    bodies = Patterns(making)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        launch = spec(environment={"SYMBOL": symbol})
        assert bodies(launch) == making(launch)


def test_patterns_are_bounded() -> None:
    """A caller may ask for a new image each time."""
    making = Making()
    bodies = Patterns(making)
    for number in range(2 * patterns.KEPT + 1):
        bodies(spec(image=f"loader:{number}"))
    assert len(bodies._known) <= patterns.KEPT
    launch = spec(image="loader:0")
    assert_is_the_same(bodies(launch), making(launch))
