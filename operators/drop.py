"""`drop`: take fields out."""

from collections.abc import Iterable, Mapping
from functools import cached_property

from pydantic import field_validator, model_validator

from engine.api import (
    Code,
    Example,
    Flow,
    Node,
    Problem,
    Record,
    Stateless,
    Type,
    component,
    field_paths,
    unknown_fields,
)

Names = tuple[str, ...]


@component("drop")
class Drop(Stateless):
    """Take fields out of events, or take out all but some.

    A name may have `*` (any characters) and `?` (one character); `reading.raw` is `raw` inside `reading`, and in each
    entry where `reading` is a list. A field that is not there is no fault.
    """

    names: Names = ()
    """The fields that are taken out."""
    all_but: Names = ()
    """The fields that stay; all others are taken out."""

    shorthand = "names"
    examples = (
        Example(
            about="What is only for debugging, and the raw value inside each reading.",
            config='drop: ["debug_*", readings.raw]',
            given=[{"id": 1, "debug_heap": 9, "readings": [{"t": 20.5, "raw": 812}]}, {"id": 2}],
            expect=[{"id": 1, "readings": [{"t": 20.5}]}, {"id": 2}],
        ),
        Example(
            about="Nothing but the device and its temperature.",
            config="drop: {all_but: [device, reading.t]}",
            given=[{"device": "a", "reading": {"t": 1, "h": 2}, "firmware": "1.2"}],
            expect=[{"device": "a", "reading": {"t": 1}}],
        ),
    )

    @field_validator("names", "all_but", mode="before")
    @classmethod
    def _one_alone(cls, names: object) -> object:
        return [names] if isinstance(names, str) else names

    @field_validator("names", "all_but")
    @classmethod
    def _readable(cls, names: Names) -> Names:
        field_paths.paths_of(names)
        return names

    @model_validator(mode="after")
    def _one_of_both(self) -> "Drop":
        if bool(self.names) == bool(self.all_but):
            raise ValueError("either names or all_but, with one name or more")
        return self

    @cached_property
    def _paths(self) -> field_paths.Paths:
        return field_paths.paths_of(self.names or self.all_but)

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find names without a pattern that are no fields."""
        option, names = ("names", self.names) if self.names else ("all_but", self.all_but)
        first = [(f"{option}.{at}", name.partition(".")[0]) for at, name in enumerate(names)]
        return unknown_fields(flow, [pair for pair in first if not set("*?") & set(pair[1])], given)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return what is left of the fields."""
        if given is None or output:
            return given
        return {name: type_ for name, type_ in given.items() if self._stays(name)}

    def _stays(self, name: str) -> bool:
        rest = field_paths.step(self._paths, name)
        return rest is not field_paths.ENDS if self.names else bool(rest)

    def code(self, code: Code) -> bool:
        """Write what is left: nothing at all where the fields are known and no path goes into one."""
        fields = code.record.fields
        if fields is not None and (self.names or not any(self._inside(name) for name in fields)):
            code.go_on(self._left(code, fields))
        elif self.names and all(map(field_paths.plain, self._paths)):
            data = code.name("d")
            code.line(f"{data} = {{**{code.data}}}")
            for name in self.names:
                code.line(f"{data}.pop({name!r}, None)")
            code.changed(data)
        else:
            data = code.name("d")
            call = field_paths.without if self.names else field_paths.only
            code.line(f"{data} = {code.bind(call)}({code.data}, {code.bind(self._paths)})")
            code.changed(data)
        return True

    def _inside(self, name: str) -> bool:
        """Tell whether a path goes into a field."""
        return field_paths.step(self._paths, name) not in ((), field_paths.ENDS)

    def _left(self, code: Code, fields: Mapping[str, str]) -> Record:
        """Return the fields that stay, those that a path goes into without what it leads to."""
        found = {name: source for name, source in fields.items() if self._stays(name)}
        for name in filter(self._inside, found):
            value, rest = code.name("w"), code.bind(field_paths.step(self._paths, name))
            code.line(f"{value} = {code.bind(field_paths.without)}({found[name]}, {rest})")
            found[name] = value
        return Record(fields=found, types={name: type_ for name, type_ in code.record.types.items() if name in found})
