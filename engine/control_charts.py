"""Shewhart's control charts: constants, lines, rules and process capability.

Formulas: NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2 (variables), 6.3.3 (attributes) and 6.1.6 (capability);
D. C. Montgomery, Introduction to Statistical Quality Control, chapters 6 to 8. The rules: Western Electric Company,
Statistical Quality Control Handbook (1956); L. S. Nelson, Journal of Quality Technology 16 (1984), 237-239.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from math import copysign, exp, fsum, inf, lgamma, sqrt
from typing import NamedTuple

import msgspec

VARIABLES = ("xbar_r", "xbar_s", "i_mr")
MEANS = ("xbar_r", "xbar_s")
LARGEST_SUBGROUP = 25
LONGEST = 15  # points that a rule looks back on
TINY = 1e-100  # no process varies less
NOISE = 1e-9  # how much of a standard deviation rounding may come to

D2 = (
    1.12838, 1.69257, 2.05875, 2.32593, 2.53441, 2.70436, 2.84720, 2.97003, 3.07751, 3.17287, 3.25846, 3.33598,
    3.40676, 3.47183, 3.53198, 3.58788, 3.64006, 3.68896, 3.73495, 3.77834, 3.81938, 3.85832, 3.89535, 3.93063,
)  # fmt: skip
D3 = (
    0.85250, 0.88837, 0.87981, 0.86408, 0.84804, 0.83321, 0.81983, 0.80783, 0.79705, 0.78731, 0.77848, 0.77042,
    0.76302, 0.75621, 0.74991, 0.74405, 0.73859, 0.73348, 0.72869, 0.72417, 0.71991, 0.71589, 0.71207, 0.70844,
)  # fmt: skip


class Subgroup(msgspec.Struct, array_like=True, gc=False):
    """One sample: its mean (or number of defects), size, range or standard deviation, and squares about the mean."""

    mean: float
    size: float
    spread: float | None = None
    squares: float = 0.0


class Standard(msgspec.Struct, array_like=True, gc=False):
    """What the lines of a chart are drawn from: the center, and for variables one value's standard deviation."""

    center: float
    sigma: float = 0.0


class Lines(NamedTuple):
    """The lines of a chart, and the standard deviation of what it plots."""

    center: float
    lower: float
    upper: float
    sigma: float


def d2(size: int) -> float:
    """Return the mean range of `size` values, in standard deviations of a normal distribution; for 2 to 25."""
    return D2[size - 2]


def d3(size: int) -> float:
    """Return the standard deviation of the range of `size` values, in standard deviations; for 2 to 25."""
    return D3[size - 2]


def c4(size: int) -> float:
    """Return the mean standard deviation of n values: sqrt(2 / (n - 1)) gamma(n / 2) / gamma((n - 1) / 2)."""
    return sqrt(2 / (size - 1)) * exp(lgamma(size / 2) - lgamma((size - 1) / 2))


def subgroup(chart: str, values: Sequence[float]) -> Subgroup:
    """Return the sample that these values are, with its range, or for X-bar/s its standard deviation."""
    mean = fsum(values) / len(values)
    squares = fsum((value - mean) ** 2 for value in values)
    spread = sqrt(squares / (len(values) - 1)) if chart == "xbar_s" else max(values) - min(values)
    return Subgroup(mean, len(values), spread, squares)


def learned(chart: str, samples: Sequence[Subgroup]) -> Standard:
    """Return what the samples say of the process; for p, np and u the center is that of one unit."""
    if chart in VARIABLES:
        return Standard(fsum(one.mean for one in samples) / len(samples), _sigma(chart, samples))
    units = float(len(samples)) if chart == "c" else fsum(one.size for one in samples)
    return Standard(fsum(one.mean for one in samples) / units if units else 0.0)


def _sigma(chart: str, samples: Sequence[Subgroup]) -> float:
    """Return the standard deviation within samples: R-bar / d2, s-bar / c4 or MR-bar / d2(2)."""
    spreads = [one.spread for one in samples if one.spread is not None]
    return fsum(spreads) / len(spreads) / _unit(chart, int(samples[0].size)) if spreads else 0.0


def _unit(chart: str, size: int) -> float:
    return c4(size) if chart == "xbar_s" else d2(size if chart == "xbar_r" else 2)


def lines(chart: str, standard: Standard, size: float) -> Lines:
    """Return the lines for a sample of this size: 3 standard deviations about the center, within what is possible."""
    center, most = standard.center, inf
    if chart in VARIABLES:
        sigma = standard.sigma / sqrt(size)
        return Lines(center, center - 3 * sigma, center + 3 * sigma, sigma)
    if chart in ("p", "np"):
        sigma, most = sqrt(max(0.0, center * (1 - center)) / size), 1.0
    else:
        sigma = sqrt(center) if chart == "c" else sqrt(center / size)
    times = size if chart == "np" else 1.0
    low, high = max(0.0, center - 3 * sigma), min(most, center + 3 * sigma)
    return Lines(center * times, low * times, high * times, sigma * times)


def spread_lines(chart: str, standard: Standard, size: int) -> Lines:
    """Return the lines of the chart of ranges, standard deviations or moving ranges."""
    unit = _unit(chart, size)
    varied = sqrt(1 - unit * unit) if chart == "xbar_s" else d3(size if chart == "xbar_r" else 2)
    center, sigma = unit * standard.sigma, varied * standard.sigma
    return Lines(center, max(0.0, center - 3 * sigma), center + 3 * sigma, sigma)


def score(value: float, line: Lines) -> float:
    """Return how many standard deviations a point lies from the center."""
    away = value - line.center
    if line.sigma:
        return away / line.sigma
    return copysign(inf, away) if away else 0.0


def outside(value: float, line: Lines) -> bool:
    """Tell if a point lies beyond the lines."""
    return abs(score(value, line)) > 3 + NOISE


def _beyond(zs: Sequence[float], many: int, of: int, sigmas: float) -> bool:
    """Tell if the last point and, with it, `many` of the last `of` lie beyond on the same side."""
    side = copysign(1, zs[-1])
    held = [side * z > sigmas + NOISE for z in zs[-of:]]
    return held[-1] and sum(held) >= many


def _rises(zs: Sequence[float], of: int) -> bool:
    last = zs[-of:]
    ups = [b - a for a, b in pairwise(last) if a != b]
    return len(ups) == of - 1 and (min(ups) > 0 or max(ups) < 0)


def _alternates(zs: Sequence[float], of: int) -> bool:
    last = zs[-of:]
    ups = [b > a for a, b in pairwise(last) if a != b]
    return len(ups) == of - 1 and all(a != b for a, b in pairwise(ups))


RULES: dict[str, Callable[[Sequence[float]], bool]] = {
    "western1": lambda zs: _beyond(zs, 1, 1, 3),
    "western2": lambda zs: _beyond(zs, 2, 3, 2),
    "western3": lambda zs: _beyond(zs, 4, 5, 1),
    "western4": lambda zs: _beyond(zs, 8, 8, 0),
    "nelson3": lambda zs: _rises(zs, 6),
    "nelson4": lambda zs: _alternates(zs, 14),
    "nelson7": lambda zs: len(zs) >= 15 and all(abs(z) < 1 for z in zs[-15:]),
    "nelson8": lambda zs: len(zs) >= 8 and all(abs(z) > 1 + NOISE for z in zs[-8:]),
}


def violated(rules: Iterable[str], zs: Sequence[float]) -> list[str]:
    """Return the rules that the last point breaks; `zs` are the latest points, in standard deviations, in order."""
    return [rule for rule in rules if RULES[rule](zs)]


def capability(
    chart: str, samples: Sequence[Subgroup], lower: float | None, upper: float | None
) -> dict[str, float | None]:
    """Return Cp and Cpk by the standard deviation within samples, Pp and Ppk by that of all values."""
    count = fsum(one.size for one in samples)
    mean = fsum(one.mean * one.size for one in samples) / count
    squares = fsum(one.squares + one.size * (one.mean - mean) ** 2 for one in samples)
    overall = sqrt(squares / (count - 1)) if count > 1 else 0.0
    return _indices("cp", mean, _sigma(chart, samples), lower, upper) | _indices("pp", mean, overall, lower, upper)


def _indices(name: str, mean: float, sigma: float, lower: float | None, upper: float | None) -> dict[str, float | None]:
    if sigma < TINY:
        return {name: None, f"{name}k": None}
    sides = [upper - mean] if upper is not None else []
    sides += [mean - lower] if lower is not None else []
    both = (upper - lower) / (6 * sigma) if upper is not None and lower is not None else None
    return {name: both, f"{name}k": min(sides) / (3 * sigma)}
