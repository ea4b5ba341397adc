"""Write the loop of an operator with memory over many events: one function, its expressions inlined.

    for each event: its key, its state, its data ─▶ what may fail ─▶ what changes the state

An event that fails is left to `on_event`, where it fails the same way: so nothing is changed before all that can fail.
"""

import linecache
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from engine.code_writer import Code, Record
from engine.event import Event

Loop = Callable[[dict[str, Any], Sequence[Event], Any, Callable[[Event], None]], Iterable[str]]
"""`Stateful.on_events` without self."""


class LoopWriter(Code):
    """Writes a loop: `e` is the event, `y` its key, `s` the state or None, `d` the data, `changed` what is returned.

    Each of `lasting` is a line before the loop. Names of one letter are the writer's.
    """

    def __init__(self, lasting: Iterable[str] = ()) -> None:
        super().__init__()
        self.event, self.record, self.depth = "e", Record("d"), 0
        self.line("def loop(states, events, emit, one):")
        self.depth = 1
        for line in ("changed, find = [], states.get", *lasting, "for e in events:"):
            self.line(line)
        self.depth = 2
        self.line("y = e.key")
        self.line("s = find(y)")

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Write what may fail."""
        with self.block("try:"):
            self.line("d = e.data")
            yield
        self.leave("except Exception:")

    def leave(self, when: str) -> None:
        """Leave the event to `on_event`: `when` is the head of a block."""
        with self.block(when):
            self.line("one(e)")
            self.line("continue")

    def compiled(self, name: str) -> Loop:
        """Return the function; `name` is what tracebacks show."""
        self.depth = 1
        self.line("return changed")
        source = "\n".join(self.lines) + "\n"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        space = dict(self.constants)
        exec(compile(source, name, "exec"), space)  # noqa: S102 - the text is ours: expressions are checked, names bound
        return space["loop"]  # type: ignore[no-any-return]
