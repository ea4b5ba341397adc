"""The Python function that is being written for a stretch of nodes: its lines, its constants, and the event at hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from engine.expressions import Expression, Scope
from engine.flow import Node


class Code:
    """The function being written; a component writes with `line`, `bind`, `expression`, `same` and `changed`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.depth = 1
        self.loops = 0
        self.names = self._temporaries = 0
        self.event = self.data = self.out = ""
        self.owned = self.shared = False
        self.node: Node

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

    def expression(self, expression: Expression, data: str = "") -> str:
        """Return the Python source of an expression on the current event."""
        event = self.event
        scope = Scope(
            data=data or self.data, id=f"{event}.id", time=f"{event}.time", key=f"{event}.key",
            source=f"{event}.source", topic=f"{event}.topic", meta=f"{event}.meta", arrival=f"{event}.arrival",
            constants=self.constants, temporaries=self._temporaries,
        )  # fmt: skip
        source = expression.code(scope)
        self._temporaries = scope.temporaries
        return source

    def same(self) -> None:
        """Let the event through as it is."""
        self.line(f"{self.out} = {self.event}")
        self.shared = self.shared or not self.owned

    def changed(self, data: str) -> None:
        """Let the event through with other data (Python source of a new dict)."""
        if self.owned:
            self.line(f"{self.event}.data = {data}")
            self.same()
        else:
            self.line(f"{self.out} = {self.event}.derive({data})")
