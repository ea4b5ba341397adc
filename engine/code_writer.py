"""The Python function that is being written for a stretch of nodes: its lines, its constants, and the event at hand."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from engine.expression_check import ANY, Type
from engine.expressions import Expression, Scope
from engine.flow import Node

EVIDENT = {str: Type("text"), int: Type("number"), int | float: Type("number"), bool: Type("boolean")}


class Record:
    """The data of the event at hand, as the function has them: a dict, or each field on its own.

    `data` is the source of the dict. Where `fields` is not None, it has the source of each field, in order, and there
    are no others; `types` is what is known of them.
    """

    def __init__(
        self, data: str = "", fields: Mapping[str, str] | None = None, types: Mapping[str, Type] | None = None
    ) -> None:
        self.fields = None if fields is None else dict(fields)
        self.types = dict(types or {})
        self._data = data

    @property
    def data(self) -> str:
        """Return the source of the dict."""
        if self.fields is None:
            return self._data
        return "{" + ", ".join(f"{name!r}: {source}" for name, source in self.fields.items()) + "}"


class Shape:
    """Fields with their types, into which data are converted in C; what is not among them is left aside.

    `fields` gives each field's type and default (`msgspec.NODEFAULT`: it must be there); `names` its name in `struct`.
    """

    def __init__(self, fields: Mapping[str, tuple[Any, Any]]) -> None:
        self.fields = dict(fields)
        self.names = {name: f"f{number}" for number, name in enumerate(fields)}
        members = [
            (self.names[name], kind) if default is msgspec.NODEFAULT else (self.names[name], kind, default)
            for name, (kind, default) in fields.items()
        ]
        rename = {python: name for name, python in self.names.items()}
        self.struct = msgspec.defstruct("Shape", members, rename=rename, gc=False, kw_only=True)

    def extended(self, names: Iterable[str]) -> "Shape":
        """Return the shape with further fields, which may be anything or missing."""
        return Shape(self.fields | dict.fromkeys(sorted(names), (Any, None)))

    @property
    def types(self) -> dict[str, Type]:
        """Return what is evident of the fields."""
        return {name: EVIDENT[kind] for name, (kind, _) in self.fields.items() if kind in EVIDENT}


class Code:
    """The function being written: a component writes lines and then one of the ways to go on.

    `same` lets the event through as it is, `go_on` with another record, `changed` with a dict. A component with side
    outputs beside its fault output lets every event through to one output at least; `sides` are their variables.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.depth = 1
        self.loops = 0
        self.names = self._temporaries = 0
        self.event = self.out = ""
        self.sides: dict[str, str] = {}
        self.record = Record()
        self.owned = self.shared = False
        self.node: Node

    @property
    def data(self) -> str:
        """Return the source of the data of the event at hand, a dict that must not be changed."""
        return self.record.data

    def line(self, text: str) -> None:
        """Write one line at the current depth."""
        self.lines.append("    " * self.depth + text)

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write the head of a block; what follows stands inside."""
        loop = head.startswith("for ")
        self.line(head)
        self.depth += 1
        self.loops += loop
        yield
        self.depth -= 1
        self.loops -= loop

    def name(self, letter: str) -> str:
        """Return a fresh variable name."""
        self.names += 1
        return f"{letter}{self.names}"

    def bind(self, value: Any, letter: str = "k") -> str:
        """Return the name of a constant of the function."""
        name = self.name(letter)
        self.constants[name] = value
        return name

    def expression(self, expression: Expression, record: Record | None = None) -> str:
        """Return the Python source of an expression on the current event, or on other data of it."""
        scope = self.scope(record or self.record)
        scope.constants, scope.temporaries = self.constants, self._temporaries
        source = expression.code(scope)
        self._temporaries = scope.temporaries
        return source

    def scope(self, record: Record) -> Scope:
        """Return how an expression reaches the event at hand with these data."""
        event = self.event
        return Scope(
            data=record.data, id=f"{event}.id", time=f"{event}.time", key=f"{event}.key", source=f"{event}.source",
            topic=f"{event}.topic", meta=f"{event}.meta", arrival=f"{event}.arrival", fields=record.fields,
            types=record.types,
        )  # fmt: skip

    def shaped(self, shape: Shape) -> dict[str, str]:
        """Write the conversion of the data; return the source of each field of the shape."""
        converted = self.name("r")
        self.line(f"{converted} = {self.bind(msgspec.convert)}({self.data}, {self.bind(shape.struct)})")
        return {name: f"{converted}.{python}" for name, python in shape.names.items()}

    def with_fields(self, fields: Iterable[tuple[str, Expression]]) -> Record:
        """Write assignments, one after the other; return the data with them. A later one sees the earlier ones."""
        record = Record(self.record.data, self.record.fields, self.record.types)
        if record.fields is None:
            data = self.name("d")
            self.line(f"{data} = {{**{record.data}}}")
            record = Record(data)
        for name, expression in fields:
            source = self.expression(expression, record)
            if record.fields is None:
                self.line(f"{record.data}[{name!r}] = {source}")
            else:
                value = self.name("w")
                self.line(f"{value} = {source}")
                record.types[name] = expression.evident(record.types)
                record.fields[name] = value
        return record

    def with_value(self, name: str, source: str, type_: Type = ANY) -> Record:
        """Write the assignment of one field from Python source; return the data with it."""
        value = self.name("w" if self.record.fields is not None else "d")
        if self.record.fields is None:
            self.line(f"{value} = {{**{self.data}, {name!r}: {source}}}")
            return Record(value)
        self.line(f"{value} = {source}")
        return Record(fields=self.record.fields | {name: value}, types=self.record.types | {name: type_})

    def same(self, output: str = "") -> None:
        """Let the event through as it is, to the main output or a side output."""
        self.line(f"{self.sides[output] if output else self.out} = {self.event}")
        self.shared = self.shared or not self.owned or bool(self.sides)

    def go_on(self, record: Record) -> None:
        """Let the event through with other data."""
        if self.owned:
            self.line(f"{self.event}.data = {record.data}")
            self.same()
        else:
            self.line(f"{self.out} = {self.event}.derive({record.data})")

    def changed(self, data: str) -> None:
        """Let the event through with other data (Python source of a new dict)."""
        self.go_on(Record(data))
