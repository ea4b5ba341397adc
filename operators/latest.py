"""`latest`: the last known values of a key, in every event."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

from engine.api import (
    Duration,
    Emit,
    Event,
    Example,
    Flow,
    Loop,
    LoopWriter,
    Node,
    Problem,
    Stateful,
    Type,
    component,
    unknown_fields,
)

Known = dict[str, list[Any]]
"""Field → its value, and when (arrival) it came; the longest known first."""


@component("latest")
class Latest(Stateful[Known]):
    """Fill into each event what is known of its key from the events before: partial updates become the whole state.

    An event keeps its own values; a field that is missing or none gets the last known value, if there is one.
    """

    fields: list[str] = []
    """Which fields are remembered; default: all."""
    within: Duration = 0
    """How long (arrival time) a value is remembered since it came; 0s: for ever."""
    most: int = Field(1000, ge=1)
    """How many fields are remembered a key; those that have not come for the longest time are forgotten first."""

    state_type = Known
    state_free = frozenset({"fields", "within", "most"})
    leftover, makes = "", frozenset[str]()
    examples = (
        Example(
            about="A device sends what has changed; what goes on is its whole state.",
            config="latest: {}",
            given=[{"power": "on"}, {"level": 7}, {"power": "off"}],
            expect=[{"power": "on"}, {"level": 7, "power": "on"}, {"power": "off", "level": 7}],
        ),
        Example(
            about="Readings carry the position, as long as it is not older than a minute.",
            config="latest: {fields: [lat, lon], within: 1m}",
            given=[
                {"at": "0s", "lat": 47.1, "lon": 8.5},
                {"at": "30s", "t": 20},
                {"at": "59s", "t": 21, "lat": None},
                {"at": "60s", "t": 22},
            ],
            expect=[
                {"lat": 47.1, "lon": 8.5},
                {"t": 20, "lat": 47.1, "lon": 8.5},
                {"t": 21, "lat": 47.1, "lon": 8.5},
                {"t": 22},
            ],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields as they come: those of earlier events are among them."""
        return given

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        return unknown_fields(flow, [(f"fields.{at}", field) for at, field in enumerate(self.fields)], given)

    def on_event(self, state: Known | None, event: Event, emit: Emit) -> Known | None:
        """Fill in what is missing, then remember what came."""
        known = {} if state is None else state
        now = max(event.arrival, next(reversed(known.values()))[1]) if known else event.arrival
        self._forget(known, now)
        data = event.data
        missing = {name: kept[0] for name, kept in known.items() if data.get(name) is None}
        emit(event.derive({**data, **missing}) if missing else event)
        for name in self.fields or data:
            value = data.get(name)
            if value is not None:
                known.pop(name, None)
                known[name] = [value, now]
        while len(known) > self.most:
            del known[next(iter(known))]
        return known or None

    def on_events(
        self, states: dict[str, Known], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Fill in and remember; the first event of a key and one that makes it forget go by themselves."""
        return self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop:
        """Return the loop for the fields here."""
        loop = LoopWriter()
        with loop.attempt():
            loop.line("a = e.arrival")
        old = f" or next(iter(s.values()))[1] <= a - {self.within}" if self.within else ""
        loop.leave(f"if s is None{old} or next(reversed(s.values()))[1] > a:")
        loop.line("n = None")
        with loop.block("for f, k in s.items():"), loop.block("if d.get(f) is None:"):
            loop.line("if n is None: n = d.copy()")
            loop.line("n[f] = k[0]")
        again = f"{loop.bind(Event)}(e.id, e.time, y, e.source, e.topic, n, e.meta, a)"
        loop.line(f"emit(e if n is None else {again})")
        with loop.block(f"for f in {loop.bind(tuple(self.fields)) if self.fields else 'd'}:"):
            loop.line("v = d.get(f)")
            with loop.block("if v is not None:"):
                loop.line("s.pop(f, None); s[f] = [v, a]")
        loop.line(f"while len(s) > {self.most}: del s[next(iter(s))]")
        return loop.compiled("<latest>")

    def _forget(self, known: Known, now: int) -> None:
        while self.within and known and next(iter(known.values()))[1] + self.within <= now:
            del known[next(iter(known))]

    def due(self, state: Known) -> int | None:
        """Return when the last value is forgotten."""
        if not self.within or not state:
            return None
        return int(next(reversed(state.values()))[1]) + self.within

    def on_time(self, state: Known, key: str, now: int, emit: Emit) -> Known | None:
        """Forget the key."""
        return None
