"""Requests and limits: what is an amount, which go together, and that a default gives way to what was given."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queue_manager.server.adapters.kubernetes.options import PodOptions
from queue_manager.server.adapters.kubernetes.resources import (
    DEFAULT_LIMITS,
    DEFAULT_REQUESTS,
    amount,
    broken_rule,
    contradictions,
)


@pytest.mark.parametrize(
    ("quantity", "number"),
    [
        *(("100m", "0.1"), ("1.5", "1.5"), ("2", "2"), ("+1", "1"), (".5", "0.5"), ("5.", "5"), ("3n", "3e-9")),
        *(("4u", "4e-6"), ("128k", "128000"), ("1G", "1e9"), ("1Ki", "1024"), ("1.5Gi", "1610612736")),
        *(("1e3", "1000"), ("12E-1", "1.2"), ("1E", "1e18"), ("1Ei", "1152921504606846976"), (2, "2"), (0.5, "0.5")),
    ],
)
def test_an_amount_is_read_as_kubernetes_reads_it(quantity: str | float, number: str) -> None:
    """In every notation that its grammar has."""
    assert amount(quantity) == Decimal(number)


@pytest.mark.parametrize(
    "quantity", ["", "1 Gi", "256MB", "1K", "Gi", "1,5", "-1", "1Gi\n", "0x10", "1e", "nan", "1ki", float("nan")]
)
def test_what_is_no_amount_is_refused(quantity: str | float) -> None:
    """With the remedy."""
    with pytest.raises(ValueError, match="write it as in 100m"):
        amount(quantity)


def test_a_limit_that_is_only_a_default_rises_to_what_is_asked_for() -> None:
    """And one that is enough stays."""
    options = PodOptions(requests={"cpu": "500m", "memory": "2Gi"})
    assert options.requests == {"cpu": "500m", "memory": "2Gi"}
    assert options.limits == {"cpu": "1", "memory": "2Gi"}


def test_a_request_that_is_only_a_default_falls_to_the_limit() -> None:
    """And one that is within it stays."""
    options = PodOptions(limits={"cpu": 2, "memory": "128Mi"})
    assert options.requests == {"cpu": "100m", "memory": "128Mi"}
    assert options.limits == {"cpu": "2", "memory": "128Mi"}


def test_what_is_never_shared_has_the_limit_that_is_asked_for() -> None:
    """Kubernetes refuses a request of it without the same limit."""
    options = PodOptions(requests={"memory": "1Gi", "nvidia.com/gpu": "1"})
    assert options.limits == {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}


def test_both_as_given_are_both_as_given() -> None:
    """Also where they are the defaults' figures, or none at all."""
    assert PodOptions(requests={"cpu": "2"}, limits={}).limits == {}
    both = PodOptions(requests={"memory": "2Gi"}, limits=dict(DEFAULT_LIMITS))
    assert both.limits == DEFAULT_LIMITS
    neither = PodOptions()
    assert (neither.requests, neither.limits) == (DEFAULT_REQUESTS, DEFAULT_LIMITS)


AMOUNTS = st.sampled_from(["1m", "100m", "1", "2", "1e3", "64Mi", "256Mi", "300M", "1Gi", "2Gi", "1T"])
RESOURCES = st.dictionaries(st.sampled_from(["cpu", "memory", "ephemeral-storage", "example.com/device"]), AMOUNTS)


@given(RESOURCES, st.sampled_from(["requests", "limits"]))
def test_one_alone_never_contradicts_the_other(given_: dict[str, str], which: str) -> None:
    """Whatever is given, and it is taken as it is."""
    options = msgspec.convert({which: given_}, PodOptions)
    assert getattr(options, which) == given_
    assert not list(contradictions(options.requests, options.limits))


def test_what_is_given_and_contradicts_itself_is_told_by_resource() -> None:
    """With what stands against what."""
    asked = {"cpu": "2", "memory": "1024Mi", "nvidia.com/gpu": "1", "hugepages-2Mi": "4Mi", "example.com/nic": "1"}
    limits = {"cpu": "1500m", "memory": "1Gi", "nvidia.com/gpu": "2", "example.com/nic": "1"}
    assert dict(contradictions(asked, limits)) == {
        "cpu": "2 is asked for, and the limit is 1500m; lower the one or raise the other",
        "nvidia.com/gpu": "1 is asked for, and the limit is 2, which has to be the same; leave the request out",
        "hugepages-2Mi": "4Mi is asked for, and there is no limit, which has to be the same; leave the request out",
    }


@pytest.mark.parametrize(
    ("name", "quantity", "words"),
    [
        ("memroy", "1Gi", "is no resource"),
        ("memory", "1GB", "'1GB' is no quantity"),
        ("nvidia.com/gpu", "500m", "is no whole number"),
    ],
)
def test_what_no_container_can_have_is_told(name: str, quantity: str, words: str) -> None:
    """Before Kubernetes refuses every Job that has it."""
    assert words in (broken_rule(name, quantity) or "")
    assert broken_rule("hugepages-2Mi", "4Mi") is None
