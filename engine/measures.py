"""The measures of a window whose slot is a few numbers, or a value."""

import math
from typing import Any, ClassVar

from engine.expression_check import Type
from engine.measure import LARGEST, Measure

FLOAT, NUMBER = Type("float", null=True), Type("number", null=True)
WHOLE, ANYTHING, LIST = Type("number"), Type("any", null=True), Type("list")


class Count(Measure):
    """How many events, or values that are not none."""

    alone, simple, gives = True, True, WHOLE

    def prepare(self, value: Any) -> Any:
        return 1

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return (kept or 0) + 1

    def merge(self, early: Any, late: Any) -> Any:
        return early + late

    def result(self, kept: Any, count: int, length: int) -> Any:
        return count if self.of is None else kept or 0


class Sum(Measure):
    """What grows beyond 64 bits goes on as a floating-point number."""

    simple, gives = True, NUMBER

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return value if kept is None else total(kept, value)

    def merge(self, early: Any, late: Any) -> Any:
        return total(early, late)


class Rate(Sum):
    """Events, or value, a second of the window."""

    alone, simple, gives = True, False, FLOAT

    def prepare(self, value: Any) -> Any:
        return self.finite(value)

    def result(self, kept: Any, count: int, length: int) -> Any:
        found = count if self.of is None else kept
        return None if found is None or length <= 0 else found * 1_000_000 / length


class Mean(Measure):
    """The arithmetic mean."""

    simple = True

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return [total(kept[0], value), kept[1] + 1] if kept else [value, 1]

    def merge(self, early: Any, late: Any) -> Any:
        return [total(early[0], late[0]), early[1] + late[1]]

    def result(self, kept: Any, count: int, length: int) -> Any:
        return kept[0] / kept[1] if kept else kept


class Least(Measure):
    """The smallest value."""

    simple, gives = True, NUMBER

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return value if kept is None else min(kept, value)

    def merge(self, early: Any, late: Any) -> Any:
        return min(early, late)


class Greatest(Measure):
    """The greatest value."""

    simple, gives = True, NUMBER

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return value if kept is None else max(kept, value)

    def merge(self, early: Any, late: Any) -> Any:
        return max(early, late)


class Range(Measure):
    """The greatest less the smallest value."""

    gives = NUMBER

    def prepare(self, value: Any) -> Any:
        return self.finite(value)

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return [min(kept[0], value), max(kept[1], value)] if kept else [value, value]

    def merge(self, early: Any, late: Any) -> Any:
        return [min(early[0], late[0]), max(early[1], late[1])]

    def result(self, kept: Any, count: int, length: int) -> Any:
        return kept and total(kept[1], -kept[0])


class Spread(Measure):
    """Variance and standard deviation: [n, mean, sum of squares about it], by Welford; merged by Chan and others."""

    root: ClassVar[bool] = False
    sample: ClassVar[bool] = True

    def prepare(self, value: Any) -> Any:
        return self.finite(value)

    def add(self, kept: Any, value: Any, time: int) -> Any:
        n, mean, squares = kept or (0, 0.0, 0.0)
        off = value - mean
        mean += off / (n + 1)
        return [n + 1, mean, squares + off * (value - mean)]

    def merge(self, early: Any, late: Any) -> Any:
        (n, mean, squares), (m, other, more) = early, late
        off, both = other - mean, n + m
        return [both, mean + off * m / both, squares + more + off * off * n * m / both]

    def result(self, kept: Any, count: int, length: int) -> Any:
        if not kept or kept[0] <= self.sample:
            return None
        found = kept[2] / (kept[0] - self.sample)
        return math.sqrt(found) if self.root else found


class Deviation(Spread):
    """The square root of the variance."""

    root = True


class PopulationSpread(Spread):
    """Divided by n, not by n - 1."""

    sample = False


class PopulationDeviation(Deviation):
    """The square root of the population's variance."""

    sample = False


AT = "@"
"""How a slot begins that has the time of its value, ["@", time, value]; older snapshots have the value alone."""


def when(kept: Any, otherwise: int) -> int:
    """Return the time of a slot."""
    return kept[1] if kept.__class__ is list and len(kept) == 3 and kept[0] == AT else otherwise


def what(kept: Any) -> Any:
    """Return the value of a slot."""
    return kept[2] if kept.__class__ is list and len(kept) == 3 and kept[0] == AT else kept


class First(Measure):
    """The value of the earliest event: by its own time where that counts, as it came otherwise."""

    ordered, simple, gives = True, True, ANYTHING

    def prepare(self, value: Any) -> Any:
        return value

    def add(self, kept: Any, value: Any, time: int) -> Any:
        if not self.timed:
            return value if kept is None else kept
        return [AT, time, value] if kept is None or time < when(kept, -LARGEST) else kept

    def merge(self, early: Any, late: Any) -> Any:
        return late if self.timed and when(late, -LARGEST) < when(early, -LARGEST) else early

    def result(self, kept: Any, count: int, length: int) -> Any:
        return what(kept)


class Last(First):
    """The value of the latest event."""

    def add(self, kept: Any, value: Any, time: int) -> Any:
        if not self.timed:
            return value
        return [AT, time, value] if kept is None or time >= when(kept, -LARGEST) else kept

    def merge(self, early: Any, late: Any) -> Any:
        return early if self.timed and when(early, -LARGEST) > when(late, -LARGEST) else late


class Delta(Measure):
    """The latest value less the earliest: [time, value, time, value]."""

    ordered, gives = True, NUMBER

    def prepare(self, value: Any) -> Any:
        return self.finite(value)

    def add(self, kept: Any, value: Any, time: int) -> Any:
        return self.merge(kept, [time, value, time, value]) if kept else [time, value, time, value]

    def merge(self, early: Any, late: Any) -> Any:
        if not self.timed:
            return early[:2] + late[2:]
        first = late if late[0] < early[0] else early
        last = early if early[2] > late[2] else late
        return first[:2] + last[2:]

    def result(self, kept: Any, count: int, length: int) -> Any:
        return kept and total(kept[3], -kept[1])


def total(one: Any, other: Any) -> Any:
    """Add; what grows beyond 64 bits goes on as a floating-point number."""
    found = one + other
    return float(found) if abs(found) >= LARGEST else found


PLAIN: dict[str, type[Measure]] = {
    "count": Count, "sum": Sum, "mean": Mean, "min": Least, "max": Greatest, "range": Range, "first": First,
    "last": Last, "delta": Delta, "rate": Rate, "variance": Spread, "variance_population": PopulationSpread,
    "stddev": Deviation, "stddev_population": PopulationDeviation,
}  # fmt: skip
"""Those whose slot is a few numbers."""
