"""`split`: one event for each entry of a list or mapping."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from engine.api import Emit, Event, EventFault, Example, Expression, Stateless, Type, component, derived_id, part_of

ANY = Type("any", null=True)


@component("split")
class Split(Stateless):
    """Make one event of each entry of a list, or of each value of a mapping; the other fields go with each.

    Each event has an id of its own, from that of the event it was made of and its place.
    """

    of: Expression
    """The list or mapping."""
    as_: str = Field("", alias="as")
    """The field that gets the entry; without it, each entry is a mapping whose fields are added to the event."""
    index: str = ""
    """The field that gets the place in the list, from 0, or the name in the mapping."""
    on_empty: Literal["filter", "keep"] = "filter"
    """What happens to an event whose list is empty or missing: it is filtered, or goes on without an entry."""

    shorthand = ""
    examples = (
        Example(
            about="One row a picture.",
            config="split: {of: images, as: image_path}",
            given=[{"id": 7, "images": ["/media/a.jpg", "/media/b.jpg"]}, {"id": 8}],
            expect=[{"id": 7, "image_path": "/media/a.jpg"}, {"id": 7, "image_path": "/media/b.jpg"}],
        ),
        Example(
            about="A batch of readings, each with the fields of its own.",
            config="split: {of: readings, index: number}",
            given=[{"device": "a", "readings": [{"t": 20}, {"t": 21, "alarm": True}]}],
            expect=[{"device": "a", "t": 20, "number": 0}, {"device": "a", "t": 21, "alarm": True, "number": 1}],
        ),
        Example(
            about="A value a channel; an event without any goes on as it is.",
            config="split: {of: channels, as: value, index: channel, on_empty: keep}",
            given=[{"channels": {"ch1": 4.1, "ch2": 4.3}}, {"id": 8}],
            expect=[{"channel": "ch1", "value": 4.1}, {"channel": "ch2", "value": 4.3}, {"id": 8}],
        ),
    )

    @model_validator(mode="after")
    def _two_names(self) -> "Split":
        if self.as_ and self.as_ == self.index:
            raise ValueError("index: a field other than that of `as`")
        return self

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what comes in with the entry and its place; nothing is known of the fields of an entry."""
        if given is None or output:
            return given
        index = {self.index: ANY} if self.index else {}
        return {**given, self.as_: ANY, **index} if self.as_ else None

    def apply(self, event: Event, emit: Emit) -> None:
        """Emit the entries in order."""
        entries = self.of(event)
        if not entries and (entries is None or isinstance(entries, list | dict)):
            if self.on_empty == "keep":
                emit(event)
            return
        meta = part_of(event)
        for number, (index, entry) in enumerate(self._entries(entries)):
            made = event.derive(self._data(event.data, index, entry))
            made.meta = meta
            made.id = derived_id(emit.node, event.id.hex(), number)
            emit(made)

    def _entries(self, entries: Any) -> Iterable[tuple[Any, Any]]:
        if not isinstance(entries, list | dict):
            raise EventFault(f"{self.of.text}: a list or mapping; got {type(entries).__name__}")
        found = list(entries.items() if isinstance(entries, dict) else enumerate(entries))
        if not self.as_ and (wrong := [entry for _, entry in found if not isinstance(entry, dict)]):
            raise EventFault(f"{self.of.text}: entries with fields, as there is no `as`; got {type(wrong[0]).__name__}")
        return found

    def _data(self, data: Mapping[str, Any], index: Any, entry: Any) -> dict[str, Any]:
        found = {**data, self.as_: entry} if self.as_ else {**data, **entry}
        if self.index:
            found[self.index] = index
        return found
