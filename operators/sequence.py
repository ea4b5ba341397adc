"""`sequence`: events that follow each other within a time, and those that do not."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
from pydantic import field_validator, model_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    Example,
    Expression,
    Flow,
    Node,
    Problem,
    Stateful,
    Type,
    component,
    derived_id,
    moment,
    unknown_fields,
)


class Begun(msgspec.Struct, array_like=True):
    """A sequence that has begun: when it must be through, when the next step must come, and the fields of the steps."""

    id: bytes
    start: int
    until: int
    step_until: int
    found: list[dict[str, Any]]


@component("sequence")
class Sequence(Stateful[Begun]):
    """Find events of a key that follow each other within a time: A, then B, then C; and A that no B follows.

    What comes out is a new event with `key`, `start` (the time of the first event), `end` (that of the last) and, under
    the name of each step, the fields of its event. A sequence that is not through in time gives an event on `.missing`,
    as soon as the time is over: `key`, `start`, `end`, `step` (the one that did not come) and the steps before it. One
    sequence a key is open at a time. Time is that of arrival; that in which the gateway was down is not counted.
    """

    steps: dict[str, Expression]
    """The name of each step in order, and what holds for its event."""
    within: Duration | dict[str, Duration]
    """In which time of the first event the last must come; as a mapping, a step in which time of the one before it."""
    order: Literal["relaxed", "strict"] = "relaxed"
    """Whether other events may come between, or end the sequence."""
    keep: Literal["first", "last"] = "first"
    """Where the first step comes again before the second has come: which one the sequence begins with."""
    unless: Expression | None = None
    """What ends a sequence that has begun, without `.missing`."""
    fields: list[str] | None = None
    """Which fields of each event go out; default: all."""

    state_type = Begun
    state_free = frozenset({"within", "order", "keep", "unless", "fields"})
    makes = frozenset({"", "missing"})
    outputs = {
        "missing": "a sequence that began and was not through in time: key, start, end, step, and the steps before it",
        "other": "events that are no step of a sequence",
    }
    examples = (
        Example(
            about="A valve that is told to open says within five seconds that it did.",
            config='sequence: {steps: {told: cmd == "open", done: state == "open"}, within: 5s}',
            given=[
                {"at": "0s", "cmd": "open"},
                {"at": "3s", "state": "open"},
                {"at": "10s", "cmd": "open"},
            ],
            expect=[{"key": "", "told": {"cmd": "open"}, "done": {"state": "open"}}],
            side={"missing": [{"key": "", "step": "done", "told": {"cmd": "open"}}]},
        ),
        Example(
            about="Three stations in a row, the third within ten seconds of the second.",
            config="sequence: {steps: {a: at_station == 1, b: at_station == 2, c: at_station == 3}, "
            "within: {b: 1m, c: 10s}, fields: [n]}",
            given=[
                {"at": "0s", "at_station": 1, "n": 1},
                {"at": "50s", "at_station": 2, "n": 2},
                {"at": "59s", "at_station": 3, "n": 3},
            ],
            expect=[{"a": {"n": 1}, "b": {"n": 2}, "c": {"n": 3}}],
        ),
        Example(
            about="Wrong, wrong, wrong: nothing else came between.",
            config='sequence: {steps: {a: r == "bad", b: r == "bad", c: r == "bad"}, within: 1h, order: strict}',
            given=[{"r": "bad"}, {"r": "good"}, {"r": "bad"}, {"r": "bad"}, {"r": "bad"}],
            expect=[{"a": {"r": "bad"}, "b": {"r": "bad"}, "c": {"r": "bad"}}],
        ),
    )

    @field_validator("steps")
    @classmethod
    def _several(cls, steps: dict[str, Expression]) -> dict[str, Expression]:
        taken = [name for name in steps if name in ("key", "start", "end", "step")]
        if len(steps) < 2 or taken:
            raise ValueError("at least two steps, of other names than key, start, end and step")
        return steps

    @model_validator(mode="after")
    def _timed(self) -> "Sequence":
        if not isinstance(self.within, dict):
            if self.within <= 0:
                raise ValueError("within: a time above 0s")
        elif set(self.within) != set(self.names[1:]) or min(self.within.values()) <= 0:
            raise ValueError(f"within: a time above 0s for each of {', '.join(self.names[1:])}")
        return self

    @cached_property
    def names(self) -> list[str]:
        """Return the names of the steps in order."""
        return list(self.steps)

    @cached_property
    def conditions(self) -> list[Expression]:
        """Return the conditions of the steps in order."""
        return list(self.steps.values())

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what a sequence says of itself."""
        if output not in ("", "missing"):
            return given
        known = {"key": Type("text"), "start": Type("time"), "end": Type("time")}
        if output:
            return known | {"step": Type("text")} | {name: Type("dict", null=True) for name in self.names[:-1]}
        return known | {name: Type("dict") for name in self.names}

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find fields that do not come in."""
        return unknown_fields(flow, [(f"fields.{at}", field) for at, field in enumerate(self.fields or ())], given)

    def on_event(self, state: Begun | None, event: Event, emit: Emit) -> Begun | None:
        """Take the event as the next step, or as the first one; or end what has begun."""
        if state is None:
            return self._first(event, emit)
        if self.unless is not None and self.unless(event):
            emit(event, "other")
            return None
        if self.conditions[len(state.found)](event):
            return self._next(state, event, emit)
        if self.order == "strict":
            found = self._first(event, emit)
            self._let_out(state, event.key, event.arrival, event.arrival, emit, "missing")
            return found
        if self.keep == "last" and len(state.found) == 1 and self.conditions[0](event):
            return self._first(event, emit)
        emit(event, "other")
        return state

    def _first(self, event: Event, emit: Emit) -> Begun | None:
        if not self.conditions[0](event):
            emit(event, "other")
            return None
        until, now = 0, event.arrival
        if not isinstance(self.within, dict):
            until = now + self.within
        return Begun(event.id, event.time, until, self._step_until(1, now), [self._shown(event)])

    def _step_until(self, step: int, now: int) -> int:
        return now + self.within[self.names[step]] if isinstance(self.within, dict) else 0

    def _shown(self, event: Event) -> dict[str, Any]:
        if self.fields is None:
            return event.data
        return {name: event.data[name] for name in self.fields if name in event.data}

    def _next(self, state: Begun, event: Event, emit: Emit) -> Begun | None:
        state.found.append(self._shown(event))
        if len(state.found) < len(self.names):
            state.step_until = self._step_until(len(state.found), event.arrival)
            return state
        self._let_out(state, event.key, event.time, event.arrival, emit, "")
        return None

    def _let_out(self, state: Begun, key: str, end: int, now: int, emit: Emit, output: str) -> None:
        data: dict[str, Any] = {"key": key, "start": moment(state.start), "end": moment(end)}
        if output:
            data["step"] = self.names[len(state.found)]
        data |= dict(zip(self.names, state.found, strict=False))
        emit(Event(derived_id(emit.node, key, state.id), end, key, "", "", data, None, now), output)

    def due(self, state: Begun) -> int | None:
        """Return when the sequence, or its next step, is too late."""
        return state.until or state.step_until

    def on_time(self, state: Begun, key: str, now: int, emit: Emit) -> Begun | None:
        """Say that a step is missing."""
        self._let_out(state, key, now, now, emit, "missing")
        return None

    def on_gap(self, state: Begun, length: int) -> Begun:
        """Wait longer by the time in which nothing could come."""
        if state.until:
            state.until += length
        if state.step_until:
            state.step_until += length
        return state
