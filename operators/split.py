"""`split`: one event for each entry of a list."""

from pydantic import Field

from engine.api import Emit, Event, EventFault, Example, Expression, Stateless, component, derived_id


@component("split")
class Split(Stateless):
    """Make one event of each entry of a list; the other fields go with each. An empty or missing list makes none."""

    of: Expression
    """The list."""
    as_: str = Field(alias="as")
    """The field that gets the entry."""

    shorthand = ""
    examples = (
        Example(
            about="One row a picture.",
            config="split: {of: images, as: image_path}",
            given=[{"id": 7, "images": ["/media/a.jpg", "/media/b.jpg"]}, {"id": 8}],
            expect=[{"id": 7, "image_path": "/media/a.jpg"}, {"id": 7, "image_path": "/media/b.jpg"}],
        ),
    )

    def apply(self, event: Event, emit: Emit) -> None:
        """Emit the entries in order; each gets an id of its own."""
        entries = self.of(event)
        if entries is None:
            return
        if not isinstance(entries, list):
            raise EventFault(f"{self.of.text}: a list; got {type(entries).__name__}")
        for index, entry in enumerate(entries):
            made = event.derive({**event.data, self.as_: entry})
            made.id = derived_id(emit.node, event.id.hex(), index)
            emit(made)
