"""`number`: a serial id that the flow itself counts."""

from collections.abc import Iterable, Mapping

from pydantic import Field

from engine.api import (
    Component,
    Emit,
    Event,
    Example,
    Flow,
    Node,
    Place,
    Problem,
    Stateful,
    Type,
    component,
    did_you_mean,
    unordered,
)


@component("number")
class Number(Stateful[int]):
    """Give every event the next whole number, so that its row's id is known before the row is stored."""

    as_: str = Field("id", alias="as")
    """The field that gets the number."""
    table: str | None = None
    """The table whose ids are counted; a first deploy goes on above its highest id."""
    first: int = 1
    """The first number."""

    state_type = int
    state_free = frozenset({"as_", "table", "first"})
    leftover, makes = "", frozenset[str]()
    keyed = False
    examples = (
        Example(
            about="Rows get their ids.",
            config="number: {as: id}",
            given=[{"a": 1}, {"a": 2}],
            expect=[{"id": 1}, {"id": 2}],
        ),
    )

    def check(self, flow: Flow, node: Node) -> Iterable[Problem]:
        """Find a table that is not there, and events that come in no certain order: a replay would number them anew."""
        if self.table is not None and self.table not in flow.tables:
            message = f"a table of this flow; got '{self.table}'"
            yield Problem("unknown-table", "table", message, did_you_mean(self.table, flow.tables))
        if node.key is not None:
            yield Problem("option-value", "", "a node without `key`: numbers are counted over all events; got a key")
        if self.table is not None and (shuffler := flow.shuffler(node)):
            yield Problem("order", "", unordered(shuffler), "number them before it, or let the table count")

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in, with the number."""
        if output or given is None:
            return super().gives(given, output)
        return {**given, self.as_: Type("number")}

    def deployed(self, place: Place) -> Component:
        """Go on above the ids that the table had when the flow was first deployed."""
        return self.model_copy(update={"first": max(self.first, place.highest.get(self.table or "", 0) + 1)})

    def on_event(self, state: int | None, event: Event, emit: Emit) -> int:
        """Count on."""
        number = self.first if state is None else state + 1
        emit(event.derive({**event.data, self.as_: number}))
        return number
