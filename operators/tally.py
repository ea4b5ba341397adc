"""`tally`: counts of good and bad, in all and by field, kept as events come."""

from typing import Any

import msgspec
from pydantic import field_validator

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, component, derived_id, moment

Pair = list[int]


class Counts(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: good and bad in all, by field and value, held apart, and plain counters."""

    total: Pair
    by: dict[str, dict[str, Pair]]
    apart: dict[str, Pair]
    counts: dict[str, int]
    updated: int = 0
    emitted: int = 0
    dirty: bool = False


@component("tally")
class Tally(Stateful[Counts]):
    """Count good and bad values of a field, in all and for each value of other fields.

    What comes out is the whole statistics: `total`, one count for good and bad under their names in small letters
    (`ok`, `defect`), the bad one's rate (`defect_rate`, 0..1), `by_<field>` for each of `by` (without an ending `_id`),
    the `apart` and `counts`, and `updated_at`. It comes out at the first change and then at most once in `every` of
    arrival time, the last state always.
    """

    of: str
    """The field that is judged; an event without it changes only `counts`."""
    good: str = "OK"
    """The value that counts as good."""
    bad: str = "DEFECT"
    """The value that counts as bad; other values are not counted."""
    by: list[str] = []
    """Fields that the counts are broken down by."""
    latest: dict[str, int] = {}
    """Field of `by` → how many of its values are kept, the latest first seen (default 1000)."""
    apart: dict[str, Expression] = {}
    """Name → condition: events for which it holds are counted under that name and not in the rest."""
    counts: dict[str, Expression] = {}
    """Name → condition: how many events it held for."""
    every: Duration = 100_000
    """The least time between two outputs."""

    state_type = Counts
    makes = frozenset({""})
    state_free = frozenset({"every", "latest"})
    examples = (
        Example(
            about="Defect rate in all and by device.",
            config="tally: {of: result, by: [device]}",
            given=[{"at": "0s", "device": "LED", "result": "OK"}, {"at": "1s", "device": "LED", "result": "DEFECT"}],
            expect=[
                {"total": 1, "ok": 1, "defect": 0, "defect_rate": 0.0, "by_device": {"LED": {"total": 1}}},
                {"total": 2, "ok": 1, "defect": 1, "defect_rate": 0.5},
            ],
        ),
    )

    @field_validator("latest")
    @classmethod
    def _positive(cls, latest: dict[str, int]) -> dict[str, int]:
        if any(most < 1 for most in latest.values()):
            raise ValueError("numbers of at least 1")
        return latest

    def on_event(self, state: Counts | None, event: Event, emit: Emit) -> Counts:
        """Count the event; emit when the last output is long enough ago."""
        if state is None:
            state = Counts(
                [0, 0],
                {field: {} for field in self.by},
                {name: [0, 0] for name in self.apart},
                dict.fromkeys(self.counts, 0),
            )
        if not self._count(state, event.data.get(self.of), event):
            return state
        state.updated = max(state.updated, event.time)
        if event.arrival >= state.emitted + self.every:
            self._emit(state, event.key, event.arrival, event.id, emit)
        else:
            state.dirty = True
        return state

    def _count(self, state: Counts, value: Any, event: Event) -> bool:
        held = [name for name, condition in self.counts.items() if condition(event)]
        apart = next((name for name, condition in self.apart.items() if condition(event)), None)
        for name in held:
            state.counts[name] += 1
        index = 0 if value == self.good else 1 if value == self.bad else None
        if index is None:
            return bool(held)
        if apart is not None:
            state.apart[apart][index] += 1
            return True
        state.total[index] += 1
        for field in self.by:
            self._by(state.by[field], event.data.get(field), field, index)
        return True

    def _by(self, pairs: dict[str, Pair], value: Any, field: str, index: int) -> None:
        if value is None:
            return
        text = value if type(value) is str else str(value)
        pair = pairs.get(text)
        if pair is None:
            pair = pairs[text] = [0, 0]
            if len(pairs) > self.latest.get(field, 1000):
                del pairs[next(iter(pairs))]
        pair[index] += 1

    def due(self, state: Counts) -> int | None:
        """Return when a held-back state comes out."""
        return state.emitted + self.every if state.dirty else None

    def on_time(self, state: Counts, key: str, now: int, emit: Emit) -> Counts:
        """Let the last state out."""
        self._emit(state, key, now, now, emit)
        return state

    def _emit(self, state: Counts, key: str, now: int, start: int | bytes, emit: Emit) -> None:
        state.emitted, state.dirty = now, False
        found: dict[str, Any] = self._pair(state.total)
        for field, pairs in state.by.items():
            found[f"by_{field.removesuffix('_id')}"] = {value: self._pair(pair) for value, pair in pairs.items()}
        found |= state.counts
        found |= {name: self._pair(pair) for name, pair in state.apart.items()}
        found["updated_at"] = moment(state.updated)
        emit(Event(derived_id(emit.node, key, start), state.updated, key, "", "", found, None, now))

    def _pair(self, pair: Pair) -> dict[str, Any]:
        good, bad = pair
        total, name = good + bad, self.bad.lower()
        return {
            "total": total,
            self.good.lower(): good,
            name: bad,
            f"{name}_rate": round(bad / total, 6) if total else 0.0,
        }

    def empty(self) -> dict[str, Any]:
        """Return the statistics before the first event."""
        nothing = self._pair([0, 0])
        by: dict[str, Any] = {f"by_{field.removesuffix('_id')}": {} for field in self.by}
        return nothing | by | dict.fromkeys(self.counts, 0) | dict.fromkeys(self.apart, nothing) | {"updated_at": None}
