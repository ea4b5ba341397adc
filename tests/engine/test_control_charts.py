"""Control charts: the constants against integrals and published tables, the rules on made-up points."""

from collections.abc import Sequence
from math import erf, inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import control_charts
from engine.control_charts import RULES, Standard, Subgroup, c4, capability, d2, d3, lines, spread_lines, violated

MONTGOMERY = {  # n: A2, A3, B3, B4, d2, c4, D3, D4 in Introduction to Statistical Quality Control, Appendix VI
    2: (1.880, 2.659, 0.0, 3.267, 1.128, 0.7979, 0.0, 3.267),
    3: (1.023, 1.954, 0.0, 2.568, 1.693, 0.8862, 0.0, 2.575),
    5: (0.577, 1.427, 0.0, 2.089, 2.326, 0.9400, 0.0, 2.115),
    7: (0.419, 1.182, 0.118, 1.882, 2.704, 0.9594, 0.076, 1.924),
    10: (0.308, 0.975, 0.284, 1.716, 3.078, 0.9727, 0.223, 1.777),
    25: (0.153, 0.606, 0.565, 1.435, 3.931, 0.9896, 0.459, 1.541),
}


@pytest.mark.parametrize("size", range(2, 26))
def test_constants_are_the_integrals_that_define_them(size: int) -> None:
    """The mean of the range of n normal values is the integral of 1 - F^n - (1-F)^n; its square's has F(v) - F(u)."""
    at, weights = np.polynomial.legendre.leggauss(160)
    at, weights = 8 * at, 8 * weights
    below = np.array([0.5 * (1 + erf(x / sqrt(2))) for x in at])
    assert d2(size) == pytest.approx(weights @ (1 - below**size - (1 - below) ** size), abs=6e-6)
    unit, unit_weights = np.polynomial.legendre.leggauss(80)
    square = 0.0
    for u, weight, low in zip(at, weights, below, strict=True):
        half = (8 - u) / 2
        high = np.array([0.5 * (1 + erf(x / sqrt(2))) for x in u + half * (unit + 1)])
        inner = 1 - high**size - (1 - low) ** size + (high - low) ** size
        square += 2 * weight * half * float(unit_weights @ inner)
    mean = float(weights @ (1 - below**size - (1 - below) ** size))
    assert d3(size) == pytest.approx(sqrt(square - mean * mean), abs=1e-5)


def test_the_mean_deviation_is_that_of_the_chi_distribution() -> None:
    """c4 sqrt(n - 1) is the mean of a chi distribution; here by numpy's quadrature over its density."""
    at, weights = np.polynomial.legendre.leggauss(200)
    at, weights = 10 * (at + 1), 10 * weights
    for size in range(2, 26):
        density = at ** (size - 2) * np.exp(-at * at / 2)
        mean = float(weights @ (at * density)) / float(weights @ density)
        assert c4(size) == pytest.approx(mean / sqrt(size - 1), abs=1e-9)


@pytest.mark.parametrize(("size", "factors"), MONTGOMERY.items())
def test_the_lines_are_those_of_the_published_factors(size: int, factors: Sequence[float]) -> None:
    by_range = [Subgroup(0.0, size, 1.0)] * 3
    ranges, deviations = (control_charts.learned(chart, by_range) for chart in ("xbar_r", "xbar_s"))
    range_lines, deviation_lines = spread_lines("xbar_r", ranges, size), spread_lines("xbar_s", deviations, size)
    found = (
        lines("xbar_r", ranges, size).upper,
        lines("xbar_s", deviations, size).upper,
        deviation_lines.lower,
        deviation_lines.upper,
        d2(size),
        c4(size),
        range_lines.lower,
        range_lines.upper,
    )
    assert found == pytest.approx(factors, abs=6e-4)
    assert (range_lines.center, deviation_lines.center) == pytest.approx((1, 1))


def test_single_values_have_the_factors_of_two() -> None:
    """E2 = 2.660, which is 3 / 1.128, and D4 = 3.267 (Montgomery)."""
    standard = control_charts.learned("i_mr", [Subgroup(5.0, 1), *[Subgroup(5.0, 1, 1.0)] * 4])
    assert lines("i_mr", standard, 1).upper - 5 == pytest.approx(2.660, abs=2e-3)
    assert spread_lines("i_mr", standard, 1).upper == pytest.approx(3.267, abs=1e-3)


@pytest.mark.parametrize(
    ("rule", "breaks", "keeps"),
    [
        ("western1", [3.1], [3.0]),
        ("western1", [-3.1], [-2.9]),
        ("western2", [2.1, 0, 2.1], [2.1, 2.1, 0]),
        ("western2", [-2.1, -2.1], [2.1, 0, -2.1]),
        ("western2", [2.1, 0, 2.1], [2.1, 0, 0, 2.1]),
        ("western3", [1.1, 1.1, 0, 1.1, 1.1], [1.1, 1.1, 1.1, 1.1, 0.9]),
        ("western3", [1.1] * 4, [1.1, 0, 0, 1.1, 1.1, 1.1]),
        ("western3", [-1.1] * 4, [1.1, 1.1, -1.1, 1.1, 0.5]),
        ("western4", [0.1] * 8, [0.1] * 7),
        ("western4", [-0.1] * 8, [0.0, *[0.1] * 7]),
        ("nelson3", [0, 1, 2, 3, 4, 5], [1, 1, 2, 3, 4, 5]),
        ("nelson3", [5, 4, 3, 2, 1, 0], [5, 4, 3, 2, 1]),
        ("nelson4", [0, 1] * 7, [1, *[0, 1] * 6]),
        ("nelson4", [1, 0] * 7, [1, 0, 0, *[1, 0] * 6]),
        ("nelson7", [0.9, -0.9, 0.0] * 5, [1.0, *[0.5] * 14]),
        ("nelson8", [1.1, -1.1] * 4, [1.1, -1.1, 1.1, -0.9, 1.1, -1.1, 1.1, -1.1]),
        ("western1", [inf], [0.0]),
    ],
)
def test_a_rule_is_broken_by_the_point_that_completes_its_pattern(
    rule: str, breaks: list[float], keeps: list[float]
) -> None:
    assert violated([rule], breaks) == [rule]
    assert violated([rule], breaks[:-1] or [0.0]) == []
    assert violated([rule], keeps) == []


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=40))
def test_a_rule_looks_no_farther_back_than_is_kept(points: list[float]) -> None:
    assert violated(RULES, points) == violated(RULES, points[-control_charts.LONGEST :])


@given(st.lists(st.floats(-4, 4).map(lambda z: round(z, 3)), min_size=1, max_size=20))
def test_a_rule_is_the_same_on_both_sides(points: list[float]) -> None:
    assert violated(RULES, points) == violated(RULES, [-z for z in points])


def test_what_does_not_vary_has_no_capability() -> None:
    samples = [Subgroup(5.0, 2, 0.0), Subgroup(5.0, 2, 0.0)]
    assert capability("xbar_r", samples, 4, 6) == {"cp": None, "cpk": None, "pp": None, "ppk": None}


def test_one_limit_alone_has_no_cp() -> None:
    found = capability("i_mr", [Subgroup(0.0, 1), Subgroup(1.128379, 1, 1.128379)], None, 3)
    assert found["cp"] is None
    assert found["cpk"] == pytest.approx((3 - 1.128379 / 2) / 3, rel=1e-5)


def test_shares_stay_between_none_and_all() -> None:
    assert lines("p", Standard(0.95), 5)[1:3] == pytest.approx((0.95 - 3 * sqrt(0.0095), 1.0))
    assert lines("np", Standard(0.05), 5)[:2] == pytest.approx((0.25, 0.0))
    assert lines("c", Standard(4.0), 1).lower == 0.0
