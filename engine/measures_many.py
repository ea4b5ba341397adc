"""What a window computes that has to keep many values: exact up to a bound, within a stated error beyond it."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar

import msgspec

from engine import sketches
from engine.errors import EventFault, did_you_mean
from engine.expressions import Expression
from engine.measure import Measure
from engine.measures import ANYTHING, LIST, PLAIN, WHOLE

MOST = 1000
"""How many values, or different values, a window keeps for a measure; beyond them it goes on with a sketch."""
LONGEST = 1000


class Percentile(Measure):
    """The slot is a list of values, then a sketch of quantiles."""

    options: ClassVar[tuple[str, ...]] = ("at",)
    part = 0.5

    def set(self, at: Any = None) -> None:
        """Take the percent."""
        percent = literal(at)
        if percent is None or not 0 <= percent <= 100:
            raise ValueError("at: a number from 0 to 100")
        self.part = percent / 100

    def prepare(self, value: Any) -> Any:
        return float(self.finite(value))

    def add(self, kept: Any, value: Any, time: int) -> Any:
        if kept.__class__ is not dict:
            if kept is None:
                return [value]
            if len(kept) < MOST:
                kept.append(value)
                return kept
            kept = _sketched(kept)
        sketches.add_quantile(kept, value)
        return kept

    def merge(self, early: Any, late: Any) -> Any:
        if early.__class__ is not dict and late.__class__ is not dict and len(early) + len(late) <= MOST:
            return early + late
        return sketches.merged_quantiles(_sketched(early), _sketched(late))

    def result(self, kept: Any, count: int, length: int) -> Any:
        if kept is None or kept.__class__ is dict:
            return kept and sketches.sketched_quantile(kept, self.part)
        values, place = sorted(kept), self.part * (len(kept) - 1)
        low, high = values[math.floor(place)], values[math.ceil(place)]
        return low + (high - low) * (place - math.floor(place))


class Median(Percentile):
    """The percentile at 50."""

    options: ClassVar[tuple[str, ...]] = ()

    def set(self, at: Any = None) -> None:
        """Take nothing."""


def _sketched(kept: Any) -> Any:
    if kept.__class__ is dict:
        return kept
    sketch = sketches.quantile_sketch()
    for value in kept:
        sketches.add_quantile(sketch, value)
    return sketch


class Distinct(Measure):
    """The slot is a dict of the values' hashes, then the registers of a HyperLogLog."""

    gives = WHOLE

    def prepare(self, value: Any) -> Any:
        return sketches.hashed(self.text(value).encode())

    def text(self, value: Any) -> str:
        """Return a value as JSON: 1 and 1.0 are one, 1 and "1" are two."""
        if value.__class__ is float and value.is_integer() and abs(value) < 1 << 53:
            value = int(value)
        try:
            return msgspec.json.encode(value, order="deterministic").decode()
        except (OverflowError, TypeError, ValueError, RecursionError):
            said = f"compute.{self.name}: a value that JSON can hold; got {value!r}"
            raise EventFault(said[:200], {self.name: repr(value)[:40]}) from None

    def add(self, kept: Any, value: Any, time: int) -> Any:
        if kept.__class__ is dict or kept is None:
            kept = kept or {}
            kept[value] = None
            return kept if len(kept) <= MOST else sketches.distinct_sketch(kept)
        registers = bytearray(kept) if kept.__class__ is bytes else kept
        sketches.add_distinct(registers, value)
        return registers

    def merge(self, early: Any, late: Any) -> Any:
        if early.__class__ is dict and late.__class__ is dict:
            both = early | late
            return both if len(both) <= MOST else sketches.distinct_sketch(both)
        return sketches.merged_distinct(_registers(early), _registers(late))

    def result(self, kept: Any, count: int, length: int) -> Any:
        return len(kept or ()) if kept is None or kept.__class__ is dict else sketches.distinct_count(kept)


def _registers(kept: Any) -> bytes | bytearray:
    return sketches.distinct_sketch(kept) if kept.__class__ is dict else kept


class Top(Distinct):
    """The slot is a dict of the values as JSON and how often each came."""

    options: ClassVar[tuple[str, ...]] = ("most",)
    gives = LIST
    most = 1

    def set(self, most: Any = None) -> None:
        """Take how many values come out."""
        number = literal(most)
        if number is None or number != int(number) or not 1 <= number <= MOST:
            raise ValueError(f"most: a whole number from 1 to {MOST}")
        self.most = int(number)

    def prepare(self, value: Any) -> Any:
        text = self.text(value)
        if len(text) > LONGEST:
            raise EventFault(f"compute.{self.name}: a value of at most {LONGEST} characters", {self.name: text[:40]})
        return text

    def add(self, kept: Any, value: Any, time: int) -> Any:
        kept = kept or {}
        sketches.add_frequent(kept, value, MOST)
        return kept

    def merge(self, early: Any, late: Any) -> Any:
        return sketches.merged_frequent(early, late, MOST)

    def ranked(self, kept: Any) -> list[tuple[str, int]]:
        """Return the most frequent values as JSON; of equally frequent ones the first in order of text."""
        return sorted((kept or {}).items(), key=lambda item: (-item[1], item[0]))[: self.most]

    def result(self, kept: Any, count: int, length: int) -> Any:
        return [{"value": msgspec.json.decode(text), "count": number} for text, number in self.ranked(kept)]


class Mode(Top):
    """The most frequent value."""

    options: ClassVar[tuple[str, ...]] = ()
    gives = ANYTHING

    def set(self, most: Any = None) -> None:
        """Take nothing."""

    def result(self, kept: Any, count: int, length: int) -> Any:
        return next((msgspec.json.decode(text) for text, _ in self.ranked(kept)), None)


class Histogram(Measure):
    """The slot is a list of counts: below the first edge, from each edge up to the next, from the last edge on."""

    options = ("edges",)
    gives = LIST
    edges: tuple[float, ...] = ()

    def set(self, edges: Any = None) -> None:
        """Take the edges."""
        found = tuple(edges) if isinstance(edges, list) else ()
        if not 1 <= len(found) <= MOST or any(a >= b for a, b in pairwise(found)):
            raise ValueError(f"edges: a list of 1 to {MOST} numbers, each greater than the one before")
        self.edges = found

    def prepare(self, value: Any) -> Any:
        return bisect_right(self.edges, self.finite(value))

    def add(self, kept: Any, value: Any, time: int) -> Any:
        kept = kept or [0] * (len(self.edges) + 1)
        kept[value] += 1
        return kept

    def merge(self, early: Any, late: Any) -> Any:
        return [a + b for a, b in zip(early, late, strict=True)]

    def result(self, kept: Any, count: int, length: int) -> Any:
        return [*kept] if kept else [0] * (len(self.edges) + 1)


MEASURES: dict[str, type[Measure]] = PLAIN | {
    "percentile": Percentile, "median": Median, "distinct": Distinct, "mode": Mode, "top": Top, "histogram": Histogram,
}  # fmt: skip


def literal(given: Any) -> float | None:
    """Return the number that an option is, or None."""
    try:
        return float(given.text)
    except (AttributeError, ValueError):
        return None


def measure(name: str, given: str | Mapping[str, Any], timed: bool = False) -> Measure:
    """Return the measure that a flow gives: its name alone, or {name: expression, option: value}.

    `timed`: the events' own time says which came first. Raises ValueError, whose text says what is expected.
    """
    spec = {given: None} if isinstance(given, str) else dict(given)
    does = next((word for word in spec if word in MEASURES), "")
    if not does:
        wrong = next(iter(spec), "")
        hint = f" ({found})" if (found := did_you_mean(wrong, MEASURES)) else ""
        raise ValueError(f"{name}: one of {', '.join(MEASURES)}; got '{wrong}'{hint}")
    cls, of = MEASURES[does], spec.pop(does)
    if not isinstance(of, Expression) and not (of is None and cls.alone):
        raise ValueError(f"{name}: {does} with an expression")
    if spec.keys() != set(cls.options):
        wanted = f"{does} with {' and '.join(cls.options)}" if cls.options else f"{does} alone"
        raise ValueError(f"{name}: {wanted}; got {', '.join(spec) or 'nothing'} beside it")
    try:
        return cls(name, does, of, timed, **spec)
    except ValueError as fault:
        raise ValueError(f"{name}.{fault}") from None
