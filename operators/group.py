"""`group`: which group an event belongs to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from pydantic import Field

from engine.api import (
    Component,
    Emit,
    Event,
    Example,
    Expression,
    Flow,
    Loop,
    LoopWriter,
    Node,
    Place,
    Problem,
    Stateful,
    Type,
    component,
    derived_id,
    did_you_mean,
    moment,
    unordered,
)


@component("group")
class Group(Stateful[int]):
    """Number the groups that a trigger opens, and give every event the number of the group it belongs to.

    The number is counted by the flow (its state), so a replay gives the same. An event that comes before any trigger
    opens a group as well: nothing is lost, and `implicit` on the opened event says so.
    """

    opens: Expression
    """What holds for an event that opens a group."""
    as_: str = Field(alias="as")
    """The field that gets the number."""
    table: str | None = None
    """The table that gets a row a group (`id` and what else of its columns the opened event has)."""
    first: int = 1
    """The first number; where a table is named, a first deploy goes on above its highest id."""

    state_type = int
    state_free = frozenset({"opens", "as_", "table", "first"})
    leftover, makes = "", frozenset({"opened"})
    outputs = {"opened": "one event a group: id, the group's field, created_at, implicit"}
    examples = (
        Example(
            about="The trigger opens a car; results belong to the car before the station.",
            config='group: {opens: "exists(trigger)", as: car_id}',
            given=[{"trigger": 1}, {"result": "OK"}, {"trigger": 1}, {"result": "DEFECT"}],
            expect=[{"car_id": 1}, {"car_id": 1, "result": "OK"}, {"car_id": 2}, {"car_id": 2, "result": "DEFECT"}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a table that is not there, and a key, by which each key would count for itself."""
        if self.table is not None and self.table not in flow.tables:
            message = f"a table of this flow; got '{self.table}'"
            yield Problem("unknown-table", "table", message, did_you_mean(self.table, flow.tables))
        elif self.table is not None and (giver := flow.key_giver(node)):
            message = f"no key, so that each row has a number of its own; got the key of '{giver.name}'"
            yield Problem("option-value", "table", message)
        elif self.table is not None and (shuffler := flow.shuffler(node)):
            yield Problem("order", "", unordered(shuffler), "group them before it")

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in, with the group's number; what is opened has fields of its own."""
        number = Type("number")
        if output == "opened":
            row = {"id": number, self.as_: number, "created_at": Type("time"), "implicit": Type("boolean")}
            return row
        if output or given is None:
            return super().gives(given, output)
        return {**given, self.as_: number}

    def implies(self, name: str, flow: str = "") -> dict[str, dict[str, Any]]:
        """Return the sink that stores the groups."""
        if self.table is None:
            return {}
        return {"sinks": {f"{name}_{self.table}": {"from": f"{name}.opened", "sql": {"table": self.table}}}}

    def deployed(self, place: Place) -> Component:
        """Go on above the ids that the table had when the flow was first deployed."""
        highest = place.highest.get(self.table or "", 0)
        return self.model_copy(update={"first": max(self.first, highest + 1)})

    def on_event(self, state: int | None, event: Event, emit: Emit) -> int:
        """Open a group where the trigger says so; pass the event with its group."""
        opens = bool(self.opens(event))
        if opens or state is None:
            state = self.first if state is None else state + 1
            row = {"id": state, self.as_: state, "created_at": moment(event.time), "implicit": not opens}
            opened = Event(
                derived_id(emit.node, event.key, event.id),
                event.time,
                event.key,
                event.source,
                event.topic,
                row,
                event.meta,
                event.arrival,
            )
            emit(opened, "opened")
        emit(event.derive({**event.data, self.as_: state}))
        return state

    def on_events(
        self, states: dict[str, int], events: Sequence[Event], emit: Emit, one: Callable[[Event], None]
    ) -> Iterable[str]:
        """Give the events their number; one that opens a group goes by itself."""
        return self.loop(states, events, emit, one)

    @cached_property
    def loop(self) -> Loop:
        """Return the loop for events of a group that is open."""
        loop = LoopWriter()
        with loop.attempt():
            loop.line(f"o = {loop.expression(self.opens)}")
            loop.line(f"n = {{**d, {self.as_!r}: s}}")
        loop.leave("if o or s is None:")
        loop.line(f"emit({loop.bind(Event)}(e.id, e.time, e.key, e.source, e.topic, n, e.meta, e.arrival))")
        return loop.compiled("<group>")
