"""The series that the plots of the reference are made from, each by a function and with a seed."""

from itertools import pairwise
from math import pi, sin
from random import Random
from typing import Any

Given = list[dict[str, Any]]


def series(field: str, values: list[float], every: float = 1.0, digits: int = 2) -> Given:
    """Return events with the values of a field, one each `every` seconds."""
    return [{"at": f"{at * every:g}s", field: round(value, digits)} for at, value in enumerate(values)]


def noises(seed: int, count: int, width: float) -> list[float]:
    """Return numbers around 0, the same for the same seed."""
    random = Random(seed)  # noqa: S311  # the same picture each time is what is wanted
    return [sum(random.uniform(-width, width) for _ in range(3)) / 1.5 for _ in range(count)]


def waves() -> Given:
    """Return a slow wave of a minute."""
    noise = noises(1, 60, 0.8)
    return series("t", [21 + 4 * sin(2 * pi * at / 45) + noise[at] for at in range(60)])


def sessions() -> Given:
    """Return three bursts."""
    random = Random(4)  # noqa: S311  # as above
    begins = ((0, 8), (22, 5), (44, 9))
    times = [begin + at * 1.5 + random.uniform(0, 1) for begin, count in begins for at in range(count)]
    return [{"at": f"{time:.1f}s", "n": 1} for time in times]


def heat() -> Given:
    """Return a temperature that is too high for a moment, and later for long."""
    path = [(0, 33), (20, 36), (30, 40), (42, 36), (60, 39.5), (110, 41), (130, 36.5), (150, 36), (160, 33), (180, 32)]
    noise = noises(2, 91, 0.25)
    values = []
    for at in range(91):
        second = at * 2
        (x0, y0), (x1, y1) = next((a, b) for a, b in pairwise(path) if a[0] <= second <= b[0])
        values.append(y0 + (y1 - y0) * (second - x0) / (x1 - x0) + noise[at])
    return series("t", values, every=2)


def loads() -> Given:
    """Return a load that rises over two levels and falls."""
    values = [50, 64, 66, 68, 70, 83, 85, 86, 84, 72, 66, 64, 62, 50, 48, 47]
    return series("load", [float(value) for value in values], every=10)


def parts() -> Given:
    """Return lengths of parts that shift near the end."""
    noise = noises(7, 120, 0.1)
    return series("mm", [10 + noise[at] + (0.16 if at >= 80 else 0) for at in range(120)], digits=3)


def bearing() -> Given:
    """Return a temperature that begins to rise."""
    noise = noises(3, 73, 0.9)
    return series("celsius", [60 + max(0, at - 24) * 0.42 + noise[at] for at in range(73)], every=10)


def pressures() -> Given:
    """Return a slow wave with four values far off it."""
    noise = noises(5, 100, 0.12)
    values = [4.5 + 0.3 * sin(2 * pi * at / 80) + noise[at] for at in range(100)]
    for at, jump in ((38, 1.3), (63, -1.1), (64, -1.2), (85, 1.0)):
        values[at] += jump
    return series("bar", values)


def levels_of_a_tank() -> Given:
    """Return how full a tank is that is filled, emptied and filled."""
    noise = noises(6, 100, 0.05)
    shape = [min(at, 30) * 0.1 - max(0, min(at - 45, 20)) * 0.14 + max(0, at - 75) * 0.08 for at in range(100)]
    return series("level", [2 + shape[at] + noise[at] for at in range(100)])
