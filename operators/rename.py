"""`rename`: give fields other names."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from pydantic import field_validator

from engine.api import Code, Example, Flow, Node, Problem, Record, Stateless, Type, component, unknown_fields


@component("rename")
class Rename(Stateless):
    """Give fields other names, all at once; as in `set`, the name that comes out stands on the left.

    A field that is not there is not renamed. One that has the new name already is replaced.
    """

    fields: dict[str, str]
    """New name → the field that gets it."""

    shorthand = "fields"
    examples = (
        Example(
            about="A device's short names written out.",
            config="rename: {temperature: t, humidity: h}",
            given=[{"t": 20.5, "h": 41, "id": 1}, {"t": 21}],
            expect=[{"temperature": 20.5, "humidity": 41, "id": 1}, {"temperature": 21}],
        ),
        Example(
            about="Two fields that stand in each other's place.",
            config="rename: {lat: lon, lon: lat}",
            given=[{"lat": 13.4, "lon": 52.5}],
            expect=[{"lat": 52.5, "lon": 13.4}],
        ),
    )

    @field_validator("fields")
    @classmethod
    def _once(cls, fields: dict[str, str]) -> dict[str, str]:
        twice = [name for name, times in Counter(fields.values()).items() if times > 1]
        if twice:
            raise ValueError(f"a field gets one name; got two for '{twice[0]}' (set makes a copy)")
        return fields

    @cached_property
    def _names(self) -> dict[str, str]:
        return {old: new for new, old in self.fields.items()}

    def check_fields(self, flow: Flow, node: Node, given: Mapping[str, Type]) -> Iterable[Problem]:
        """Find names that are no fields."""
        return unknown_fields(flow, [(f"fields.{new}", old) for new, old in self.fields.items()], given)

    def gives(self, given: Mapping[str, Type] | None, output: str = "") -> Mapping[str, Type] | None:
        """Return the fields by their new names."""
        return given if given is None or output else renamed(given, self._names)

    def code(self, code: Code) -> bool:
        """Write the new names: nothing at all where the fields are known."""
        record, names = code.record, self._names
        if record.fields is None:
            data = code.name("d")
            code.line(f"{data} = {code.bind(renamed)}({record.data}, {code.bind(names)})")
            code.changed(data)
        else:
            known = {name: type_ for name, type_ in record.types.items() if name in record.fields}
            code.go_on(Record(fields=renamed(record.fields, names), types=renamed(known, names)))
        return True


def renamed(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return data by their new names (old → new), each in its place; what had a new name before is left out."""
    taken = {new for old, new in names.items() if old in data}
    return {names.get(name, name): value for name, value in data.items() if name in names or name not in taken}
