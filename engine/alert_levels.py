"""The levels of an alert, and what a reading says of each: whether its condition holds, and whether its end does."""

import re
from collections.abc import Iterable, Sequence

from pydantic import BaseModel, ConfigDict, Field, model_validator

from engine.alert_machine import Judged, Rule
from engine.errors import EventFault
from engine.event import MICROSECONDS, Event
from engine.expressions import Expression
from engine.field_docs import wanted
from engine.quantities import Duration

MOST_SECONDS = 10 * 365 * 86_400
NONE_IS_MEANT = frozenset({"exists", "coalesce", "if_none", "default"})


class Level(BaseModel):
    """One level of severity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=wanted(), arbitrary_types_allowed=True
    )

    level: str = Field(min_length=1, max_length=40)
    """What it is called, such as `warning`."""
    when: Expression | None = None
    """The condition that begins it."""
    absent: Duration | None = Field(None, gt=0)
    """Instead of `when`: how long nothing must come."""
    for_: Duration | None = Field(None, alias="for")
    """How long the condition must hold; default: that of the alert."""
    clear_when: Expression | None = None
    """The condition that ends it; default: `when` does not hold."""

    @model_validator(mode="after")
    def _one_condition(self) -> "Level":
        if (self.when is None) == (self.absent is None):
            raise ValueError("when: either when or absent")
        if self.absent is not None and (self.clear_when is not None or self.for_ is not None):
            raise ValueError("absent: alone; it ends when something comes")
        return self


class Conditions:
    """The conditions of all levels, ready to judge readings."""

    def __init__(self, levels: Sequence[Level]) -> None:
        self._parts = [(_part(one.when), _part(one.clear_when)) for one in levels]
        used = (one.fields for pair in self._parts for one in pair if one is not None)
        self.fields = sorted({field for fields in used for field in fields})

    def judge(self, event: Event) -> list[Judged]:
        """Return what a reading says of each level; raises what an expression raises."""
        found: list[Judged] = []
        for when, clear_when in self._parts:
            holds = None if when is None else when.holds(event)
            if clear_when is not None:
                found.append((holds, clear_when.holds(event)))
            else:
                found.append((holds, None if holds is None else not holds))
        return found


class _Part:
    """One condition, with the fields without which it says nothing."""

    def __init__(self, expression: Expression) -> None:
        self._expression = expression
        self.fields = expression.fields
        self._needed: Iterable[str] = () if _means_none(expression) else tuple(expression.fields)

    def holds(self, event: Event) -> bool | None:
        data = event.data
        for field in self._needed:
            if data.get(field) is None:
                return None
        return bool(self._expression(event))


def _part(expression: Expression | None) -> _Part | None:
    return None if expression is None else _Part(expression)


def _means_none(expression: Expression) -> bool:
    """Tell whether a condition says itself what holds for a field that is not there."""
    return bool(expression.functions & NONE_IS_MEANT or re.search(r"\bnone\b", expression.text))


def waited(seconds: Expression | None, event: Event) -> int:
    """Return how many microseconds a condition must hold; -1: the reading does not say."""
    value = None if seconds is None else seconds(event)
    if value is None:
        return -1
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST_SECONDS:
        raise EventFault(f"for_seconds: a number of 0 to {MOST_SECONDS}; got {value!r}"[:200])
    return round(value * MICROSECONDS)


def rules(levels: Sequence[Level], wait: int, *, varies: bool) -> list[Rule]:
    """Return the rules of levels; `wait` is for those that do not say how long, which may vary."""
    return [
        Rule(one.level, one.absent, silence=True)
        if one.absent
        else Rule(one.level, wait if one.for_ is None else one.for_, varies=varies and one.for_ is None)
        for one in levels
    ]
