"""Write one Python function for a stretch of stateless nodes.

Every node becomes a few inlined lines with its own `try`, so that one bad event costs itself only; the function takes
(entry, events) runs and fills the lists of the ports where the stretch ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from engine.component import Stateful, Stateless
from engine.expressions import Expression, Scope
from engine.flow import Flow, Input, Node
from engine.keyed import SHARDS
from engine.node_faults import explainer, key_text
from engine.outputs import DEAD, Outputs

CACHED_KEYS = 1_000_000
DEEPEST, MOST_LOOPS = 40, 8


class Code:
    """The function being written; a component writes with `line`, `bind`, `expression`, `same` and `changed`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.depth = 1
        self.loops = 0
        self.names = self._temporaries = 0
        self.event = self.data = self.out = ""
        self.owned = False
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

    def changed(self, data: str) -> None:
        """Let the event through with other data (Python source of a new dict)."""
        if self.owned:
            self.line(f"{self.event}.data = {data}")
            self.same()
        else:
            self.line(f"{self.out} = {self.event}.derive({data})")


class StageWriter:
    """Walks the stateless nodes below each entry and writes them; `sinks` and `keyed` are where the stretch ends.

    Each is written in place once; what is reached again, or lies too deep for Python, is a function of its own.
    """

    def __init__(self, flow: Flow, entries: list[str], *, owned: bool) -> None:
        self.flow, self.entries, self.owned = flow, entries, owned
        self.code = Code()
        self.sinks: list[str] = []
        self.keyed: list[str] = []
        self._counters: dict[str, str] = {}
        self._written: set[str] = set()
        self._parts: dict[str, str] = {}

    def write(self) -> str:
        """Return the source of the function `stage(runs, drop)`."""
        code = self.code
        code.depth = 2
        for number, entry in enumerate(self.entries):
            with code.block(f"{'el' if number else ''}if entry == {entry!r}:"), code.block("for e0 in events:"):
                self._feed(Input.parse(entry), "e0", owned=self.owned)
        body, code.lines, code.depth = code.lines or ["        pass"], [], 1
        parts = self._write_parts()
        code.line("; ".join([f"s{i} = []" for i in range(len(self.sinks))] or ["pass"]))
        for i in range(len(self.keyed)):
            code.line(f"q{i} = [[] for _ in range({len(SHARDS)})]")
        code.line("; ".join([f"{variable} = 0" for variable in self._counters.values()] or ["pass"]))
        head, code.lines = code.lines, []
        counts = "".join(f"({name!r}, {variable}), " for name, variable in self._counters.items())
        lists = "".join(f"s{i}, " for i in range(len(self.sinks))), "".join(f"q{i}, " for i in range(len(self.keyed)))
        tail = f"    return ({lists[0]}), ({lists[1]}), ({counts})"
        loop = "    for entry, events in runs:"
        return "\n".join(["def stage(runs, drop):", *head, *parts, loop, *body, tail]) + "\n"

    def _write_parts(self) -> list[str]:
        """Write the functions that were called so far, and those that they call."""
        code, found = self.code, list[str]()
        done: set[str] = set()
        while waiting := [wire for wire in self._parts if wire not in done]:
            wire = waiting[0]
            done.add(wire)
            code.depth, code.loops = 2, 0
            self._takers(Input.parse(wire), "e", owned=False)
            body, code.lines = code.lines, []
            used = [name for name in self._counters.values() if any(f"{name} += 1" in line for line in body)]
            found += [f"    def {self._parts[wire]}(e):", f"        nonlocal {', '.join(used)}", *body]
        code.depth = 1
        return found

    def _feed(self, wire: Input, event: str, *, owned: bool) -> None:
        """Write all that takes from a wire, one after the other, or the call of its function."""
        if not wire.output and (source := self.flow.nodes[wire.node]).section == "sources":
            event = self._entry(source, event)
        with self.code.block(f"if {event} is not None:"):
            if part := self._part(str(wire)):
                self.code.line(f"{part}({event})")
            else:
                self._takers(wire, event, owned=owned)

    def _part(self, wire: str) -> str:
        """Return the function of a wire that is written elsewhere; an empty string: write it here."""
        again, deep = wire in self._written, self.code.depth > DEEPEST or self.code.loops > MOST_LOOPS
        self._written.add(wire)
        return self._parts.setdefault(wire, f"p{len(self._parts)}") if again or deep or wire in self._parts else ""

    def _takers(self, wire: Input, event: str, *, owned: bool) -> None:
        takers = [node for node, output in self.flow.consumers(wire.node) if output == wire.output]
        self.code.line(f"{self._counter(str(wire))} += 1")
        for node in takers:
            self._node(node, event, owned and len(takers) == 1)

    def _counter(self, name: str) -> str:
        return self._counters.setdefault(name, f"n{len(self._counters)}")

    def _entry(self, source: Node, event: str) -> str:
        """Apply what a source says of every event: `where` and `key`."""
        if source.where is None and source.key is None:
            return event
        return self._guarded(source, event, True, lambda: self.code.same())

    def _node(self, node: Node, event: str, owned: bool) -> None:
        if node.section == "sinks":
            self._guarded(node, event, owned, lambda: self.code.line(f"{self._sink(node)}.append({event})"))
        elif isinstance(node.component, Stateful):
            self._guarded(node, event, owned, lambda: self._shard(node))
        else:
            self._stateless(node, event, owned)

    def _guarded(self, node: Node, event: str, owned: bool, write: Callable[[], None]) -> str:
        """Write a node's `where` and `key` and then `write`, in a try of its own; return the variable of its output."""
        code = self.code
        code.event, code.data, code.out, code.owned, code.node = event, code.name("d"), code.name("e"), owned, node
        out, fault = code.out, code.name("x")
        code.line(f"{out} = {fault} = None")
        with code.block("try:"):
            code.line(f"{code.data} = {event}.data")
            if node.where is not None:
                with code.block(f"if {code.expression(node.where)}:"):
                    self._key(node)
                    write()
            else:
                self._key(node)
                write()
        self._caught(node, event, fault)
        return out

    def _caught(self, node: Node, event: str, fault: str) -> None:
        code = self.code
        wired = self._fault_output(node)
        with code.block("except Exception as fault:"):
            code.line(f"{fault} = {code.bind(explainer(node))}(fault, {event})")
        with code.block(f"if {fault} is not None:"):
            code.line(f"drop({node.name!r}, {event}, {fault})")
            if wired:
                bad = code.name("e")
                code.line(f"{bad} = {event}.derive({{**{event}.data, 'reason': str({fault})}})")
                self._feed(Input(node.name, wired), bad, owned=False)

    def _fault_output(self, node: Node) -> str:
        wired = {output for _, output in self.flow.consumers(node.name)}
        return next((name for name in (node.component.fault_output, "errors") if name in wired), "")

    def _key(self, node: Node) -> None:
        if node.key is None:
            return
        code = self.code
        key, event = code.name("y"), code.event
        code.line(f"{key} = {code.bind(key_text)}({code.expression(node.key)})")
        if not code.owned:
            code.event = code.name("e")
            code.line(f"{code.event} = {event}")
        with code.block(f"if {event}.key != {key}:"):
            if not code.owned:
                code.line(f"{code.event} = {event}.derive({event}.data)")
            code.line(f"{code.event}.key = {key}")

    def _sink(self, node: Node) -> str:
        if node.name not in self.sinks:
            self.sinks.append(node.name)
        return f"s{self.sinks.index(node.name)}"

    def _shard(self, node: Node) -> None:
        if node.name not in self.keyed:
            self.keyed.append(node.name)
        code, port = self.code, f"q{self.keyed.index(node.name)}"
        if not getattr(node.component, "keyed", True):
            code.line(f"{port}[0].append({code.event})")
            return
        shards = code.bind({})
        code.line(f"i = {shards}.get({code.event}.key)")
        with code.block("if i is None:"):
            code.line(f"if len({shards}) >= {CACHED_KEYS}: {shards}.clear()")
            code.line(f"i = {shards}[{code.event}.key] = crc32({code.event}.key.encode()) % {len(SHARDS)}")
        code.line(f"{port}[i].append({code.event})")

    def _stateless(self, node: Node, event: str, owned: bool) -> None:
        component = node.component
        if not isinstance(component, Stateless):
            raise TypeError(f"node '{node.name}' is neither stateless nor stateful")
        several = bool(component.outputs.keys() - {component.fault_output})
        inlined: list[bool] = []
        wired = frozenset(output for _, output in self.flow.consumers(node.name))
        outputs = (
            ""
            if type(component).code is not Stateless.code and not several
            else self.code.bind(Outputs(node.name, wired, component.fault_output), "o")
        )

        def write() -> None:
            inlined.append(not outputs and component.code(self.code))
            if not inlined[0]:
                self.code.line(f"{self.code.bind(component.apply)}({self.code.event}, {outputs})")
                self.code.line(f"{self.code.out} = {outputs}")

        out = self._guarded(node, event, owned, write)
        if inlined[0]:
            self._feed(Input(node.name), out, owned=True)
        else:
            self._emitted(node, out, outputs, wired)

    def _emitted(self, node: Node, out: str, outputs: str, wired: frozenset[str]) -> None:
        code = self.code
        run, made = code.name("r"), code.name("e")
        with code.block(f"for {run} in {outputs}.take():"), code.block(f"for {made} in {run}[1]:"):
            code.line(
                f"if {run}[0] == {DEAD!r}: drop({node.name!r}, {made}.event, EventFault({made}.reason, {made}.values))"
            )
            for output in ("", *sorted(wired - {""})):
                with code.block(f"elif {run}[0] == {output!r}:"):
                    self._feed(Input(node.name, output), made, owned=False)
