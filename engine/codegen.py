"""Write one Python function for a stretch of stateless nodes.

Every node becomes a few inlined lines with its own `try`, so that one bad event costs itself only; the function takes
(entry, events) runs and fills the lists of the ports where the stretch ends.
"""

from collections.abc import Callable, Mapping

from engine.code_writer import Code, Record
from engine.component import Stateful, Stateless
from engine.event import Event
from engine.flow import Flow, Input, Node
from engine.keyed import SHARDS
from engine.node_faults import explainer, key_text
from engine.outputs import DEAD, Outputs
from engine.retry import ENTRY

CACHED_KEYS = 1_000_000
DEEPEST, MOST_LOOPS = 40, 8


def _sides(node: Node) -> list[str]:
    """Return the side outputs of a stateless node that faults do not go to."""
    component = node.component
    if not isinstance(component, Stateless):
        return []
    return [output for output in component.side_outputs() if output != component.fault_output]


class StageWriter:
    """Walks the stateless nodes below each entry and writes them; `sinks` and `keyed` are where the stretch ends.

    Each is written in place once; what is reached again, or lies too deep for Python, is a function of its own.
    """

    def __init__(
        self, flow: Flow, entries: list[str], *, owned: bool, taps: Mapping[str, Callable[[Event], None]] | None = None
    ) -> None:
        self.flow, self.entries, self.owned, self.taps = flow, entries, owned, taps or {}
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
                self._begin(entry)
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

    def _begin(self, entry: str) -> None:
        """Write what takes from an entry: a wire, or the node (`>node`) where an event is put in that failed there."""
        if entry.startswith(ENTRY):
            node = self.flow.nodes[entry.removeprefix(ENTRY)]
            self.code.line(f"{self._counter(entry)} += 1")
            self._node(node, "e0", owned=False)
        else:
            self._feed(Input.parse(entry), "e0", owned=self.owned)

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
            used = [name for name in self._counters.values() if any(f"{name} += " in line for line in body)]
            found += [f"    def {self._parts[wire]}(e):", f"        nonlocal {', '.join(used)}", *body]
        code.depth = 1
        return found

    def _feed(self, wire: Input, event: str, *, owned: bool) -> None:
        """Write all that takes from a wire, one after the other, or the call of its function."""
        fault = ""
        if not wire.output and (source := self.flow.nodes[wire.node]).section == "sources":
            event, fault = self._entry(source, event)
        with self.code.block(f"if {event} is not None:"):
            if part := self._part(str(wire)):
                self.code.line(f"{part}({event})")
            else:
                self._takers(wire, event, owned=owned)
        if fault:
            self._filtered(self.flow.nodes[wire.node], f"elif {fault} is None:")

    def _filtered(self, node: Node, otherwise: str) -> None:
        with self.code.block(otherwise):
            self.code.line(f"{self._counter(f'filtered {node.name}')} += 1")

    def _part(self, wire: str) -> str:
        """Return the function of a wire that is written elsewhere; an empty string: write it here."""
        again, deep = wire in self._written, self.code.depth > DEEPEST or self.code.loops > MOST_LOOPS
        self._written.add(wire)
        return self._parts.setdefault(wire, f"p{len(self._parts)}") if again or deep or wire in self._parts else ""

    def _takers(self, wire: Input, event: str, *, owned: bool) -> None:
        takers = [node for node, output in self.flow.consumers(wire.node) if output == wire.output]
        self.code.line(f"{self._counter(str(wire))} += 1")
        self._tap(str(wire), event)
        for node in takers:
            self._node(node, event, owned and len(takers) == 1)

    def _tap(self, wire: str, event: str) -> None:
        if wire in self.taps:
            self.code.line(f"{self.code.bind(self.taps[wire])}({event})")

    def _counter(self, name: str) -> str:
        return self._counters.setdefault(name, f"n{len(self._counters)}")

    def _entry(self, source: Node, event: str) -> tuple[str, str]:
        """Apply what a source says of every event: `where` and `key`; return the variables of its output and fault."""
        if source.where is None and source.key is None:
            return event, ""
        return self._guarded(source, event, True, lambda: self.code.same())

    def _node(self, node: Node, event: str, owned: bool) -> None:
        if node.section == "sinks":
            self._guarded(node, event, owned, lambda: self.code.line(f"{self._sink(node)}.append({event})"))
        elif isinstance(node.component, Stateful):
            self._guarded(node, event, owned, lambda: self._shard(node))
        else:
            self._stateless(node, event, owned)

    def _guarded(self, node: Node, event: str, owned: bool, write: Callable[[], None]) -> tuple[str, str]:
        """Write a node's `where` and `key`, then `write`, in a try; return the variables of its output and fault."""
        code = self.code
        data = code.name("d")
        code.event, code.record, code.out, code.owned, code.node = event, Record(data), code.name("e"), owned, node
        code.sides = {output: code.name("e") for output in _sides(node)}
        out, fault = code.out, code.name("x")
        code.line(" = ".join([out, *code.sides.values(), fault, "None"]))
        with code.block("try:"):
            code.line(f"{data} = {event}.data")
            if node.where is not None:
                with code.block(f"if {code.expression(node.where)}:"):
                    self._key(node)
                    write()
                if node.section == "sinks" or isinstance(node.component, Stateful):
                    self._filtered(node, "else:")
            else:
                self._key(node)
                write()
        self._caught(node, event, fault)
        return out, fault

    def _caught(self, node: Node, event: str, fault: str) -> None:
        code = self.code
        wired = self._fault_output(node)
        with code.block("except Exception as fault:"):
            code.line(f"{fault} = {code.bind(explainer(node))}(fault, {event})")
        with code.block(f"if {fault} is not None:"):
            code.line(f"drop({node.name!r}, {event}, {fault})")
            if wired:
                bad = code.name("e")
                code.line(f"{self._counter(f'copied {node.name}')} += 1")
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
        shared: list[bool] = []
        outputs: list[str] = []
        sides: dict[str, str] = {}
        wired = frozenset(output for _, output in self.flow.consumers(node.name))

        def write() -> None:
            self.code.shared = False
            inlined = component.code(self.code)
            shared.append(self.code.shared)
            sides.update(self.code.sides)
            if not inlined:
                outputs.append(self.code.bind(Outputs(node.name, wired, component.fault_output), "o"))
                self.code.line(f"{self.code.bind(component.apply)}({self.code.event}, {outputs[0]})")

        out, fault = self._guarded(node, event, owned, write)
        if outputs:
            self._emitted(node, fault, outputs[0], wired)
        elif sides:
            self._several(node, {"": out} | sides, fault, wired)
            return
        else:
            self._feed(Input(node.name), out, owned=not shared[0])
        self._filtered(node, f"elif {fault} is None:")

    def _several(self, node: Node, outs: dict[str, str], fault: str, wired: frozenset[str]) -> None:
        """Write where an event goes that was let through to several outputs; what nothing takes is filtered."""
        there = " + ".join(f"({event} is not None)" for event in outs.values())
        self.code.line(f"if {fault} is None: {self._counter(f'made {node.name}')} += {there} - 1")
        for output, event in outs.items():
            if not output or output in wired:
                self._feed(Input(node.name, output), event, owned=False)
            else:
                self._filtered(node, f"if {event} is not None:")
                if (wire := f"{node.name}.{output}") in self.taps:
                    with self.code.block(f"if {event} is not None:"):
                        self._tap(wire, event)

    def _emitted(self, node: Node, fault: str, outputs: str, wired: frozenset[str]) -> None:
        """Write where each of the emitted events goes; those beyond the first are counted as made."""
        code, counter = self.code, self._counter(f"made {node.name}")
        runs, run, made = code.name("r"), code.name("r"), code.name("e")
        code.line(f"{runs} = {outputs}.take()")
        with code.block(f"if {runs}:"):
            code.line(f"if {fault} is None: {counter} += -1")
            with code.block(f"for {run} in {runs}:"):
                code.line(f"{counter} += len({run}[1])")
                with code.block(f"for {made} in {run}[1]:"):
                    for wire in (wire for wire in map(Input.parse, self.taps) if wire.node == node.name):
                        if wire.output and wire.output not in wired:
                            with code.block(f"if {run}[0] == {wire.output!r}:"):
                                self._tap(str(wire), made)
                    reason = f"EventFault({made}.reason, {made}.values)"
                    code.line(f"if {run}[0] == {DEAD!r}: drop({node.name!r}, {made}.event, {reason})")
                    for output in ("", *sorted(wired - {""})):
                        with code.block(f"elif {run}[0] == {output!r}:"):
                            self._feed(Input(node.name, output), made, owned=False)
                    self._filtered(node, "else:")
