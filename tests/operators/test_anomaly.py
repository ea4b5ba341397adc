"""`anomaly`: scores and bounds against the e-Handbook's worked example, numpy and the standard library."""

import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import FlowInvalid
from engine.harness import Harness
from operators.anomaly import by_mean, by_median, by_quartiles
from tests.operators.replay import flow_of, sent

HOUR = 3600
EWMA_READINGS = (  # NIST/SEMATECH e-Handbook 6.3.2.4
    52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5, 49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6,
    52.1,
)  # fmt: skip
readings = st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), min_size=3, max_size=40)


def judged(options: dict[str, Any], values: list[Any], apart: float = 1) -> list[dict[str, Any]]:
    """Return what came out for values that come `apart` seconds one after the other."""
    harness = Harness(flow_of("anomaly", {"of": "v"} | options, key=""))
    for number, value in enumerate(values):
        harness.send([sent(number * apart, v=value)])
    return [event.data for event in harness.out["out"]]


def odd(events: list[dict[str, Any]]) -> list[int]:
    return [number for number, event in enumerate(events) if event["anomaly"]]


@settings(max_examples=200)
@given(readings, st.floats(-1e4, 1e4))
def test_the_score_by_mean_is_that_of_the_standard_library(values: list[float], value: float) -> None:
    band, spread = by_mean(values, value, 3), statistics.stdev(values)
    assert band.expected == pytest.approx(statistics.fmean(values))
    assert band.upper - band.lower == pytest.approx(6 * spread, abs=1e-9)
    if spread > 1e-6:
        assert band.score == pytest.approx((value - statistics.fmean(values)) / spread, rel=1e-6, abs=1e-6)


@settings(max_examples=200)
@given(readings, st.floats(-1e4, 1e4))
def test_the_score_by_median_is_numpys(values: list[float], value: float) -> None:
    """Iglewicz and Hoaglin: 0.6745 (x - median) / MAD."""
    median = np.median(values)
    mad = np.median(np.abs(np.array(values) - median))
    band = by_median(values, value, 3.5)
    assert band.expected == pytest.approx(median)
    assert band.upper == pytest.approx(median + 3.5 * mad / 0.6745)
    if mad > 1e-6:
        assert band.score == pytest.approx(0.6745 * (value - median) / mad)


@settings(max_examples=200)
@given(readings, st.floats(-1e4, 1e4))
def test_fences_are_those_of_numpys_quartiles(values: list[float], value: float) -> None:
    low, middle, high = np.percentile(values, [25, 50, 75])
    band = by_quartiles(values, value, 1.5)
    assert band.expected == pytest.approx(middle)
    assert band.lower == pytest.approx(low - 1.5 * (high - low), abs=1e-6)
    assert band.upper == pytest.approx(high + 1.5 * (high - low), abs=1e-6)
    if high - low > 1e-6:
        assert (abs(band.score or 0) > 1.5) == (not band.lower <= value <= band.upper)


def test_the_ewma_chart_is_that_of_the_handbook() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.4: mean 50, s = 2.0539, lambda 0.3: limits 52.5884 and 47.4115, none beyond."""
    away = 2.0539 * (19 / 20) ** 0.5  # twenty values at 50 ± this have that s
    history = [50 + away, 50 - away] * 10
    found = judged({"method": "ewma", "alpha": 0.3, "learn": "first"}, [*history, *EWMA_READINGS])
    assert odd(found) == []
    last = found[-1]
    assert last["expected"] == pytest.approx(50)
    assert (last["upper"], last["lower"]) == (pytest.approx(52.5884, abs=2e-4), pytest.approx(47.4115, abs=2e-4))
    spread = (last["upper"] - 50) / 3
    assert 50 + last["score"] * spread == pytest.approx(51.99, abs=0.005)
    shifted = judged({"method": "ewma", "alpha": 0.3, "learn": "first"}, [*history, *EWMA_READINGS, 55, 55])
    assert odd(shifted) == [40, 41]


def test_a_small_lasting_shift_is_found_by_ewma_only() -> None:
    values = [10.0, 10.2, 9.8, 10.1, 9.9] * 6 + [10.3] * 12
    assert odd(judged({"method": "zscore", "learn": "first", "warm_up": 30}, values)) == []
    assert odd(judged({"method": "ewma", "learn": "first", "warm_up": 30}, values))[0] in range(31, 36)


def test_an_outlier_can_be_kept_out_of_what_is_usual() -> None:
    values = [4, 5, 4, 5, 4, 5, 40, 30]
    assert odd(judged({"warm_up": 6, "learn": "normal"}, values)) == [6, 7]
    assert odd(judged({"warm_up": 6, "learn": "always"}, values)) == [6]
    assert odd(judged({"warm_up": 6, "learn": "first"}, values)) == [6, 7]


def test_a_lasting_change_is_learned_when_the_old_values_are_out_of_time() -> None:
    values = [4, 5, 4, 5, *[9] * 8]
    found = odd(judged({"warm_up": 2, "within": "4s", "learn": "normal"}, values))
    assert found
    assert found[-1] < 8


def test_only_the_latest_values_count() -> None:
    found = judged({"warm_up": 2, "most": 3}, [100, 1, 2, 3, 4])
    assert found[-1]["expected"] == pytest.approx(2)
    assert found[-1]["score"] == pytest.approx(2.0)


def test_nothing_is_judged_before_the_warm_up() -> None:
    *before, last = judged({"warm_up": 3}, [1, 99, 1, 1])
    assert [(event["anomaly"], event["expected"]) for event in before] == [(False, None)] * 3
    assert last["expected"] == pytest.approx(101 / 3)


def test_what_never_varies_has_no_score_and_a_tolerance() -> None:
    *_, same, other = judged({"warm_up": 2, "learn": "first"}, [5, 5, 5, 5.25])
    assert (same["score"], same["anomaly"]) == (0.0, False)
    assert (other["score"], other["anomaly"]) == (None, True)
    assert odd(judged({"warm_up": 2, "learn": "first", "tolerance": 0.25}, [5, 5, 5, 5.25, 5.3])) == [4]


def test_an_hour_of_the_day_has_values_of_its_own() -> None:
    values = [20 if hour % 24 < 12 else 5 for hour in range(24 * 5)]
    assert odd(judged({"season": "day", "warm_up": 3}, [*values, 5], HOUR)) == [120]
    assert odd(judged({"warm_up": 24}, [*values, 5], HOUR)) == []


def test_the_week_and_the_zone_decide_which_hour_it_is() -> None:
    """The start is a Tuesday, 22:13 UTC: in Seoul it is Wednesday, and the hour begins at the same minute."""
    flow = flow_of("anomaly", {"of": "v", "season": "week", "zone": "Asia/Seoul"}, key="")
    harness = Harness(flow)
    harness.send([sent(0, v=1)])
    assert [list(state) for shard in harness.shards["made"].values() for state in shard.states.values()] == [["3 07"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"warm_up": 9, "most": 5}, "at most most"), ({"zone": "Mars/Base"}, "unknown time zone"), ({"alpha": 2}, "1")],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        flow_of("anomaly", {"of": "v"} | options)


def test_many_values_are_known_to_be_slow() -> None:
    for most, options in ((500, []), (501, ["most"])):
        flow = flow_of("anomaly", {"of": "v", "most": most})
        made = flow.nodes["made"]
        assert [slow.option for slow in made.component.slow(flow, made)] == options


def test_an_added_field_must_not_be_the_one_that_is_looked_at() -> None:
    flow_of("anomaly", {"of": "score + 1", "prefix": "x_"})
    with pytest.raises(FlowInvalid, match="got 'score' for both"):
        flow_of("anomaly", {"of": "score + 1"})
