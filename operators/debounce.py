"""`debounce`: an event comes out when it has been quiet."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, Type, component


class Burst(msgspec.Struct, array_like=True):
    """When a burst began (0: there is none), since when it is stable at `value`, and what waits for its end.

    `let_out` holds the value that came out last, in a list; an empty one where none did.
    """

    began: int
    since: int
    value: Any
    waiting: Event | None = None
    let_out: list[Any] = []


@component("debounce")
class Debounce(Stateful[Burst]):
    """Wait until a key has been quiet for a time, and let one event of each burst through.

    Without `of`, each event makes the time begin anew. With `of`, only another value does: the event comes out that
    began the value at which `of` has been stable, unless it is the value that came out before. An event without the
    value goes on as it is. A contact that bounces gives one event; a value that flickers and returns gives none.
    The value that came out last is remembered for each key.
    """

    for_: Duration = Field(alias="for", gt=0)
    """How long a key must be quiet (arrival time); time in which the gateway was down does not count."""
    of: Expression | None = None
    """What must be stable; default: no event may come."""
    edge: Literal["trailing", "leading", "both"] = "trailing"
    """What goes through: the last event when it is quiet, the first at once, or both where they differ."""
    longest: Duration = 0
    """After which time a burst ends though it is not quiet; 0s: never."""

    state_type = Burst
    makes, unwired = frozenset[str](), {"dropped": "dropped"}
    outputs = {"dropped": "events of a burst that did not go through"}
    examples = (
        Example(
            about="A door contact that bounces is reported once it rests.",
            config="debounce: {of: open, for: 1s}",
            given=[
                {"at": "0s", "open": True},
                {"at": "0.1s", "open": False},
                {"at": "0.2s", "open": True},
                {"at": "5s", "open": True},
                {"at": "9s", "open": False},
            ],
            expect=[{"open": True}, {"open": False}],
        ),
        Example(
            about="A button counts once, at once.",
            config="debounce: {for: 500ms, edge: leading}",
            given=[{"at": "0s", "n": 1}, {"at": "0.2s", "n": 2}, {"at": "3s", "n": 3}],
            expect=[{"n": 1}, {"n": 3}],
            side={"dropped": [{"n": 2}]},
        ),
        Example(
            about="The last change of a settings page, and at least one in ten seconds.",
            config="debounce: {for: 4s, longest: 10s}",
            given=[{"at": "0s", "n": 1}, {"at": "3s", "n": 2}, {"at": "6s", "n": 3}, {"at": "9s", "n": 4}],
            expect=[{"n": 4}],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields as they come."""
        return given

    def on_event(self, state: Burst | None, event: Event, emit: Emit) -> Burst | None:
        """Begin a burst, or go on with the one that there is."""
        value = None if self.of is None else self.of(event)
        if self.of is not None and value is None:
            emit(event)
            return state
        if state is None:
            state = Burst(0, 0, None)
        if not state.began:
            self._begin(state, event, value, emit)
        else:
            self._go_on(state, event, value, emit)
        return state

    def _begin(self, state: Burst, event: Event, value: Any, emit: Emit) -> None:
        if not self._is_news(state, value):
            emit(event, "dropped")
            return
        state.began = state.since = event.arrival
        state.value = value
        if self.edge == "trailing":
            state.waiting = event
        else:
            emit(event)
            state.let_out = [value]

    def _go_on(self, state: Burst, event: Event, value: Any, emit: Emit) -> None:
        if self.of is not None and value == state.value:
            emit(event, "dropped")
            return
        state.since, state.value = max(state.since, event.arrival), value
        if state.waiting is not None:
            emit(state.waiting, "dropped")
        state.waiting = event if self.edge != "leading" and self._is_news(state, value) else None
        if state.waiting is None:
            emit(event, "dropped")

    def _is_news(self, state: Burst, value: Any) -> bool:
        return self.of is None or state.let_out != [value]

    def due(self, state: Burst) -> int | None:
        """Return when the burst ends if nothing comes."""
        if not state.began:
            return None
        quiet = state.since + self.for_
        return min(quiet, state.began + self.longest) if self.longest else quiet

    def on_time(self, state: Burst, key: str, now: int, emit: Emit) -> Burst | None:
        """End the burst; without `of` there is nothing to remember of it."""
        held, state.waiting = state.waiting, None
        if held is not None:
            emit(msgspec.structs.replace(held, arrival=now))
            state.let_out = [state.value]
        state.began = 0
        return state if self.of is not None and state.let_out else None

    def on_gap(self, state: Burst, length: int) -> Burst:
        """Wait longer by the time in which nothing could come."""
        if state.began:
            state.began += length
            state.since += length
        return state
