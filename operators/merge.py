"""`merge`: the last known values of several sources in one event."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, Type, component, derived_id


class Parts(msgspec.Struct, array_like=True):
    """Name → its value and when (arrival) it came; the greatest time of an event; the last output, if one is due."""

    values: dict[str, list[Any]]
    time: int = 0
    emitted: int = 0
    dirty: bool = False


@component("merge")
class Merge(Stateful[Parts]):
    """Put the last known values of several sources together: one new event a key, with `key` and the named values.

    Each name of `compute` is an expression that is evaluated on every event: where it is not none, it is the value from
    now on. So sources are told apart by their fields, or by where they come from:
    `outside: temperature if meta.source == "roof" else none`. A value that is not known, or was for too long, is none.

    What comes is taken in the order in which it arrived, also what another operator with memory made of it; at the same
    time, the event comes before what was made of it.
    """

    compute: dict[str, Expression] = Field(min_length=1)
    """Name → the value; none: the event says nothing of it."""
    wait_for: Literal["all", "any"] = "all"
    """Whether the first event comes out when all values are known, or with any."""
    every: Duration = 0
    """The least time between two events of a key, the last state always; 0s: one for each event that has a value."""
    within: Duration = 0
    """How long (arrival time) a value is known since it came; 0s: for ever."""

    state_type = Parts
    state_free = frozenset({"wait_for", "every", "within"})
    makes = frozenset({""})
    outputs = {"other": "events that have none of the values"}
    examples = (
        Example(
            about="Temperature and humidity come by themselves; what goes on has both.",
            config="merge: {compute: {t: temperature, h: humidity}}",
            given=[{"temperature": 20}, {"humidity": 50}, {"temperature": 21}, {"noise": 3}],
            expect=[{"t": 20, "h": 50}, {"t": 21, "h": 50}],
            side={"other": [{"noise": 3}]},
        ),
        Example(
            about="By where it comes from; a value that is older than a minute is not known.",
            config='merge: {compute: {inside: t if place == "in" else none, outside: t if place == "out" else none}, '
            "wait_for: any, within: 1m}",
            given=[
                {"at": "0s", "place": "in", "t": 20},
                {"at": "30s", "place": "out", "t": 5},
                {"at": "70s", "place": "out", "t": 6},
            ],
            expect=[
                {"inside": 20, "outside": None},
                {"inside": 20, "outside": 5},
                {"inside": None, "outside": 6},
            ],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the key and the values, as far as their types are evident."""
        if output:
            return given
        values = {name: one.evident(given or {}).kind for name, one in self.compute.items()}
        return {"key": Type("text")} | {name: Type(kind, null=True) for name, kind in values.items()}

    def on_event(self, state: Parts | None, event: Event, emit: Emit) -> Parts | None:
        """Take the event's values; emit when the last output is long enough ago."""
        found = {name: value for name, one in self.compute.items() if (value := one(event)) is not None}
        if not found:
            emit(event, "other")
            return state
        if state is None:
            state = Parts({})
        state.values |= {name: [value, event.arrival] for name, value in found.items()}
        state.time = max(state.time, event.time)
        if not self.every or event.arrival >= state.emitted + self.every:
            self._let_out(state, event.key, event.arrival, event.id, emit)
        else:
            state.dirty = True
        return state

    def _let_out(self, state: Parts, key: str, now: int, start: int | bytes, emit: Emit) -> None:
        if self.within:
            state.values = {name: kept for name, kept in state.values.items() if kept[1] + self.within > now}
        state.dirty = False
        if self.wait_for == "all" and len(state.values) < len(self.compute):
            return
        state.emitted = now
        data = {"key": key} | {name: state.values.get(name, [None])[0] for name in self.compute}
        emit(Event(derived_id(emit.node, key, start), state.time, key, "", "", data, None, now))

    def due(self, state: Parts) -> int | None:
        """Return when a state that was held back comes out, or the last value is not known any more."""
        if state.dirty:
            return state.emitted + self.every
        return max(at for _, at in state.values.values()) + self.within if self.within and state.values else None

    def on_time(self, state: Parts, key: str, now: int, emit: Emit) -> Parts | None:
        """Let the last state out, or forget the key."""
        if not state.dirty:
            return None
        self._let_out(state, key, now, now, emit)
        return state if state.values else None
