"""What a window computes: how a value is added, how two stretches are put together, and what comes out.

A measure keeps a plain value for each window (its slot, None before the first value), which MessagePack carries. A slot
is changed by `add` only; `merge` makes a new one, of an earlier and a later stretch.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from engine.errors import EventFault
from engine.event import Event
from engine.expression_check import Type
from engine.expressions import Expression

LARGEST = 1 << 63


class Measure:
    """One computed value. `options` are what it takes beside its expression; all of them must be given."""

    options: ClassVar[tuple[str, ...]] = ()
    alone: ClassVar[bool] = False
    """It may stand without an expression."""
    ordered: ClassVar[bool] = False
    """It matters which value was first."""
    simple: ClassVar[bool] = False
    """A loop over many events has it in place."""
    gives: ClassVar[Type] = Type("float", null=True)

    def __init__(self, name: str, does: str, of: Expression | None, timed: bool = False, **options: Any) -> None:
        self.name, self.does, self.of, self.timed = name, does, of, timed and self.ordered
        self.set(**options)

    def set(self) -> None:
        """Take the options; raise ValueError, which says what is expected."""

    def prepare(self, value: Any) -> Any:
        """Return what is added for a value that is not none; raise EventFault for one that cannot be."""
        return self.number(value)

    def number(self, value: Any) -> Any:
        """Return a value that is a number of at most 64 bits; raise EventFault for others."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise EventFault(f"compute.{self.name}: a number; got {value!r}"[:200], {self.name: value})
        if abs(value) >= LARGEST and isinstance(value, int):
            raise EventFault(f"compute.{self.name}: a number of at most 64 bits", {self.name: str(value)[:40]})
        return value

    def finite(self, value: Any) -> Any:
        """Return a value that is a finite number; raise EventFault for others."""
        if not math.isfinite(self.number(value)):
            raise EventFault(f"compute.{self.name}: a finite number; got {value!r}", {self.name: str(value)})
        return value

    def add(self, kept: Any, value: Any, time: int) -> Any:
        """Return the slot with a prepared value of an event of that time."""
        raise NotImplementedError

    def merge(self, early: Any, late: Any) -> Any:
        """Return the slot of two stretches; neither is None."""
        raise NotImplementedError

    def result(self, kept: Any, count: int, length: int) -> Any:
        """Return what comes out for a slot, of a window with so many events and so many microseconds."""
        return kept


class Measures:
    """All that a window computes. What is kept of a window begins [number of events, a slot for each measure]."""

    def __init__(self, measures: Sequence[Measure]) -> None:
        self.all = tuple(measures)
        self.width = len(self.all) + 1

    def new(self) -> list[Any]:
        """Return what is kept of a window without events."""
        return [0, *[None] * len(self.all)]

    def values(self, event: Event) -> list[Any]:
        """Return what an event adds; raise EventFault where it cannot."""
        found = [None if m.of is None else m.of(event) for m in self.all]
        return [None if value is None else m.prepare(value) for m, value in zip(self.all, found, strict=True)]

    def add(self, kept: list[Any], values: Sequence[Any], time: int) -> None:
        """Add an event."""
        kept[0] += 1
        for index, (measure, value) in enumerate(zip(self.all, values, strict=True), 1):
            if value is not None:
                kept[index] = measure.add(kept[index], value, time)

    def merged(self, stretches: Sequence[list[Any]]) -> list[Any]:
        """Return what is kept of all these stretches, in order of time."""
        if len(stretches) == 1:
            return stretches[0][: self.width]
        found = self.new()
        for kept in stretches:
            found[0] += kept[0]
            for index, measure in enumerate(self.all, 1):
                slot = kept[index]
                if slot is not None:
                    found[index] = slot if found[index] is None else measure.merge(found[index], slot)
        return found

    def results(self, kept: Sequence[Any], length: int) -> dict[str, Any]:
        """Return what comes out by name; `length` is the window's in microseconds."""
        count = kept[0]
        return {m.name: m.result(slot, count, length) for m, slot in zip(self.all, kept[1:], strict=False)}
