"""`sample`: one event in a time, or in a number."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from pydantic import Field, model_validator

from engine.api import Duration, Emit, Event, Example, Stateful, Type, component, derived_id


class Sampled(msgspec.Struct, array_like=True):
    """The next time of the grid, the event that comes out then, whether it did before; until when it is repeated."""

    next: int
    until: int
    event: Event | None
    again: bool = False
    count: int = 0


@component("sample")
class Sample(Stateful[Sampled]):
    """Let one event a key through in each `every`, at the times of a fixed grid, or one in each `count`.

    The grid is that of the clock in UTC: with `every: 10s` an event comes out at :00, :10, :20. `throttle` lets the
    first event through at once instead. An event keeps its own time; a repetition is a new event of the grid's
    time; there are such for the time in which the gateway was down, too.
    """

    every: Duration = 0
    """The distance of the grid's times."""
    count: int = Field(0, ge=0)
    """In how many events one goes through."""
    keep: Literal["first", "last"] = "last"
    """Which of them goes through: the first, or the last."""
    repeat: Duration = 0
    """How long after it came an event is repeated at the times of the grid where no other comes; 0s: never."""

    state_type = Sampled
    outputs = {"dropped": "events that were not chosen"}
    unwired = {"dropped": "dropped"}
    examples = (
        Example(
            about="The last reading of each ten seconds.",
            config="sample: {every: 10s}",
            given=[{"at": "1s", "n": 1}, {"at": "9s", "n": 2}, {"at": "12s", "n": 3}],
            expect=[{"n": 2}, {"n": 3}],
            side={"dropped": [{"n": 1}]},
        ),
        Example(
            about="A steady series for a chart: the last value stands for half a minute.",
            config="sample: {every: 10s, repeat: 30s}",
            given=[{"at": "1s", "n": 1}, {"at": "42s", "n": 2}],
            expect=[{"n": 1}, {"n": 1}, {"n": 1}, {"n": 2}, {"n": 2}, {"n": 2}],
        ),
        Example(
            about="One event in three.",
            config="sample: {count: 3, keep: first}",
            given=[{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}],
            expect=[{"n": 1}, {"n": 4}],
        ),
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "Sample":
        if bool(self.every) == bool(self.count):
            raise ValueError("either every or count")
        if self.repeat and not 0 < self.every < self.repeat:
            raise ValueError("repeat: only with every, and longer than it")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields as they come."""
        return given

    def on_event(self, state: Sampled | None, event: Event, emit: Emit) -> Sampled:
        """Hold what may be chosen, drop the rest."""
        if self.count:
            return self._counted(state or Sampled(0, 0, None), event, emit)
        if state is None:
            return self._held(event, event.arrival - event.arrival % self.every + self.every)
        if state.event is None or state.again:
            return self._held(event, state.next)
        if self.keep == "first":
            emit(event, "dropped")
            return state
        emit(state.event, "dropped")
        return self._held(event, state.next)

    def _counted(self, state: Sampled, event: Event, emit: Emit) -> Sampled:
        chosen = 0 if self.keep == "first" else self.count - 1
        emit(event, "" if state.count == chosen else "dropped")
        state.count = (state.count + 1) % self.count
        return state

    def _held(self, event: Event, time: int) -> Sampled:
        return Sampled(time, event.arrival + self.repeat, event)

    def due(self, state: Sampled) -> int | None:
        """Return the next time of the grid."""
        return None if state.event is None else state.next

    def on_time(self, state: Sampled, key: str, now: int, emit: Emit) -> Sampled | None:
        """Let the event go, or go again; forget the key when nothing is left to repeat."""
        held = state.event
        if held is None:
            return None
        if state.again:
            held = msgspec.structs.replace(held, id=derived_id(emit.node, key, now), time=now)
        emit(msgspec.structs.replace(held, arrival=now))
        state.next, state.again = now + self.every, True
        return state if state.next < state.until else None
