"""Windows of one key: what is the same for every shape, by arrival or by the events' own time.

A shape says which windows an event belongs to and when one closes; measures say what is computed. Time is the
watermark: by arrival it is the clock, by event time the key's greatest event time less the lateness, or the clock in
silence.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from engine.component import Emit
from engine.event import Event, derived_id, moment
from engine.measure import Measures

_moment = lru_cache(64)(moment)  # keys close together


class Open(msgspec.Struct, array_like=True, gc=False):
    """The state of one key: greatest event time, last arrival, how far all is closed, and what is kept of windows.

    A window's list begins [number of events, a slot for each measure]; what follows is its shape's. What it is kept
    under is its shape's too, mostly its start.
    """

    latest: int
    arrived: int
    closed: int
    windows: dict[int, list[Any]]


class Terms(msgspec.Struct, frozen=True):
    """What holds whatever the shape: which time counts, and when rows come out (microseconds)."""

    by_event: bool = False
    lateness: int = 0
    idle: int = 0
    rebase: bool = True
    early: int = 0
    revise: int = 0
    """How long after its end a window can be revised; 0: it cannot."""

    @property
    def numbered(self) -> bool:
        """Tell if a window may have several rows."""
        return self.early > 0 or self.revise > 0


class Row(msgspec.Struct, gc=False):
    """What comes out of a window. `owner` is the list that ends [revision of the next row, events shown early]."""

    ident: int | bytes
    start: int
    end: int
    kept: list[Any]
    owner: list[Any]
    final: bool = True
    named: dict[str, Any] = {}


class Put:
    """Emits the rows of one key at one time."""

    def __init__(self, windows: "Windows", emit: Emit, key: str, now: int) -> None:
        self.measures, self.terms, self.emit, self.key, self.now = windows.measures, windows.terms, emit, key, now

    def __call__(self, row: Row) -> None:
        """Emit a row, its revisions after the first with ids of their own; a window without events has none."""
        if not row.kept[0]:
            return
        start, end, ident = row.start, row.end, row.ident
        data: dict[str, Any] = {"key": self.key, "start": _moment(start), "end": _moment(end), **row.named}
        data |= self.measures.results(row.kept, end - start)
        revision = row.owner[-2] if len(row.owner) > self.measures.width else 0
        if self.terms.numbered:
            data |= {"final": row.final, "revision": revision}
            row.owner[-2] = revision + 1
        begin = ident if not revision else f"{ident.hex() if isinstance(ident, bytes) else ident} {revision}"
        known = end if row.final else min(end, self.now)
        arrival = self.now if self.terms.by_event else max(self.now, known)
        self.emit(Event(derived_id(self.emit.node, self.key, begin), known, self.key, "", "", data, None, arrival))


class Windows:
    """The windows of a node; a shape fills in how they open and close."""

    def __init__(self, measures: Measures, terms: Terms) -> None:
        self.measures, self.terms = measures, terms

    def read(self, event: Event) -> Any:
        """Return what the shape has to know of an event; raise EventFault where that cannot be."""
        return None

    def is_late(self, state: Open, time: int) -> bool:
        """Tell if all that an event of this time would change is closed for good."""
        raise NotImplementedError

    def take(self, state: Open, time: int, event: Event, values: list[Any], extra: Any, put: Put) -> None:
        """Add an event that is not late."""
        raise NotImplementedError

    def close(self, state: Open, watermark: int, put: Put) -> None:
        """Close what ends up to here."""
        raise NotImplementedError

    def deadline(self, state: Open) -> int | None:
        """Return the first watermark at which something happens without another event."""
        raise NotImplementedError

    def early(self, state: Open) -> Iterable[Row]:
        """Yield a row of each open window with events since its last; they count as shown then."""
        raise NotImplementedError

    def waits(self, state: Open, length: int) -> None:
        """Let what waits for silence on the clock wait longer."""

    def on_event(self, state: Open | None, event: Event, emit: Emit) -> Open | None:
        """Close what the watermark has passed, then add the event; see `Stateful.on_event`."""
        if state is None:
            state = Open(event.time, event.arrival, 0, {})
        time = event.time if self.terms.by_event else event.arrival
        values, extra = self.measures.values(event), self.read(event)
        put = Put(self, emit, event.key, event.arrival)
        self.close(state, self.watermark(state, event.arrival), put)
        state.arrived = event.arrival
        if self.is_late(state, time):
            emit(event, "late")
            return state
        state.latest = max(state.latest, time)
        self.take(state, time, event, values, extra, put)
        self.close(state, self.watermark(state, event.arrival), put)
        return self.left(state)

    def watermark(self, state: Open, now: int) -> int:
        """Return how far the key's time is certain."""
        if not self.terms.by_event:
            return now
        return state.latest - self.terms.lateness + max(0, now - state.arrived - self.terms.idle)

    def due(self, state: Open) -> int | None:
        """Return when something happens if nothing comes."""
        end, early = self.deadline(state), self.terms.early
        if end is not None and self.terms.by_event:
            end = state.arrived + self.terms.idle + max(0, end - state.latest + self.terms.lateness)
        if early and self.unshown(state):
            next_early = (state.arrived // early + 1) * early
            return next_early if end is None else min(end, next_early)
        return end

    def unshown(self, state: Open) -> bool:
        """Tell if an open window has events that no early row has shown."""
        return any(kept[0] != self.shown(kept) for kept in state.windows.values())

    def shown(self, kept: list[Any]) -> int:
        """Return how many events the last early row had shown."""
        return kept[-1] if len(kept) > self.measures.width else 0

    def on_time(self, state: Open, key: str, now: int, emit: Emit) -> Open | None:
        """Close what the clock has passed and show what is open; see `Stateful.on_time`."""
        put = Put(self, emit, key, now)
        self.close(state, self.watermark(state, now), put)
        if self.terms.early and now % self.terms.early == 0:
            for row in self.early(state):
                put(row)
        return self.left(state)

    def left(self, state: Open) -> Open | None:
        """Return the state; by arrival nothing can be late, so that one without windows is forgotten."""
        return state if self.terms.by_event or state.windows else None

    def on_gap(self, state: Open, length: int) -> Open:
        """Let silence begin later by the time in which nothing could come."""
        if self.terms.rebase:
            state.arrived += length
            if not self.terms.by_event:
                self.waits(state, length)
        return state
