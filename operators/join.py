"""`join`: two events that belong together, within a time."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from pydantic import Field

from engine.api import Duration, Emit, Event, Example, Expression, Stateful, Type, component, derived_id


class Waiting(msgspec.Struct, array_like=True):
    """An event that waits for partners, until when (arrival), and whether it has had one."""

    event: Event
    until: int
    matched: bool = False


class Sides(msgspec.Struct, array_like=True):
    """What waits on each side, in the order in which its time ends."""

    left: list[Waiting]
    right: list[Waiting]


@component("join")
class Join(Stateful[Sides]):
    """Join the events of two sides that arrive within a time of each other and have the same key.

    What comes out is a new event with the fields of both; its time is the later one's. An event that has had no partner
    when its time is over goes where `unmatched` says. Sides are told apart by expressions: by a field that only one
    has, or by `meta.source`. The event that comes first waits in memory; time in which the gateway was down, when its
    partner could not come, is not counted.

    What comes is taken in the order in which it arrived. What another operator with memory makes of it arrives when it
    is made, which may be later: leave room for that in `within`.
    """

    left: Expression
    """What holds for an event of the left side."""
    right: Expression
    """What holds for an event of the right side; looked at where `left` does not hold."""
    within: Duration = Field(gt=0)
    """How long an event waits for a partner."""
    partners: Literal["all", "one"] = "all"
    """How many partners an event may have: all of its time, or one, that which has waited longest."""
    unmatched: Literal["inner", "left", "outer"] = "inner"
    """Which events without a partner go on beside the joined ones: none, those of the left side, or those of both."""
    as_: str | None = Field(None, alias="as")
    """The field that gets the right event's fields; default: they stand beside the left's, which win."""
    most: int = Field(1000, ge=1)
    """How many events of each side wait a key; when there are more, the time of the first is over."""

    state_type = Sides
    state_free = frozenset({"left", "right", "partners", "unmatched", "as_", "most"})
    makes = frozenset({""})
    outputs = {"unmatched": "events that had no partner in time", "other": "events of neither side"}
    examples = (
        Example(
            about="The weight of a parcel meets its scan.",
            config="join: {left: exists(code), right: exists(kg), within: 5s, partners: one}",
            given=[
                {"at": "0s", "code": "A7"},
                {"at": "2s", "kg": 3.5},
                {"at": "10s", "code": "B1"},
                {"at": "16s", "kg": 1.0},
            ],
            expect=[{"code": "A7", "kg": 3.5}],
            side={"unmatched": [{"code": "B1"}, {"kg": 1.0}]},
        ),
        Example(
            about="Each order goes on, with its payment where there was one.",
            config='join: {left: kind == "order", right: kind == "paid", within: 1m, unmatched: left, as: payment}',
            given=[
                {"at": "0s", "kind": "order", "id": 1},
                {"at": "9s", "kind": "paid", "sum": 20},
                {"at": "90s", "kind": "order", "id": 2},
            ],
            expect=[{"kind": "order", "id": 1, "payment": {"kind": "paid", "sum": 20}}, {"kind": "order", "id": 2}],
        ),
    )

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields as they come, and that of the right side."""
        if output or given is None or self.as_ is None:
            return given
        return {**given, self.as_: Type("dict", null=True)}

    def on_event(self, state: Sides | None, event: Event, emit: Emit) -> Sides | None:
        """Join the event with those that wait on the other side, and let it wait on its own."""
        is_left = bool(self.left(event))
        if not is_left and not self.right(event):
            emit(event, "other")
            return state
        if state is None:
            state = Sides([], [])
        own, others = (state.left, state.right) if is_left else (state.right, state.left)
        until = event.arrival + self.within
        one = Waiting(event, max(until, own[-1].until) if own else until)
        for other in list(others if self.partners == "all" else others[:1]):
            one.matched = other.matched = True
            emit(self._joined(*((event, other.event) if is_left else (other.event, event)), event.arrival, emit.node))
        if self.partners == "one" and one.matched:
            del others[0]
        else:
            own.append(one)
        if len(own) > self.most:
            self._end(own.pop(0), is_left, event.arrival, emit)
        return state

    def _joined(self, left: Event, right: Event, now: int, node: str) -> Event:
        data: dict[str, Any] = {**right.data, **left.data} if self.as_ is None else {**left.data, self.as_: right.data}
        made = derived_id(node, left.key, left.id + right.id)
        later = left if left.time >= right.time else right
        return Event(made, later.time, left.key, later.source, later.topic, data, later.meta, now)

    def _end(self, one: Waiting, is_left: bool, now: int, emit: Emit) -> None:
        """Let an event go that had no partner."""
        if one.matched:
            return
        goes_on = self.unmatched == "outer" or (is_left and self.unmatched == "left")
        emit(msgspec.structs.replace(one.event, arrival=now), "" if goes_on else "unmatched")

    def due(self, state: Sides) -> int | None:
        """Return when the first event has waited long enough."""
        return min((side[0].until for side in (state.left, state.right) if side), default=None)

    def on_time(self, state: Sides, key: str, now: int, emit: Emit) -> Sides | None:
        """Let what has waited long enough go."""
        for side, is_left in ((state.left, True), (state.right, False)):
            while side and side[0].until <= now:
                self._end(side.pop(0), is_left, now, emit)
        return state if state.left or state.right else None

    def on_gap(self, state: Sides, length: int) -> Sides:
        """Wait longer by the time in which no partner could come."""
        for one in (*state.left, *state.right):
            one.until += length
        return state
