"""The lines of the function for whole chunks: a record's fields in local variables, an event where one is needed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.code_writer import Code, Record, Shape
from engine.expressions import Scope

COLUMNS = ("i", "t", "at", "m")
"""Id, topic, arrival and meta of a record, as the function has them; its data are `r`."""


class FusedCode(Code):
    """The function being written: `then` goes on with a record where a component lets the event through."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[dict[tuple[Any, ...], str]] = [{}]
        self.raw: tuple[Record, Shape] | None = None
        self.columns = COLUMNS
        self.source = self.key = self.time = ""
        self.then: Callable[[Record, str], None]

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """Write the head of a block; events that are made inside are not known after it."""
        self.frames.append({})
        with super().block(head):
            yield
        self.frames.pop()

    def scope(self, record: Record) -> Scope:
        """Return how an expression reaches the columns."""
        id_, topic, arrival, meta = self.columns
        return Scope(
            data=record.data, id=id_, time=self.time, key=self.key, source=self.source, topic=topic, meta=meta,
            arrival=arrival, fields=record.fields, types=record.types,
        )  # fmt: skip

    def shaped(self, shape: Shape) -> dict[str, str]:
        """Write the conversion of the data, unless they were decoded into this shape."""
        if self.raw is None or self.record is not self.raw[0]:
            return super().shaped(shape)
        return {name: f"r.{self.raw[1].names[name]}" for name in shape.names}

    def same(self, output: str = "") -> None:
        """Write what follows where the event is let through as it is."""
        self.go_on(self.record, output)

    def go_on(self, record: Record, output: str = "") -> None:
        """Write what follows where the event is let through with other data."""
        before = self.node, self.record, self.key, self.time, self.then
        self.then(record, output)
        self.node, self.record, self.key, self.time, self.then = before

    def made(self) -> str:
        """Return the variable of the event at hand, made here unless it was made before."""
        for frame in self.frames:
            if found := frame.get((self.record, self.key, self.time)):
                return found
        event = self.frames[-1][self.record, self.key, self.time] = self.name("e")
        id_, topic, arrival, meta = self.columns
        values = f"{id_}, {self.time}, {self.key}, {self.source}, {topic}, {self.data}, {meta}, {arrival}"
        self.line(f"{event} = Event({values})")
        return event
