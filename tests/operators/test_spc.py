"""`spc`: each chart against a published worked example, the capability and the statistics against numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from engine.event import moment
from engine.harness import Harness
from engine.testing import START
from tests.operators.replay import SECOND, flow_of, sent

PISTON_RINGS = (  # Montgomery, Introduction to Statistical Quality Control, table 5-1 (6.3 in later editions); mm
    (74.030, 74.002, 74.019, 73.992, 74.008), (73.995, 73.992, 74.001, 74.011, 74.004),
    (73.988, 74.024, 74.021, 74.005, 74.002), (74.002, 73.996, 73.993, 74.015, 74.009),
    (73.992, 74.007, 74.015, 73.989, 74.014), (74.009, 73.994, 73.997, 73.985, 73.993),
    (73.995, 74.006, 73.994, 74.000, 74.005), (73.985, 74.003, 73.993, 74.015, 73.988),
    (74.008, 73.995, 74.009, 74.005, 74.004), (73.998, 74.000, 73.990, 74.007, 73.995),
    (73.994, 73.998, 73.994, 73.995, 73.990), (74.004, 74.000, 74.007, 74.000, 73.996),
    (73.983, 74.002, 73.998, 73.997, 74.012), (74.006, 73.967, 73.994, 74.000, 73.984),
    (74.012, 74.014, 73.998, 73.999, 74.007), (74.000, 73.984, 74.005, 73.998, 73.996),
    (73.994, 74.012, 73.986, 74.005, 74.007), (74.006, 74.010, 74.018, 74.003, 74.000),
    (73.984, 74.002, 74.003, 74.005, 73.997), (74.000, 74.010, 74.013, 74.020, 74.003),
    (73.982, 74.001, 74.015, 74.005, 73.996), (74.004, 73.999, 73.990, 74.006, 74.009),
    (74.010, 73.989, 73.990, 74.009, 74.014), (74.015, 74.008, 73.993, 74.000, 74.010),
    (73.982, 73.984, 73.995, 74.017, 74.013),
)  # fmt: skip
RINGS = [value for sample in PISTON_RINGS for value in sample]
FLOWRATE = (49.6, 47.6, 49.9, 51.3, 47.8, 51.2, 52.6, 52.4, 53.6, 52.1)  # NIST/SEMATECH e-Handbook 6.3.2.2
CANS = (  # Montgomery, orange juice cans: defectives among 50
    12, 15, 8, 10, 4, 7, 16, 9, 14, 10, 5, 6, 17, 12, 22, 8, 10, 5, 13, 11, 20, 18, 24, 15, 9, 12, 7, 13, 9, 6,
)  # fmt: skip
BOARDS = (  # Montgomery, circuit boards: defects in 100 of them
    21, 24, 16, 12, 15, 5, 28, 20, 31, 25, 20, 24, 16, 19, 10, 17, 13, 22, 18, 39, 30, 24, 16, 19, 17, 15,
)  # fmt: skip
WAFERS = (  # NIST/SEMATECH e-Handbook 6.3.3.1: defects of a wafer
    16, 14, 28, 16, 12, 20, 10, 12, 10, 17, 19, 17, 14, 16, 15, 13, 14, 16, 11, 20, 11, 19, 16, 31, 13,
)  # fmt: skip
COMPUTERS = (10, 12, 8, 14, 10, 16, 11, 7, 10, 15, 9, 5, 7, 11, 12, 6, 8, 10, 7, 5)  # Montgomery: defects of 5 each


def charted(options: dict[str, Any], values: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the samples of a chart of values that come a second one after the other."""
    return [event.data for event in harness_of(options, values).out["out"]]


def harness_of(options: dict[str, Any], values: Sequence[Any]) -> Harness:
    harness = Harness(flow_of("spc", {"of": "v"} | options, key=""))
    for number, value in enumerate(values):
        harness.send([sent(number, **(value if isinstance(value, dict) else {"v": value}))])
    return harness


def beyond(samples: list[dict[str, Any]], rule: str = "western1") -> list[int]:
    """Return the numbers, from 1, of the samples that break a rule."""
    return [number for number, sample in enumerate(samples, 1) if rule in sample["violated"]]


def drawn(sample: dict[str, Any], name: str = "") -> tuple[float, float, float]:
    return sample[f"{name}lower"], sample[f"{name}center"], sample[f"{name}upper"]


def test_mean_and_range_of_the_piston_rings() -> None:
    """Montgomery: 74.001, R-bar 0.023, limits 73.988 and 74.014, of R 0 and 0.049; with A2 = 0.577 and numpy's R-bar."""
    found = charted({"chart": "xbar_r", "size": 5}, RINGS * 2)
    assert {sample[name] for sample in found[:25] for name in ("lower", "center", "upper")} == {None}
    assert drawn(found[25]) == pytest.approx((73.988, 74.001, 74.014), abs=6e-4)
    assert drawn(found[25], "spread_") == pytest.approx((0, 0.023, 0.049), abs=5e-4)
    mean_range = float(np.mean(np.ptp(PISTON_RINGS, axis=1)))
    assert found[25]["spread_center"] == pytest.approx(mean_range)
    assert found[25]["upper"] == pytest.approx(np.mean(RINGS) + 0.577 * mean_range, abs=2e-5)
    assert [sample["violated"] for sample in found] == [[]] * 50
    first = found[0]
    assert (first["value"], first["spread"]) == (pytest.approx(74.0102), pytest.approx(0.038))
    assert (first["start"], first["end"], first["size"]) == (moment(START), moment(START + 4 * SECOND), 5.0)


def test_mean_and_deviation_of_the_piston_rings() -> None:
    """Montgomery: s-bar 0.0094; limits 73.988 and 74.014, of s 0 and 0.0196; with A3 = 1.427 and numpy's s-bar."""
    found = charted({"chart": "xbar_s", "size": 5}, RINGS * 2)
    assert drawn(found[25]) == pytest.approx((73.988, 74.001, 74.014), abs=6e-4)
    assert drawn(found[25], "spread_") == pytest.approx((0, 0.0094, 0.0196), abs=5e-5)
    deviation = float(np.mean(np.std(PISTON_RINGS, axis=1, ddof=1)))
    assert found[25]["upper"] == pytest.approx(np.mean(RINGS) + 1.427 * deviation, abs=1e-5)
    assert found[0]["spread"] == pytest.approx(float(np.std(PISTON_RINGS[0], ddof=1)))


def test_capability_of_the_piston_rings() -> None:
    """Montgomery: 74.000 ± 0.05, sigma 0.0099, Cp 1.68 (R-bar rounded to 0.023); the indices with numpy's figures."""
    found = charted({"chart": "xbar_r", "size": 5, "spec": {"lower": 73.95, "upper": 74.05}}, RINGS)[-1]
    assert found["cp"] == pytest.approx(1.68, abs=0.015)
    mean, overall = float(np.mean(RINGS)), float(np.std(RINGS, ddof=1))
    within = float(np.mean(np.ptp(PISTON_RINGS, axis=1))) / 2.32593
    assert found["cp"] == pytest.approx(0.1 / (6 * within), rel=1e-6)
    assert found["cpk"] == pytest.approx((74.05 - mean) / (3 * within), rel=1e-6)
    assert found["pp"] == pytest.approx(0.1 / (6 * overall), rel=1e-9)
    assert found["ppk"] == pytest.approx((74.05 - mean) / (3 * overall), rel=1e-9)


def test_single_values_and_moving_ranges_of_the_flowrate() -> None:
    """NIST/SEMATECH e-Handbook 6.3.2.2: MR-bar 1.8778; 45.8159, 50.81, 55.8041 (with d2 = 1.128), none beyond."""
    found = charted({"chart": "i_mr", "baseline": 10}, FLOWRATE * 2)
    assert drawn(found[10]) == pytest.approx((45.8159, 50.81, 55.8041), abs=2e-3)
    assert drawn(found[10], "spread_") == pytest.approx((0, 1.8778, 3.2665 * 1.8778), abs=1e-3)
    assert beyond(found) == []
    assert found[0]["spread"] is None
    assert found[1]["spread"] == pytest.approx(2.0)
    later = charted({"chart": "i_mr", "baseline": 10}, [*FLOWRATE, 55.9])[-1]
    assert later["violated"] == ["western1"]


def test_shares_and_numbers_of_defective_cans() -> None:
    """Montgomery: p-bar 0.2313, limits 0.0524 and 0.4102, samples 15 and 23 beyond; np: 2.62 and 20.51."""
    cans = [{"v": bad, "n": 50} for bad in CANS]
    shares = charted({"chart": "p", "size": "n", "baseline": 30}, cans * 2)[30:]
    assert drawn(shares[0]) == pytest.approx((0.0524, 0.2313, 0.4102), abs=6e-5)
    assert beyond(shares) == [15, 23]
    assert shares[0]["value"] == 0.24
    numbers = charted({"chart": "np", "size": "n", "baseline": 30}, cans * 2)[30:]
    assert drawn(numbers[0]) == pytest.approx((2.62, 11.565, 20.51), abs=6e-3)
    assert beyond(numbers) == [15, 23]


def test_the_lines_of_a_share_follow_the_size_of_the_sample() -> None:
    lots = [{"v": 10, "n": 100}, {"v": 30, "n": 300}, {"v": 0, "n": 100}, {"v": 0, "n": 400}]
    found = charted({"chart": "p", "size": "n", "baseline": 2}, lots)[2:]
    assert [drawn(sample) for sample in found] == [pytest.approx((0.01, 0.1, 0.19)), pytest.approx((0.055, 0.1, 0.145))]


def test_defects_of_circuit_boards() -> None:
    """Montgomery: c-bar 19.85 (rounded), limits 6.48 and 33.22, samples 6 and 20 beyond."""
    found = charted({"chart": "c", "baseline": 26}, BOARDS * 2)[26:]
    assert drawn(found[0]) == pytest.approx((6.48, 19.85, 33.22), abs=1e-2)
    assert beyond(found) == [6, 20]


def test_defects_of_wafers() -> None:
    """NIST/SEMATECH e-Handbook 6.3.3.1: c-bar 16, limits 4 and 28; the 24th, with 31, is beyond."""
    found = charted({"chart": "c"}, WAFERS * 2)[25:]
    assert drawn(found[0]) == (4.0, 16.0, 28.0)
    assert beyond(found) == [24]


def test_defects_a_computer() -> None:
    """Montgomery: u-bar 1.93, limits 0.07 and 3.79."""
    found = charted({"chart": "u", "size": "5", "baseline": 20}, COMPUTERS * 2)[20:]
    assert drawn(found[0]) == pytest.approx((0.07, 1.93, 3.79), abs=6e-3)
    assert beyond(found) == []
    assert found[0]["value"] == 2.0


def test_limits_that_are_given_hold_from_the_first_sample() -> None:
    """Montgomery's formulas for standards given, by the factors A = 1.342, d2 = 2.326 and D2 = 4.918 for five."""
    options = {"chart": "xbar_r", "size": 5, "limits": {"center": 100, "sigma": 2}}
    [found] = charted(options, [110, 90, 101, 99, 100])
    assert drawn(found) == pytest.approx((100 - 1.342 * 2, 100, 100 + 1.342 * 2), abs=1e-3)
    assert drawn(found, "spread_") == pytest.approx((0, 2.326 * 2, 4.918 * 2), abs=1e-3)
    assert found["violated"] == ["spread"]


def test_the_rules_of_western_electric_in_one_run() -> None:
    values = [0, 3.5, 0, 2.5, 2.5, 0, -1.5, -1.5, -1.5, -1.5, *[0.5] * 8]
    found = charted({"chart": "i_mr", "limits": {"center": 0, "sigma": 1}}, values)
    rules = ("western1", "western2", "western3", "western4")
    assert [beyond(found, rule) for rule in rules] == [[2], [4, 5], [10], [18]]
    assert beyond(charted({"chart": "i_mr", "limits": {"center": 0, "sigma": 1}, "rules": []}, values)) == []


def test_what_was_learned_stays() -> None:
    """A process that drifts away is held against the samples at the beginning."""
    found = charted({"chart": "i_mr", "baseline": 4}, [9, 10, 11, 10, *[20] * 50])
    assert [drawn(sample) for sample in found[4:]] == [drawn(found[4])] * 50
    assert all("western1" in sample["violated"] for sample in found[4:])


def test_the_state_is_bounded() -> None:
    harness = harness_of({"chart": "i_mr", "baseline": 5}, range(200))
    [state] = [state for shard in harness.shards["made"].values() for state in shard.states.values()]
    assert (len(state.samples), len(state.points), len(state.values)) == (5, 15, 0)
    harness = harness_of({"chart": "c", "baseline": 5}, range(200))
    [state] = [state for shard in harness.shards["made"].values() for state in shard.states.values()]
    assert (len(state.samples), len(state.points)) == (5, 15)


@pytest.mark.parametrize(
    ("options", "values", "reasons"),
    [
        ({"chart": "i_mr"}, ["x", {}, 1], ["of: a number; got 'x'"]),
        (
            {"chart": "p", "size": "n"},
            [{"v": 5, "n": 4}, {"v": -1, "n": 4}],
            ["of: a number of 0 to 4", "of: at least 0"],
        ),
        ({"chart": "u", "size": "n"}, [{"v": 5}, {"v": 5, "n": 0}], ["size: a number above 0"] * 2),
    ],
)
def test_a_value_that_cannot_be_is_a_dead_letter(
    options: dict[str, Any], values: list[Any], reasons: list[str]
) -> None:
    harness = harness_of(options, values)
    assert [letter.reason for letter in harness.dead] == reasons
    assert len(harness.out["out"]) == (1 if options["chart"] == "i_mr" else 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chart": "xbar_r"}, "size: a whole number of 2 to 25"),
        ({"chart": "xbar_r", "size": 26}, "size: a whole number of 2 to 25"),
        ({"chart": "xbar_s", "size": "n"}, "size: a whole number of 2 to 25"),
        ({"chart": "i_mr", "size": 2}, "size: not for i_mr"),
        ({"chart": "p"}, "size: the number of units"),
        ({"chart": "i_mr", "limits": {"center": 1}}, "limits.sigma: required for variables"),
        ({"chart": "c", "limits": {"center": 1, "sigma": 1}}, "limits.sigma: not for c"),
        ({"chart": "np", "size": "n", "limits": {"center": 7}}, "limits.center: above 0 and below 1"),
        ({"chart": "c", "spec": {"upper": 1}}, "spec: only for values that are measured"),
        ({"chart": "i_mr", "spec": {"lower": 2, "upper": 1}}, "lower: less than upper"),
        ({"chart": "i_mr", "spec": {}}, "lower, upper or both"),
        ({"chart": "i_mr", "rules": ["western9"]}, "western9"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        flow_of("spc", {"of": "v"} | options)
