"""`change`: report by exception: an event goes through when its values have changed enough."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field, model_validator

from engine.api import (
    Duration,
    Emit,
    Event,
    EventFault,
    Example,
    Expression,
    Flow,
    Loop,
    LoopWriter,
    Node,
    Problem,
    Stateful,
    Type,
    component,
)

LARGEST = 2**63
"""From here on a whole number has no form in a snapshot."""
NO_NUMBERS = frozenset({"text", "boolean", "list", "dict", "time", "bytes"})


class Door(msgspec.Struct, array_like=True):
    """A swinging door: its pivot, the slopes of its upper and lower half, and the event that is held back.

    Slopes are in units of the value a microsecond; times are the events' own.
    """

    time: int
    value: float
    upper: float = 0.0
    lower: float = 0.0
    held: Event | None = None
    held_value: float = 0.0


class Reported(msgspec.Struct, array_like=True):
    """When an event last went through, the values that it had, and the door."""

    at: int
    values: list[Any]
    door: Door | None = None


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


Several = Annotated[list[Expression], BeforeValidator(_listed, json_schema_input_type=Expression | list[Expression])]
Deadband = Annotated[float, Field(ge=0)]


@component("change")
class Change(Stateful[Reported]):
    """Let an event through when its values differ from those of the last that went through; the first always goes.

    A change counts when it is greater than the deadband. With `deviation` the swinging door of Bristol (ISA 1990, US
    patent 4,669,097) chooses the events between which straight lines are enough: two doors hang `deviation` above and
    below the last event that went through and only open, as far as each later value asks; when they are more than
    parallel, the event before goes through and the doors hang there. Each value lies within `deviation` of some one
    line of its stretch, so within twice that of the line through the events. Its time is the event's own; an event
    that is not later than the one before goes through.

    An event goes on as it is where one of the values is missing.
    """

    of: Several = []
    """What is looked at: an expression, or a list of which one must change; default: the whole payload."""
    deadband: Deadband | dict[str, Deadband] = 0.0
    """How much a number may change without being reported; as a mapping, by the text of each of `of`."""
    percent: Deadband | dict[str, Deadband] = 0.0
    """The same in percent of the value that was last reported; what is within one of both is not reported."""
    deviation: float = Field(0, ge=0)
    """Half the width of the swinging door, in the unit of `of`; 0: no door."""
    longest: Duration = 0
    """After which time (arrival) an event goes through though nothing changed; 0s: never."""

    shorthand = "of"
    state_type = Reported
    state_free = frozenset({"longest"})
    makes, unwired = frozenset[str](), {"unchanged": "filtered"}
    outputs = {"unchanged": "events that did not change enough"}
    examples = (
        Example(
            about="A state is reported when it changes.",
            config="change: state",
            given=[{"state": "on"}, {"state": "on"}, {"state": "off"}],
            expect=[{"state": "on"}, {"state": "off"}],
            side={"unchanged": [{"state": "on"}]},
        ),
        Example(
            about="Half a degree, or two percent of the humidity, and something every ten minutes.",
            config="change: {of: [t, h], deadband: {t: 0.5}, percent: {h: 2}, longest: 10m}",
            given=[
                {"at": "0s", "t": 20.0, "h": 50},
                {"at": "60s", "t": 20.5, "h": 51},
                {"at": "120s", "t": 20.6, "h": 50},
                {"at": "180s", "t": 20.6, "h": 51.5},
                {"at": "800s", "t": 20.6, "h": 51.5},
            ],
            expect=[{"t": 20.0}, {"t": 20.6, "h": 50}, {"h": 51.5}, {"h": 51.5}],
        ),
        Example(
            about="A ramp is two points: the corner comes out when the door closes, the end after a minute.",
            config="change: {of: level, deviation: 0.5, longest: 1m}",
            given=[
                {"at": "0s", "level": 0},
                {"at": "10s", "level": 1},
                {"at": "20s", "level": 2},
                {"at": "30s", "level": 3},
                {"at": "40s", "level": 0},
            ],
            expect=[{"level": 0}, {"level": 3}, {"level": 0}],
        ),
    )

    @model_validator(mode="after")
    def _fitting(self) -> "Change":
        if self.deviation and (len(self.of) != 1 or self.deadband or self.percent):
            raise ValueError("deviation: one value in of, without deadband and percent")
        if (self.deadband or self.percent) and not self.of:
            raise ValueError("of: the number that the deadband is for")
        known = [one.text for one in self.of]
        for option in (self.deadband, self.percent):
            if isinstance(option, dict) and (wrong := [name for name in option if name not in known]):
                raise ValueError(f"a deadband for each of {', '.join(known)}; got {wrong[0]}")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields as they come."""
        return given

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find values that are no numbers where a deadband or a door needs them."""
        for at, one in enumerate(self.of):
            found = one.evident(given)
            if (self.deviation or any(self._deadbands(one.text))) and found.kind in NO_NUMBERS:
                option = f"of.{at}" if len(self.of) > 1 else "of"
                yield Problem("field-type", option, f"a number; '{one.text}' is {found.shown}")

    def on_event(self, state: Reported | None, event: Event, emit: Emit) -> Reported | None:
        """Report the event, or not; with a door, hold it back."""
        values: list[Any] = [one(event) for one in self.of] if self.of else [event.data]
        if any(value is None for value in values):
            emit(event)
            return state
        for one, value in zip(self.of, values, strict=False):
            if self.deviation or any(self._deadbands(one.text)):
                _check_number(one.text, value)
        if self.deviation:
            return self._swing(state, event, float(values[0]), emit)
        if state is None or self._is_long_ago(state, event) or self._changed(state.values, values):
            emit(event)
            return Reported(event.arrival, values)
        emit(event, "unchanged")
        return state

    def on_events(
        self, states: dict[str, Reported], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Compare the values with the last report; a first event, what is missing and a door go by themselves."""
        return super().on_events(states, events, emit, one) if self.deviation else self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop:
        """Return the loop for the values and deadbands here."""
        loop = LoopWriter()
        values = [loop.name("v") for _ in self.of] or [loop.name("v")]
        with loop.attempt():
            for value, one in zip(values, self.of, strict=False):
                loop.line(f"{value} = {loop.expression(one)}")
            if not self.of:
                loop.line(f"{values[0]} = d")
        loop.leave(f"if s is None or {' or '.join(f'{value} is None' for value in values)}:")
        changed = [f"{value} != p[{at}]" for at, value in enumerate(values)]
        for at, (value, one) in enumerate(zip(values, self.of, strict=False)):
            deadband, percent = self._deadbands(one.text)
            if deadband or percent:
                loop.leave(f"if {value}.__class__ is not float and {value}.__class__ is not int or {_far(value)}:")
                least = f"max({deadband!r}, {percent / 100!r} * abs(p[{at}]))" if percent else repr(deadband)
                changed[at] = f"abs({value} - p[{at}]) > {least}"
        loop.line("p = s.values; a = e.arrival")
        late = f"a >= s.at + {self.longest} or " if self.longest else ""
        with loop.block(f"if {late}{' or '.join(changed)}:"):
            loop.line("emit(e)")
            loop.line(f"states[y] = {loop.bind(Reported)}(a, [{', '.join(values)}])")
        loop.line('else: emit(e, "unchanged")')
        return loop.compiled("<change>")

    def _is_long_ago(self, state: Reported, event: Event) -> bool:
        return bool(self.longest) and event.arrival >= state.at + self.longest

    def _changed(self, last: list[Any], values: list[Any]) -> bool:
        if not self.of:
            return last != values
        return any(self._differs(one.text, *pair) for one, *pair in zip(self.of, last, values, strict=True))

    def _differs(self, name: str, last: Any, value: Any) -> bool:
        deadband, percent = self._deadbands(name)
        if not deadband and not percent:
            return bool(last != value)
        return bool(abs(value - last) > max(deadband, percent / 100 * abs(last)))

    def _deadbands(self, name: str) -> tuple[float, float]:
        """Return the absolute one and that in percent for one of `of`."""
        absolute = self.deadband.get(name, 0) if isinstance(self.deadband, dict) else self.deadband
        percent = self.percent.get(name, 0) if isinstance(self.percent, dict) else self.percent
        return absolute, percent

    def _swing(self, state: Reported | None, event: Event, value: float, emit: Emit) -> Reported:
        """Open the doors as far as the value asks; where they are more than parallel, the event before is reported."""
        if state is None or state.door is None:
            emit(event)
            return Reported(event.arrival, [], Door(event.time, value))
        door = state.door
        before = door.time if door.held is None else door.held.time
        if event.time <= before:
            emit(event)
            return state
        held, (upper, lower) = door.held, self._slopes(door, event, value)
        if held is None:
            door.upper, door.lower = upper, lower
        elif max(door.upper, upper) > min(door.lower, lower):
            door = state.door = self._report(state, held, event.arrival, emit)
            door.upper, door.lower = self._slopes(door, event, value)
        else:
            emit(held, "unchanged")
            door.upper, door.lower = max(door.upper, upper), min(door.lower, lower)
        door.held, door.held_value = event, value
        return state

    def _slopes(self, door: Door, event: Event, value: float) -> tuple[float, float]:
        """Return the slopes from the upper and the lower pivot to a value."""
        passed = event.time - door.time
        return (value - door.value - self.deviation) / passed, (value - door.value + self.deviation) / passed

    def _report(self, state: Reported, held: Event, now: int, emit: Emit) -> Door:
        """Let the event that is held back go, and return the doors that hang there."""
        emit(msgspec.structs.replace(held, arrival=now))
        state.at = now
        return Door(held.time, 0.0 if state.door is None else state.door.held_value)

    def due(self, state: Reported) -> int | None:
        """Return when the event that the door holds back has waited long enough."""
        return state.at + self.longest if self.longest and state.door and state.door.held else None

    def on_time(self, state: Reported, key: str, now: int, emit: Emit) -> Reported:
        """Report the event that is held back."""
        if state.door and state.door.held:
            state.door = self._report(state, state.door.held, now, emit)
        return state


def _far(value: str) -> str:
    """Return the source of a condition: what is not finite or has more than 64 bits, and some that has not."""
    return f"not -{LARGEST} < {value} < {LARGEST}"


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise EventFault(f"of: {name}: a number; got {value!r}"[:200], {name: value})
    if isinstance(value, int) and abs(value) >= LARGEST:
        raise EventFault(f"of: {name}: a number of at most 64 bits", {name: str(value)[:40]})
