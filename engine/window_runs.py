"""Windows that the events themselves begin and end: so many of them, a state that lasts, conditions.

They take the events in order of time. By event time an event waits until the watermark has come to it, so that the
order in which events come makes no difference within the lateness.
"""

from collections.abc import Iterable
from typing import Any

from engine.errors import EventFault
from engine.event import Event
from engine.expressions import Expression
from engine.measure import Measures
from engine.windows import Open, Put, Row, Terms, Windows

HELD = -1
"""Under what events wait: [time, id, values, extra] each. Windows are kept under numbers from 0."""
MOST_HELD = 10_000
"""The most events of a key that wait; with more, the earliest counts as certain, and what is before it is late."""


class Runs(Windows):
    """A window goes on from event to event until its rule, `longest`, or a silence of `gap` ends it.

    After the slots it has [start, last event's time, when silence ends it, first event's id, extra, revision, shown].
    """

    def __init__(self, measures: Measures, terms: Terms, longest: int | None = None, gap: int | None = None) -> None:
        super().__init__(measures, terms)
        self.longest, self.gap = longest, gap
        self.start, self.last, self.silent, self.id, self.told = range(measures.width, measures.width + 5)

    def splits(self, kept: list[Any], extra: Any) -> bool:
        """Tell if an event ends a window that it does not belong to."""
        return False

    def opens(self, windows: list[list[Any]], extra: Any) -> bool:
        """Tell if an event begins a window; these are the open ones, the last one last."""
        return not windows

    def full(self, kept: list[Any], extra: Any) -> bool:
        """Tell if a window ends with this event, its last one."""
        return False

    def is_late(self, state: Open, time: int) -> bool:
        return self.terms.by_event and time < state.closed

    def take(self, state: Open, time: int, event: Event, values: list[Any], extra: Any, put: Put) -> None:
        if not self.terms.by_event:
            self._enter(state, put, max(time, state.closed), event.id, values, extra)
            return
        held = state.windows.setdefault(HELD, [])
        held.append([time, event.id, values, extra])
        if len(held) > MOST_HELD:
            self.close(state, min(item[0] for item in held), put)

    def close(self, state: Open, watermark: int, put: Put) -> None:
        state.closed = closed = max(state.closed, watermark)
        held = state.windows.get(HELD)
        if held:
            state.windows[HELD] = [item for item in held if item[0] > closed]
            for item in sorted((item for item in held if item[0] <= closed), key=lambda item: item[0]):
                self._enter(state, put, *item)
            if not state.windows[HELD]:
                del state.windows[HELD]
        self._expire(state, closed, put)

    def _enter(self, state: Open, put: Put, time: int, ident: bytes, values: list[Any], extra: Any) -> None:
        """Let the next event in order of time belong to its windows."""
        self._expire(state, time, put)
        for number, kept in self._windows(state):
            if self.splits(kept, extra):
                put(self._row(state.windows.pop(number), time))
        found = self._windows(state)
        if self.opens([kept for _, kept in found], extra):
            number = found[-1][0] + 1 if found else 0
            state.windows[number] = [*self.measures.new(), time, time, None, ident, extra, 0, 0]
        for number, kept in self._windows(state):
            self.measures.add(kept, values, time)
            kept[self.last], kept[self.silent] = time, None if self.gap is None else time + self.gap
            if self.full(kept, extra):
                put(self._row(state.windows.pop(number), time))

    def _windows(self, state: Open) -> list[tuple[int, list[Any]]]:
        return sorted((number, kept) for number, kept in state.windows.items() if number != HELD)

    def _ends(self, kept: list[Any]) -> tuple[int, int] | None:
        """Return at what watermark time ends a window, and what its end is then."""
        ends = [] if self.longest is None else [(kept[self.start] + self.longest,) * 2]
        if kept[self.silent] is not None:
            ends.append((kept[self.silent], kept[self.last]))
        return min(ends, default=None)

    def _expire(self, state: Open, watermark: int, put: Put) -> None:
        for number, kept in self._windows(state):
            ends = self._ends(kept)
            if ends is not None and ends[0] <= watermark:
                put(self._row(state.windows.pop(number), ends[1]))

    def _row(self, kept: list[Any], end: int, final: bool = True) -> Row:
        return Row(kept[self.id], kept[self.start], end, kept, kept, final, self.named(kept))

    def named(self, kept: list[Any]) -> dict[str, Any]:
        """Return what a row has of the shape."""
        return {}

    def deadline(self, state: Open) -> int | None:
        found = [item[0] for item in state.windows.get(HELD, ())]
        found += [ends[0] for _, kept in self._windows(state) if (ends := self._ends(kept))]
        return min(found, default=None)

    def unshown(self, state: Open) -> bool:
        return any(kept[0] != kept[-1] for _, kept in self._windows(state))

    def early(self, state: Open) -> Iterable[Row]:
        for _, kept in self._windows(state):
            if kept[0] != kept[-1]:
                yield self._row(kept, kept[self.last], final=False)
                kept[-1] = kept[0]

    def waits(self, state: Open, length: int) -> None:
        for _, kept in self._windows(state):
            if kept[self.silent] is not None:
                kept[self.silent] += length


class Counted(Runs):
    """Windows of `count` events, one from every `step`th event on."""

    def __init__(self, measures: Measures, terms: Terms, longest: int | None, count: int, step: int) -> None:
        super().__init__(measures, terms, longest)
        self.count, self.step = count, step

    def opens(self, windows: list[list[Any]], extra: Any) -> bool:
        return not windows or windows[-1][0] == self.step

    def full(self, kept: list[Any], extra: Any) -> bool:
        return bool(kept[0] == self.count)


class Lasting(Runs):
    """Windows in which a value stays the same; an event that does not say it (none) belongs to the one before."""

    def __init__(self, measures: Measures, terms: Terms, longest: int | None, of: Expression) -> None:
        super().__init__(measures, terms, longest)
        self.of = of

    def read(self, event: Event) -> Any:
        value = self.of(event)
        if value is None or isinstance(value, (str, bool)) or (isinstance(value, (int, float)) and value == value):
            return value
        raise EventFault(f"state: text, a number or true or false; got {value!r}"[:200], {"state": value})

    def splits(self, kept: list[Any], extra: Any) -> bool:
        return extra is not None and bool(extra != kept[self.told])

    def opens(self, windows: list[list[Any]], extra: Any) -> bool:
        return not windows and extra is not None

    def named(self, kept: list[Any]) -> dict[str, Any]:
        return {"state": kept[self.told]}


class Conditional(Runs):
    """Windows from an event for which `opens` holds to one for which `closes` does; without one, to the next."""

    def __init__(
        self, measures: Measures, terms: Terms, longest: int | None, opens: Expression | None, closes: Expression | None
    ) -> None:
        super().__init__(measures, terms, longest)
        self.opened_by, self.closed_by = opens, closes

    def read(self, event: Event) -> Any:
        opens, closes = self.opened_by, self.closed_by
        return [opens is None or bool(opens(event)), closes is not None and bool(closes(event))]

    def splits(self, kept: list[Any], extra: Any) -> bool:
        return self.closed_by is None and bool(extra[0])

    def opens(self, windows: list[list[Any]], extra: Any) -> bool:
        return not windows and bool(extra[0])

    def full(self, kept: list[Any], extra: Any) -> bool:
        return bool(extra[1])
