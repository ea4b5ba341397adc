"""Windows that lie on the clock (tumbling, sliding), and sessions, which end with silence."""

from collections.abc import Iterable
from math import gcd
from typing import Any

from engine.event import Event
from engine.measure import Measures
from engine.windows import Open, Put, Row, Terms, Windows


class Aligned(Windows):
    """Windows of `length`, one at each multiple of `every` since 1970.

    An event is added once, to its pane: a stretch that lies wholly in or out of any window. A window that closes is put
    together from its panes, which are kept under their start; the pane at a window's start has the window's numbers.
    """

    def __init__(self, measures: Measures, terms: Terms, every: int, length: int) -> None:
        super().__init__(measures, terms)
        self.every, self.length, self.pane = every, length, gcd(every, length)

    def end_after(self, time: int) -> int:
        """Return the end of the first window that ends after a time."""
        return time - (time - self.length) % self.every + self.every

    def last_end(self, time: int) -> int:
        """Return the end of the last window that a time lies in."""
        return time - time % self.every + self.length

    def is_late(self, state: Open, time: int) -> bool:
        return self.last_end(time) + self.terms.revise <= state.closed

    def take(self, state: Open, time: int, event: Event, values: list[Any], extra: Any, put: Put) -> None:
        start = time - time % self.pane
        kept = state.windows.get(start)
        if kept is None:
            kept = state.windows[start] = self.measures.new()
        self.measures.add(kept, values, time)
        if self.terms.revise:
            for end in range(self.end_after(time), min(self.last_end(time), state.closed) + 1, self.every):
                if end + self.terms.revise > state.closed:
                    put(self._row(state, end))

    def close(self, state: Open, watermark: int, put: Put) -> None:
        before = state.closed
        if watermark <= before:
            return
        state.closed = watermark
        if self.end_after(before) <= watermark:
            for end in self._ends(state.windows, before, watermark):
                put(self._row(state, end))
        elif not self.terms.revise:
            return
        for start in [start for start in state.windows if self.last_end(start) + self.terms.revise <= watermark]:
            del state.windows[start]

    def _ends(self, panes: Iterable[int], after: int, until: int | None = None) -> list[int]:
        """Return the ends of the windows that some of these panes lie in, of those after a time."""
        found: set[int] = set()
        for start in panes:
            last = self.last_end(start)
            found.update(range(self.end_after(max(after, start)), min(last, until or last) + 1, self.every))
        return sorted(found)

    def _row(self, state: Open, end: int, final: bool = True) -> Row:
        start, panes = end - self.length, state.windows
        if self.pane == self.length:
            stretches = [panes[start]]
        else:
            stretches = [panes[at] for at in sorted(panes) if start <= at < end]
        kept, owner = self.measures.merged(stretches), panes.get(start, [])
        if self.terms.numbered:
            owner = panes.setdefault(start, self.measures.new())
            if len(owner) == self.measures.width:
                owner += [0, 0]
        return Row(start, start, end, kept, owner, final)

    def deadline(self, state: Open) -> int | None:
        panes, revise = state.windows, self.terms.revise
        if not panes:
            return None
        if not revise:
            return self.end_after(max(state.closed, min(panes)))
        forgotten = min(map(self.last_end, panes)) + revise
        left = [start for start in panes if self.last_end(start) > state.closed]
        return min(forgotten, self.end_after(max(state.closed, min(left)))) if left else forgotten

    def early(self, state: Open) -> Iterable[Row]:
        unshown = [start for start, kept in state.windows.items() if kept[0] != self.shown(kept)]
        for end in self._ends(unshown, state.closed):
            yield self._row(state, end, final=False)
        for start in unshown:
            kept = state.windows[start]
            kept[self.measures.width :] = [*(kept[self.measures.width :] or [0, 0])[:1], kept[0]]


class Session(Windows):
    """Windows between silences of `gap`; an event between two may make them one.

    After the slots a window has [time of its last event, when it closes, revision, events shown].
    """

    def __init__(self, measures: Measures, terms: Terms, gap: int) -> None:
        super().__init__(measures, terms)
        self.gap, self.last, self.until = gap, measures.width, measures.width + 1

    def is_late(self, state: Open, time: int) -> bool:
        return self.terms.by_event and time < state.closed and not self._near(state, time)

    def _near(self, state: Open, time: int) -> list[int]:
        return sorted(s for s, kept in state.windows.items() if s - self.gap < time < kept[self.until])

    def take(self, state: Open, time: int, event: Event, values: list[Any], extra: Any, put: Put) -> None:
        time = time if self.terms.by_event else max(time, state.closed)
        near = [(start, state.windows.pop(start)) for start in self._near(state, time)]
        start = min([time, *(start for start, _ in near)])
        lasts, ends = [kept[self.last] for _, kept in near], [kept[self.until] for _, kept in near]
        numbers = near[0][1][-2:] if near else [0, 0]
        kept = self.measures.merged([kept for _, kept in near]) if near else self.measures.new()
        self.measures.add(kept, values, time)
        state.windows[start] = [*kept, max([time, *lasts]), max([time + self.gap, *ends]), *numbers]

    def close(self, state: Open, watermark: int, put: Put) -> None:
        state.closed = max(state.closed, watermark)
        for start in sorted(s for s, kept in state.windows.items() if kept[self.until] <= watermark):
            put(self._row(start, state.windows.pop(start)))

    def _row(self, start: int, kept: list[Any], final: bool = True) -> Row:
        return Row(start, start, kept[self.last], kept, kept, final)

    def deadline(self, state: Open) -> int | None:
        return min((kept[self.until] for kept in state.windows.values()), default=None)

    def early(self, state: Open) -> Iterable[Row]:
        for start, kept in sorted(state.windows.items()):
            if kept[0] != kept[-1]:
                yield self._row(start, kept, final=False)
                kept[-1] = kept[0]

    def waits(self, state: Open, length: int) -> None:
        for kept in state.windows.values():
            kept[self.until] += length
