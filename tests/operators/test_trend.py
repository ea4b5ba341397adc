"""`trend`: slope, fit, weighted mean and predicted time against NIST's data set, numpy and sums by hand."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import FlowInvalid
from engine.event import moment
from engine.harness import Harness
from engine.testing import START
from operators.trend import fitted
from tests.operators.replay import SECOND, flow_of, sent

NORRIS = (  # NIST StRD "Norris": y, x
    (0.1, 0.2), (338.8, 337.4), (118.1, 118.2), (888.0, 884.6), (9.2, 10.1), (228.1, 226.5), (668.5, 666.3),
    (998.5, 996.3), (449.1, 448.6), (778.9, 777.0), (559.2, 558.2), (0.3, 0.4), (0.1, 0.6), (778.1, 775.5),
    (668.8, 666.9), (339.3, 338.0), (448.9, 447.5), (10.8, 11.6), (557.7, 556.0), (228.3, 228.1), (998.0, 995.8),
    (888.8, 887.6), (119.6, 120.2), (0.3, 0.3), (0.6, 0.3), (557.6, 556.8), (339.3, 339.1), (888.0, 887.2),
    (998.5, 999.0), (778.9, 779.0), (10.2, 11.1), (117.6, 118.3), (228.9, 229.2), (668.4, 669.1), (449.2, 448.9),
    (0.2, 0.5),
)  # fmt: skip
LONG_AGO = 2000  # seconds: a time in the future is refused
BY_EVENT = "{mqtt: {topics: [t], time: t}}"


def run(options: dict[str, Any], given: list[dict[str, Any]], source: str = "{mqtt: {topics: [t]}}") -> Harness:
    """Return the harness after readings: each with `at` in seconds."""
    harness = Harness(flow_of("trend", options, key="", source=source))
    for reading in given:
        harness.send([sent(**reading)])
    return harness


def figures(options: dict[str, Any], given: list[dict[str, Any]], source: str = "{mqtt: {topics: [t]}}") -> list[Any]:
    return [event.data for event in run(options, given, source).out["out"]]


def test_slope_and_fit_are_those_that_nist_certifies() -> None:
    """NIST StRD linear regression "Norris": B1 = 1.00211681802045, R squared = 0.999993745883712; in any order."""
    start = START / SECOND - LONG_AGO
    given = [{"at": number, "v": y, "t": start + x} for number, (y, x) in enumerate(NORRIS)]
    last = figures({"of": "v", "by": "event", "per": "second", "limit": 1200}, given, BY_EVENT)[-1]
    assert last["slope"] == pytest.approx(1.00211681802045, rel=1e-9)
    assert last["fit"] == pytest.approx(0.999993745883712, rel=1e-9)
    reached = (1200 + 0.262323073774029) / 1.00211681802045  # B0 = -0.262323073774029
    assert last["limit_in"] == pytest.approx(reached - 999.0, rel=1e-9)
    assert last["limit_at"] == moment(START + round(last["limit_in"] * SECOND) + (999 - LONG_AGO) * SECOND)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.floats(-1e6, 1e6)), min_size=3, max_size=30, unique_by=lambda p: p[0])
)
def test_a_line_is_that_of_numpy(points: list[tuple[int, float]]) -> None:
    points.sort()
    times, values = [START + time for time, _ in points], [value for _, value in points]
    line = fitted(times, values, times[-1])
    assert line is not None
    seconds = np.array([(time - times[-1]) / SECOND for time in times])
    design = np.vstack([seconds, np.ones(len(seconds))]).T
    (slope, now), *_ = np.linalg.lstsq(design / np.abs(design).max(axis=0), np.array(values), rcond=None)
    slope /= np.abs(seconds).max()
    scale = max(map(abs, values)) or 1.0
    assert line.slope * np.ptp(seconds) == pytest.approx(slope * np.ptp(seconds), abs=1e-6 * scale)
    assert line.now == pytest.approx(now, abs=1e-6 * scale)


def test_the_slope_is_per_the_time_that_is_asked_for() -> None:
    given: list[dict[str, Any]] = [{"at": 0, "v": 1}, {"at": 30, "v": 2}]
    for per, slope in (("second", 1 / 30), ("minute", 2.0), ("hour", 120.0)):
        assert figures({"of": "v", "per": per}, given)[-1]["slope"] == pytest.approx(slope)


def test_only_what_is_within_the_time_and_the_number_counts() -> None:
    given: list[dict[str, Any]] = [{"at": 0, "v": 100}, {"at": 10, "v": 0}, {"at": 20, "v": 1}, {"at": 30, "v": 2}]
    assert figures({"of": "v", "within": "30s", "per": "second"}, given)[-1]["slope"] == pytest.approx(0.1)
    assert figures({"of": "v", "most": 3, "per": "second"}, given)[-1]["slope"] == pytest.approx(0.1)
    assert figures({"of": "v", "per": "second"}, given)[-1]["slope"] < 0


def test_the_mean_by_alpha_is_that_of_the_handbook() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.4 lists them: lambda is 0.3, and the first is 50."""
    readings = (50.0, 52.0, 47.0, 53.0, 49.3, 50.1, 47.0, 51.0, 50.1, 51.2, 50.5)
    found = figures({"of": "v", "alpha": 0.3}, [{"at": at, "v": v} for at, v in enumerate(readings)])
    expected = [50.00, 50.60, 49.52, 50.56, 50.18, 50.16, 49.21, 49.75, 49.85, 50.26, 50.33]
    assert [round(event["ewma"], 2) for event in found] == expected


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 200), st.floats(-50, 50)), min_size=1, max_size=15), st.randoms())
def test_the_mean_by_half_life_weighs_each_value_by_its_age_in_any_order(
    points: list[tuple[int, float]], random: Any
) -> None:
    """It is numpy's average with the weights 0.5^(age / half-life), as in pandas' ewm(halflife, times)."""
    random.shuffle(points)
    start = START / SECOND - LONG_AGO
    given = [{"at": number, "v": v, "t": start + t} for number, (t, v) in enumerate(points)]
    found = figures({"of": "v", "half_life": "20s", "by": "event"}, given, BY_EVENT)[-1]["ewma"]
    last = max(t for t, _ in points)
    weights = [0.5 ** ((last - t) / 20) for t, _ in points]
    assert found == pytest.approx(float(np.average([v for _, v in points], weights=weights)), rel=1e-9, abs=1e-9)


def test_a_limit_that_is_behind_or_never_reached_has_no_time() -> None:
    rising: list[dict[str, Any]] = [{"at": 0, "v": 10}, {"at": 10, "v": 20}]
    ahead, behind, flat = (
        figures({"of": "v", "limit": 30}, rising)[-1],
        figures({"of": "v", "limit": 5}, rising)[-1],
        figures({"of": "v", "limit": 30}, [{"at": 0, "v": 1}, {"at": 10, "v": 1}])[-1],
    )
    assert ahead["limit_in"] == pytest.approx(10.0)
    assert ahead["limit_at"] == moment(START) + timedelta(seconds=20)
    assert (behind["limit_in"], behind["limit_at"]) == (None, None)
    assert (flat["slope"], flat["fit"], flat["limit_in"]) == (0.0, None, None)


def test_a_value_of_the_wrong_type_is_a_dead_letter_and_a_missing_one_goes_on() -> None:
    harness = run({"of": "v"}, [{"at": 0, "v": "hot"}, {"at": 1, "w": 1}, {"at": 2, "v": True}, {"at": 3, "v": 5}])
    assert [letter.reason for letter in harness.dead] == ["of: a number; got 'hot'", "of: a number; got True"]
    assert [event.data for event in harness.out["out"]] == [{"w": 1}, {"v": 5, "slope": None, "fit": None}]


def test_a_key_is_forgotten_when_nothing_of_it_counts_any_more() -> None:
    harness = run({"of": "v", "within": "10s", "half_life": "1s"}, [{"at": 0, "v": 1}])
    harness.tick(START + 63 * SECOND)
    assert any(shard.states for shard in harness.shards["made"].values())
    harness.tick(START + 64 * SECOND)
    assert not any(shard.states for shard in harness.shards["made"].values())


def test_many_values_are_known_to_be_slow() -> None:
    for most, options in ((500, []), (501, ["most"])):
        flow = flow_of("trend", {"of": "v", "most": most})
        made = flow.nodes["made"]
        assert [slow.option for slow in made.component.slow(flow, made)] == options


def test_an_added_field_must_not_be_the_one_that_is_looked_at() -> None:
    flow_of("trend", {"of": "slope + 1", "prefix": "x_"})
    with pytest.raises(FlowInvalid, match="got 'slope' for both"):
        flow_of("trend", {"of": "slope + 1"})
