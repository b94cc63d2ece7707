"""How the benchmark judges what it measured."""

from __future__ import annotations

import json

import pytest

from bench.figures import Figure, Verdict, at_least, at_most, compared, no_more_than, percentile


@pytest.mark.parametrize(
    ("target", "ratio", "verdict"),
    [
        (at_least(0.8), 0.80, Verdict.MET),
        (at_least(0.8), 0.79, Verdict.MISSED),
        (at_least(0.8), 0.40, Verdict.MISSED),
        (at_least(0.8), 0.39, Verdict.FAR),
        (at_most(2.0), 2.0, Verdict.MET),
        (at_most(2.0), 2.1, Verdict.MISSED),
        (at_most(2.0), 4.1, Verdict.FAR),
    ],
)
def test_a_ratio_meets_its_target_misses_it_or_is_far_from_it(target: object, ratio: float, verdict: Verdict) -> None:
    """Far: by more than half, which is what the short benchmark fails for."""
    figure = Figure("f", 1.0, "s", 1.0, ratio, target)  # type: ignore[arg-type]
    assert figure.verdict is verdict


def test_a_bound_of_the_value_judges_the_value_and_without_a_target_nothing_is_judged() -> None:
    """As of a start-up time: the ratio is told and not judged."""
    assert Figure("f", 299.0, "ms", 1.0, 299.0, no_more_than(300)).verdict is Verdict.MET
    assert Figure("f", 301.0, "ms", target=no_more_than(300)).verdict is Verdict.MISSED
    assert Figure("f", 1e9, "ms").verdict is Verdict.NONE


def test_rounds_are_compared_one_by_one() -> None:
    """The median of the ratios, not the ratio of the medians: a slow minute slows both sides of its round."""
    figure = compared("f", "calls/s", [(80.0, 100.0), (8.0, 10.0), (900.0, 1000.0)])
    assert (figure.value, figure.bare, figure.ratio) == (80.0, 100.0, 0.8)


def test_a_yardstick_of_nought_gives_no_ratio() -> None:
    """An idle service may use no time at all."""
    assert compared("f", "%", [(0.3, 0.0)]).ratio is None


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (100, 100), (0.1, 1)])
def test_a_percentile_is_one_of_the_values(percent: float, value: float) -> None:
    """The smallest that so many per cent do not exceed."""
    assert percentile(range(1, 101), percent) == value


def test_a_figure_is_one_json_line() -> None:
    """With its target and verdict in words."""
    line = compared("GetQueue rate", "calls/s", [(9.0, 10.0)], target=at_least(0.8)).json()
    assert json.loads(line) == {
        "name": "GetQueue rate",
        "value": 9.0,
        "unit": "calls/s",
        "bare": 10.0,
        "ratio": 0.9,
        "target": "≥ 0.8 ×",
        "note": "",
        "verdict": "met",
    }
