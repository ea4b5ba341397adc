"""`pareto`: which few categories make up the most."""

from collections.abc import Mapping
from typing import Any

import msgspec
from pydantic import Field

from engine.api import (
    Duration,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Stateful,
    Type,
    component,
    derived_id,
    measured,
    moment,
    whole,
)

TYPES = {
    "key": "text", "start": "time", "end": "time", "total": "number", "categories": "list", "vital": "list",
    "others": "number",
}  # fmt: skip
NOISE = 1e-12
LONGEST = 200  # characters of a category


class Counted(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: since when, until when, what was counted by category, and that of further categories."""

    start: int
    end: int
    counts: dict[str, float]
    beyond: float = 0
    changed: bool = True


@component("pareto")
class Pareto(Stateful[Counted]):
    """Count, or sum, by category and rank the categories: which few of them make up the most (Pareto chart).

    One event at each end of `every` (a multiple of it since 1970, in arrival time), where something came: `key`,
    `start`, `end`, `total`, `categories`, a list in falling order of {category, value, share, cumulative, vital},
    `vital`, the names of the vital few, and `others`, how many categories stand together as the last, `other`. `share`
    is value / total and `cumulative` the sum of the shares so far (0..1). A category is vital while those before it
    make up less than `share`. What is equal stands in the order of the names.

    Source: J. M. Juran, Quality Control Handbook; H. Kume, Statistical Methods for Quality Improvement, chapter 3.
    """

    of: Expression
    """The category, text or a number."""
    sum: Expression | None = None
    """What is summed, a number of at least 0; default: each event counts 1."""
    every: Duration = Field(gt=0)
    """The time that one ranking is of."""
    running: bool = False
    """It goes on counting: each ranking is of all since the first event."""
    most: int = Field(10, ge=1, le=1000)
    """How many categories are listed; the rest stands together as `other`."""
    held: int = Field(1000, ge=1, le=100_000)
    """How many categories are counted by themselves; what comes of further ones is counted in `other` at once."""
    share: float = Field(0.8, gt=0, le=1)
    """The share that the vital few make up."""
    other: str = "other"
    """What the rest is called."""

    state_type = Counted
    state_free = frozenset({"every", "most", "held", "share", "other"})
    makes = frozenset({""})
    examples = (
        Example(
            about="The defects of a minute.",
            config="pareto: {of: defect, every: 1m}",
            given=[{"defect": "scratch"}, {"defect": "dent"}, {"defect": "scratch"}, {"defect": "scratch"}],
            expect=[
                {
                    "total": 4,
                    "categories": [
                        {"category": "scratch", "value": 3, "share": 0.75, "cumulative": 0.75, "vital": True},
                        {"category": "dent", "value": 1, "share": 0.25, "cumulative": 1.0, "vital": True},
                    ],
                    "vital": ["scratch", "dent"],
                    "others": 0,
                }
            ],
        ),
        Example(
            about="Which stops cost the most time since the start: the first, and the rest.",
            config="pareto: {of: reason, sum: minutes, every: 1h, running: true, most: 1}",
            given=[
                {"at": "0s", "reason": "jam", "minutes": 80},
                {"at": "1s", "reason": "no part", "minutes": 15},
                {"at": "2h", "reason": "cleaning", "minutes": 5},
            ],
            expect=[
                {"total": 95, "vital": ["jam"], "others": 1},
                {
                    "total": 100,
                    "categories": [
                        {"category": "jam", "value": 80, "share": 0.8, "cumulative": 0.8, "vital": True},
                        {"category": "other", "value": 20, "share": 0.2, "cumulative": 1.0, "vital": False},
                    ],
                    "others": 2,
                },
            ],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields of a ranking."""
        return super().gives(given, output) if output else {name: Type(kind) for name, kind in TYPES.items()}

    def on_event(self, state: Counted | None, event: Event, emit: Emit) -> Counted | None:
        """Count the event in its category."""
        category = self.of(event)
        value = 1 if self.sum is None else _summed(self.sum, event)
        if category is None or value is None:
            return state
        name = _named(category)
        end = event.arrival - event.arrival % self.every + self.every
        if state is None:
            state = Counted(event.arrival if self.running else end - self.every, end, {})
        elif not state.changed:
            state.end, state.changed = end, True
        if name in state.counts or len(state.counts) < self.held:
            state.counts[name] = state.counts.get(name, 0) + value
        else:
            state.beyond += value
        return state

    def due(self, state: Counted) -> int | None:
        """Return when the ranking comes out."""
        return state.end if state.changed else None

    def on_time(self, state: Counted, key: str, now: int, emit: Emit) -> Counted | None:
        """Let the ranking out; what is not running begins anew."""
        data = {"key": key, "start": moment(state.start), "end": moment(state.end), **self._ranking(state)}
        emit(Event(derived_id(emit.node, key, state.end), state.end, key, "", "", data, None, now))
        state.changed = False
        return state if self.running else None

    def _ranking(self, state: Counted) -> dict[str, Any]:
        ranked = sorted(state.counts.items(), key=lambda item: (-item[1], item[0]))
        listed, rest = ranked[: self.most], ranked[self.most :]
        total = sum(state.counts.values()) + state.beyond
        rows, before = list[dict[str, Any]](), 0.0
        for name, value in listed:
            rows.append(_row(name, value, before, total, vital=before < total * (self.share - NOISE)))
            before += value
        if rest or state.beyond:
            rows.append(_row(self.other, sum(value for _, value in rest) + state.beyond, before, total, vital=False))
        vital = [row["category"] for row in rows if row["vital"]]
        others = len(rest) + (state.beyond > 0)
        return {"total": total, "categories": rows, "vital": vital, "others": others}


def _summed(of: Expression, event: Event) -> float | None:
    """Return what an event adds: a whole number as such, which sums without rounding."""
    value = measured("sum", of, event)
    if value is not None and value < 0:
        raise EventFault("sum: a number of at least 0", {"sum": value})
    return None if value is None else whole(value)


def _row(name: str, value: float, before: float, total: float, *, vital: bool) -> dict[str, Any]:
    share, cumulative = (value / total, min(1.0, (before + value) / total)) if total else (0.0, 0.0)
    return {"category": name, "value": value, "share": share, "cumulative": cumulative, "vital": vital}


def _named(category: Any) -> str:
    if isinstance(category, str) and len(category) <= LONGEST:
        return category
    if isinstance(category, bool):
        return "true" if category else "false"
    if not isinstance(category, int | float):
        raise EventFault(f"of: text of at most {LONGEST} characters, or a number; got {category!r}"[:200])
    return str(category)[:LONGEST]
