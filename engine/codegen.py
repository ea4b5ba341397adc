"""Write one Python function for a stretch of stateless nodes.

Every node becomes a few inlined lines with its own `try`, so that one bad event costs itself only; the function takes
(entry, events) runs and fills the lists of the ports where the stretch ends.
"""

import linecache
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from zlib import crc32

from engine.component import Stateful, Stateless
from engine.dead import DeadLetter, dead_letter
from engine.errors import EventFault
from engine.event import Event
from engine.expressions import Expression, Scope
from engine.flow import Flow, Input, Node
from engine.keyed import SHARDS
from engine.outputs import DEAD, Outputs

Run = tuple[str, list[Any]]
Ports = dict[str, Any]
CACHED_KEYS = 1_000_000


class Code:
    """The function being written. A component writes into it with `line`, `bind`, `expression`, `same` and `changed`."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.lines: list[str] = []
        self.constants: dict[str, Any] = {}
        self.depth = 1
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
        self.line(head)
        self.depth += 1
        yield
        self.depth -= 1

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
            data=data or self.data, id=f"{event}.id", time=f"{event}.time", key=f"{event}.key", source=f"{event}.source",
            topic=f"{event}.topic", meta=f"{event}.meta", arrival=f"{event}.arrival", constants=self.constants,
            temporaries=self._temporaries,
        )
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


class Stage:
    """A compiled stretch: `run(runs)` returns what arrives at each port; `counts` says what left each node."""

    def __init__(self, name: str, flow: Flow, entries: list[str], replying: frozenset[str]) -> None:
        self.name, self.flow, self.entries, self.replying = name, flow, entries, replying
        self.counts: dict[str, int] = {}
        self.sinks: list[str] = []
        self.keyed: list[str] = []
        self.source = ""
        self._dead: list[DeadLetter] = []
        self._function = self._compile()

    def run(self, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        """Return (port, shard, chunk): sinks have shard "", dead letters go to port "!"."""
        found: list[tuple[str, str, list[Any]]] = []
        sinks, keyed, counts = self._function(runs, self._drop)
        for name, chunk in zip(self.sinks, sinks, strict=True):
            if chunk:
                found.append((name, "", chunk))
        for name, shards in zip(self.keyed, keyed, strict=True):
            found += [(name, shard, chunk) for shard, chunk in zip(SHARDS, shards, strict=True) if chunk]
        for name, count in counts:
            self.counts[name] = self.counts.get(name, 0) + count
        dead = [letter for output, letters in runs if output == DEAD for letter in letters] + self._dead
        if dead:
            found.append((DEAD, "", [letter for letter in dead if self._wanted(letter)]))
            self._dead = []
        return found

    def _drop(self, node: str, event: Event, fault: Exception) -> None:
        self._dead.append(dead_letter(node, event, fault))

    def _wanted(self, letter: DeadLetter) -> bool:
        """Tell whether a dead letter is kept, or at least answered."""
        node = self.flow.nodes.get(letter.node)
        letter.kept = node is None or node.on_error != "drop"
        if not letter.kept:
            name = f"{letter.node}.dropped"
            self.counts[name] = self.counts.get(name, 0) + 1
        return letter.kept or letter.event.source in self.replying

    def _compile(self) -> Callable[..., Any]:
        code = Code(self.name)
        writer = _Writer(self, code)
        body = writer.write()
        self.source = body
        space = code.constants | {"Event": Event, "EventFault": EventFault, "crc32": crc32, "Outputs": Outputs}
        filename = f"<flow {self.flow.name}: {self.name}>"
        linecache.cache[filename] = (len(body), None, body.splitlines(True), filename)
        exec(compile(body, filename, "exec"), space)  # noqa: S102 - the text is ours: expressions are checked, names bound
        return space["stage"]  # type: ignore[no-any-return]


class _Writer:
    """Walks the stateless nodes below each entry and writes them."""

    def __init__(self, stage: Stage, code: Code) -> None:
        self.stage, self.code = stage, code
        self.counters: dict[str, str] = {}

    def write(self) -> str:
        code = self.code
        for number, entry in enumerate(self.stage.entries):
            with code.block(f"{'el' if number else ''}if entry == {entry!r}:"), code.block("for e0 in events:"):
                node, _, output = entry.partition(".")
                self._feed(Input(node, output), "e0", owned=self.stage.name == "sources")
        body, code.lines = [f"    {line}" for line in code.lines], []
        sinks, keyed = self.stage.sinks, self.stage.keyed
        code.line("; ".join([f"s{i} = []" for i in range(len(sinks))] or ["pass"]))
        for i in range(len(keyed)):
            code.line(f"q{i} = [[] for _ in range({len(SHARDS)})]")
        code.line("; ".join([f"{variable} = 0" for variable in self.counters.values()] or ["pass"]))
        code.line("for entry, events in runs:")
        counts = "".join(f"({name!r}, {variable}), " for name, variable in self.counters.items())
        lists = "".join(f"s{i}, " for i in range(len(sinks))), "".join(f"q{i}, " for i in range(len(keyed)))
        tail = f"    return ({lists[0]}), ({lists[1]}), ({counts})"
        return "\n".join(["def stage(runs, drop):", *code.lines, *(body or ["        pass"]), tail]) + "\n"

    def _feed(self, wire: Input, event: str, *, owned: bool) -> None:
        """Write all that takes from a wire, one after the other."""
        if not wire.output and (source := self.stage.flow.nodes[wire.node]).section == "sources":
            event = self._entry(source, event)
        takers = [node for node, output in self.stage.flow.consumers(wire.node) if output == wire.output]
        with self.code.block(f"if {event} is not None:"):
            self.code.line(f"{self._counter(str(wire))} += 1")
            for node in takers:
                self._node(node, event, owned and len(takers) == 1)

    def _counter(self, name: str) -> str:
        return self.counters.setdefault(name, f"n{len(self.counters)}")

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
            code.line(f"{fault} = {code.bind(_explain(node))}(fault, {event})")
        with code.block(f"if {fault} is not None:"):
            code.line(f"drop({node.name!r}, {event}, {fault})")
            if wired:
                bad = code.name("e")
                code.line(f"{bad} = {event}.derive({{**{event}.data, 'reason': str({fault})}})")
                self._feed(Input(node.name, wired), bad, owned=False)

    def _fault_output(self, node: Node) -> str:
        wired = {output for _, output in self.stage.flow.consumers(node.name)}
        return next((name for name in (node.component.fault_output, "errors") if name in wired), "")

    def _key(self, node: Node) -> None:
        if node.key is None:
            return
        code = self.code
        key = code.name("y")
        code.line(f"{key} = {code.bind(_key_text)}({code.expression(node.key)})")
        with code.block(f"if {code.event}.key != {key}:"):
            if not code.owned:
                code.line(f"{code.event} = {code.event}.derive({code.event}.data)")
            code.line(f"{code.event}.key = {key}")

    def _sink(self, node: Node) -> str:
        if node.name not in self.stage.sinks:
            self.stage.sinks.append(node.name)
        return f"s{self.stage.sinks.index(node.name)}"

    def _shard(self, node: Node) -> None:
        if node.name not in self.stage.keyed:
            self.stage.keyed.append(node.name)
        code, port = self.code, f"q{self.stage.keyed.index(node.name)}"
        shards = code.bind({})
        code.line(f"i = {shards}.get({code.event}.key)")
        with code.block("if i is None:"):
            code.line(f"if len({shards}) >= {CACHED_KEYS}: {shards}.clear()")
            code.line(f"i = {shards}[{code.event}.key] = crc32({code.event}.key.encode()) % {len(SHARDS)}")
        code.line(f"{port}[i].append({code.event})")

    def _stateless(self, node: Node, event: str, owned: bool) -> None:
        assert isinstance(node.component, Stateless)
        component, several = node.component, bool(node.component.outputs.keys() - {node.component.fault_output})
        inlined: list[bool] = []
        wired = frozenset(output for _, output in self.stage.flow.consumers(node.name))
        outputs = "" if type(component).code is not Stateless.code and not several else self.code.bind(
            Outputs(node.name, wired, component.fault_output), "o"
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


def _key_text(value: Any) -> str:
    """Return a key as text; a missing key is the event's fault."""
    if value is None:
        raise EventFault("key: a value; got none")
    return value if isinstance(value, str) else str(value)


def _explain(node: Node) -> Callable[[Exception, Event], Exception]:
    """Return what turns a wrong type in one of a node's expressions into a reason with the values."""
    expressions = [e for e in (node.where, node.key) if e is not None] + list(_expressions(node.component))

    def explain(fault: Exception, event: Event) -> Exception:
        meant = node.component.explain(fault, event)
        if meant is not fault or isinstance(fault, EventFault):
            return meant
        for expression in expressions:
            try:
                expression(event)
            except Exception:  # the evaluation failed as it did in the flow: say why
                values = {field: event.data.get(field) for field in sorted(expression.fields)}
                return EventFault(expression.explain(event), values)
        return fault

    return explain


def _expressions(component: Any) -> Iterator[Expression]:
    """Yield the expressions among a component's options."""
    for name in type(component).model_fields:
        value = getattr(component, name)
        for part in value.values() if isinstance(value, dict) else (value,):
            if isinstance(part, Expression):
                yield part
