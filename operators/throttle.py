"""`throttle`: at most one event in a time."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Stateful, Type, component


class Held(msgspec.Struct, array_like=True):
    """Since when a key is quiet, and the event that waits for the end of it."""

    since: int
    waiting: Event | None = None


@component("throttle")
class Throttle(Stateful[Held]):
    """Let one event a key through in each `every`: the first at once, with `keep: last` the latest at the end too."""

    every: Duration = Field(gt=0)
    """The time in which one event goes through."""
    keep: Literal["first", "last"] = "first"
    """What goes through: only the first, or the latest too when the time is over."""

    state_type = Held
    state_free = frozenset({"every"})
    makes, unwired = frozenset[str](), {"dropped": "dropped"}
    outputs = {"dropped": "events that were held back for good"}
    examples = (
        Example(
            about="One reading in ten seconds.",
            config="throttle: {every: 10s}",
            given=[{"at": "0s", "n": 1}, {"at": "4s", "n": 2}, {"at": "12s", "n": 3}],
            expect=[{"n": 1}, {"n": 3}],
        ),
        Example(
            about="The latest state comes when the time is over.",
            config="throttle: {every: 10s, keep: last}",
            given=[{"at": "0s", "n": 1}, {"at": "4s", "n": 2}, {"at": "5s", "n": 3}],
            expect=[{"n": 1}, {"n": 3}],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in."""
        return given

    def on_event(self, state: Held | None, event: Event, emit: Emit) -> Held:
        """Pass, hold or drop."""
        if state is None or event.arrival >= state.since + self.every:
            emit(event)
            return Held(event.arrival)
        if self.keep == "first":
            emit(event, "dropped")
        else:
            if state.waiting is not None:
                emit(state.waiting, "dropped")
            state.waiting = event
        return state

    def due(self, state: Held) -> int | None:
        """Return when the time is over."""
        return state.since + self.every

    def on_time(self, state: Held, key: str, now: int, emit: Emit) -> Any:
        """Let the waiting event go."""
        if state.waiting is None:
            return None
        held = state.waiting
        emit(Event(held.id, held.time, held.key, held.source, held.topic, held.data, held.meta, now))
        return Held(now)
