"""`Grpc-Timeout`, in gRPC's own form."""

from __future__ import annotations

import re

import pytest

from queue_manager.gateway.openapi.parameters import HEADERS
from queue_manager.gateway.problems import Malformed
from queue_manager.gateway.upstream import timeout_of

YEAR = 365 * 24 * 3600.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5S", 5.0),
        ("005S", 5.0),
        ("500m", 0.5),
        ("2M", 120.0),
        ("1H", 3600.0),
        ("80u", 80e-6),
        ("1n", 1e-9),
        ("8760H", YEAR),
        ("99999999H", YEAR),  # more than gRPC's core can count: it would say at once that the time is over
        ("0S", None),
        ("00000000H", None),
        ("123456789S", None),
        ("5", None),
        ("0.5S", None),
        ("-5S", None),
        ("5s", None),
        ("", None),
    ],
)
def test_how_long_a_call_may_take(text: str, seconds: float | None) -> None:
    """Read, or refused; the document says the same."""
    assert bool(re.search(HEADERS["Timeout"]["schema"]["pattern"], text)) is (seconds is not None)
    if seconds is None:
        with pytest.raises(Malformed, match="Grpc-Timeout"):
            timeout_of({"Grpc-Timeout": text})
    else:
        assert timeout_of({"Grpc-Timeout": text}) == pytest.approx(seconds)
