"""Write the function that takes all records of a chunk at once, from decoded payload to port, without an event between.

It is a stage once more, for chains whose nodes all write their own code: fields live in local variables, an event is
made where a chain ends, counts that are evident are not counted. It has no handlers: at an exception the record (of a
keyed node: the chunk) goes the careful way (engine.stage), which knows what to say of it.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec

from engine.code_writer import Record, Shape
from engine.component import Stateful, Stateless
from engine.decode import Decode, decode_each, decode_lines, decoder_of, payload_of
from engine.event_time import event_time
from engine.expression_check import Type
from engine.flow import Flow, Input, Node
from engine.fused_lines import COLUMNS, FusedCode
from engine.keyed import SHARDS
from engine.node_faults import key_text
from engine.topic_levels import levels_of

CACHED_KEYS = 1_000_000
MOST_LINES, DEEPEST = 3_000, 60
OF_EVENT = ("e.id", "e.topic", "e.arrival", "e.meta")
EXACT = (str, int | float, bool, list[Any], dict[str, Any], Any)
"""Types whose values are the same before and after the conversion."""


class Unfit(Exception):
    """The chain of a source has a part that does not write its own code."""


class FusedWriter:
    """Writes what it can of the sources' stage: `sources` are those whose records it takes, with their decoders."""

    def __init__(self, flow: Flow, sinks: list[str], keyed: list[str]) -> None:
        self.flow, self.sinks, self.keyed = flow, sinks, keyed
        self.code = FusedCode()
        self.alone = len(flow.section("sources")) == 1
        self.sources: dict[str, Decode] = {}
        self._counts: dict[str, list[str]] = defaultdict(list)
        self._counters = 0

    def write(self) -> str:
        """Return the source of `fused(size, numbers, columns)`: what the ports get, by port, and the counts.

        `numbers` has a byte a record, the place of its source among `sources`; where the flow has one source only there
        are none.
        """
        bodies = [body for source in self.flow.section("sources") if (body := self._fitting(source))]
        lines = ["def fused(size, numbers, columns):", *self._head()]
        columns = f"r, {', '.join(COLUMNS)}"
        if self.alone:
            lines += ["    m0 = size", f"    for {columns} in columns:", *(bodies[0] if bodies else ["        pass"])]
            return "\n".join([*lines, self._tail()]) + "\n"
        lines += [f"    m{at} = numbers.count({at})" for at in range(len(bodies))]
        lines.append(f"    for n, {columns} in columns:")
        for at, body in enumerate(bodies):
            lines += [f"        {'el' if at else ''}if n == {at}:", *body]
        return "\n".join([*lines, self._tail()]) + "\n"

    def write_after(self, entries: list[str]) -> str:
        """Return the source of `fused(runs)` for what follows a keyed node; raises Unfit."""
        code, body = self.code, list[str]()
        code.columns, code.depth = OF_EVENT, 4
        for at, entry in enumerate(entries):
            code.lines, code.frames, record = [], [{}], Record("d")
            code.source, code.key, code.time = "e.source", "e.key", "e.time"
            code.frames[0][record, code.key, code.time] = "e"
            self._takers(Input.parse(entry), record, f"m{at}")
            body += [f"        {'el' if at else ''}if entry == {entry!r}:", f"            m{at} += len(events)"]
            body += ["            for e in events:", "                d = e.data", *code.lines]
        lines = ["def fused(runs):", *self._head(), *(f"    m{at} = 0" for at in range(len(entries)))]
        loop = ["    for entry, events in runs:", *(body or ["        pass"])]
        return "\n".join([*lines, *loop, self._tail()]) + "\n"

    def _head(self) -> list[str]:
        lines = [f"    s{at} = []; s{at}a = s{at}.append" for at in range(len(self.sinks))]
        shards = f"[[] for _ in range({len(SHARDS)})]"
        lines += [f"    q{at} = {shards}; q{at}a = [shard.append for shard in q{at}]" for at in range(len(self.keyed))]
        return [*lines, *(f"    n{number} = 0" for number in range(self._counters))]

    def _tail(self) -> str:
        counts = "".join(f"({name!r}, {' + '.join(found)}), " for name, found in self._counts.items())
        sinks = "".join(f"s{at}, " for at in range(len(self.sinks)))
        keyed = "".join(f"q{at}, " for at in range(len(self.keyed)))
        return f"    return ({sinks}), ({keyed}), ({counts})"

    def _fitting(self, source: Node) -> list[str]:
        """Return the lines for the records of one source, none where it does not fit; all counts are as before then."""
        code, counts, counters = self.code, {name: list(found) for name, found in self._counts.items()}, self._counters
        code.lines, code.depth, code.frames = [], 2 if self.alone else 3, [{}]
        try:
            decoder = self._source(source)
        except Unfit:
            self._counts, self._counters = defaultdict(list, counts), counters
            return []
        self.sources[source.name] = decoder
        return code.lines

    def _source(self, source: Node) -> Decode:
        plain = payload_of(source) == "json"
        if not plain and levels_of(source.component):
            raise Unfit
        code, shape = self.code, self._shape(source) if plain else None
        code.node, code.source, code.key, code.time = source, repr(source.name), "''", "at"
        if shape is not None:
            fields = {name: f"r.{python}" for name, python in shape.names.items()}
            record = Record(fields=fields, types=shape.types)
            code.raw = record, shape
            if not fields:
                code.line("if r is None: raise EventFault('validation')")
        else:
            record, code.raw = Record("r"), None
            code.line("if r.__class__ is not dict: raise EventFault('decode')")
        self._own_time(source, record)
        count = f"m{len(self.sources)}"
        with self._passed(source, record, count) as inside:
            self._takers(Input(source.name), record, inside)
        if not plain:
            return partial(decode_each, decoder_of(source))
        return partial(decode_lines, msgspec.json.Decoder(shape.struct if shape else Any))

    def _own_time(self, source: Node, record: Record) -> None:
        if field := getattr(source.component, "time", None):
            value = f"r.get({field!r})" if record.fields is None else record.fields[field]
            self.code.time = self.code.name("u")
            self.code.line(f"{self.code.time} = {self.code.bind(event_time)}({value}, {field!r}, at)")

    def _shape(self, source: Node) -> Shape | None:
        """Return the shape to decode into at once: that of the only taker, with what is read before."""
        takers = self.flow.consumers(source.name)
        shape = getattr(takers[0][0].component, "shape", None) if len(takers) == 1 and not takers[0][1] else None
        if not isinstance(shape, Shape):
            return None
        read = [e for node in (source, takers[0][0]) for e in (node.where, node.key) if e is not None]
        used = {field for expression in read for field in expression.fields}
        if any("data" in expression.uses_meta for expression in read):
            return None
        if any(field in shape.fields and shape.fields[field][0] not in EXACT for field in used):
            return None
        if time := getattr(source.component, "time", None):
            used.add(time)
        return shape.extended(used - shape.fields.keys())

    @contextmanager
    def _passed(self, node: Node, record: Record, count: str) -> Iterator[str]:
        """Write a node's `where` and `key` around what follows; give the count of what gets there."""
        code, before = self.code, self.code.key
        code.node, code.record = node, record
        if node.where is None:
            self._key(node)
            yield count
        else:
            inside = self._counter()
            self._counts[f"filtered {node.name}"].append(f"{count} - {inside}")
            with code.block(f"if {code.expression(node.where)}:"):
                code.line(f"{inside} += 1")
                self._key(node)
                yield inside
        code.key = before

    def _counter(self) -> str:
        self._counters += 1
        return f"n{self._counters - 1}"

    def _key(self, node: Node) -> None:
        if node.key is None:
            return
        code = self.code
        source, type_ = code.expression(node.key), node.key.evident(code.record.types)
        if type_ != Type("text"):
            source = f"{code.bind(key_text)}({source})"
        key = (code.record, source)
        known = next((frame[key] for frame in code.frames if key in frame), "")
        if not known:
            known = code.frames[-1][key] = code.name("y")
            code.line(f"{known} = {source}")
        code.key = known

    def _takers(self, wire: Input, record: Record, count: str) -> None:
        code = self.code
        if len(code.lines) > MOST_LINES or code.depth > DEEPEST:
            raise Unfit
        self._counts[str(wire)].append(count)
        key, time = code.key, code.time
        for node, output in self.flow.consumers(wire.node):
            if output == wire.output:
                self._node(node, record, count)
                code.key, code.time = key, time

    def _node(self, node: Node, record: Record, count: str) -> None:
        if node.section != "sinks" and not isinstance(node.component, Stateful):
            self._stateless(node, record, count)
            return
        with self._passed(node, record, count):
            if node.section == "sinks":
                self.code.line(f"s{self.sinks.index(node.name)}a({self.code.made()})")
            else:
                self._shard(node)

    def _shard(self, node: Node) -> None:
        code, port = self.code, f"q{self.keyed.index(node.name)}a"
        event = code.made()
        if not getattr(node.component, "keyed", True):
            code.line(f"{port}[0]({event})")
            return
        shard = ("shard", code.key)
        known = next((frame[shard] for frame in code.frames if shard in frame), "")
        if not known:
            known = code.frames[-1][shard] = code.name("z")
            self._route(known)
        code.line(f"{port}[{known}]({event})")

    def _route(self, shard: str) -> None:
        code = self.code
        shards = code.bind({})
        code.line(f"{shard} = {code.bind(code.constants[shards].get)}({code.key})")
        with code.block(f"if {shard} is None:"):
            code.line(f"if len({shards}) >= {CACHED_KEYS}: {shards}.clear()")
            code.line(f"{shard} = {shards}[{code.key}] = crc32({code.key}.encode()) % {len(SHARDS)}")

    def _stateless(self, node: Node, record: Record, count: str) -> None:
        component, code = node.component, self.code
        if not isinstance(component, Stateless):
            raise Unfit
        wired = {output for _, output in self.flow.consumers(node.name)} | {""}
        passed: list[str] = []
        untaken: list[str] = []
        with self._passed(node, record, count) as inside:
            depth = code.depth

            def then(after: Record, output: str) -> None:
                through = inside
                if code.depth > depth:
                    through = self._counter()
                    code.line(f"{through} += 1")
                passed.append(through)
                if output in wired:
                    self._takers(Input(node.name, output), after, through)
                else:
                    untaken.append(through)

            code.then = then
            if not component.code(code):
                raise Unfit
        self._left(node, inside, passed, untaken)

    def _left(self, node: Node, inside: str, passed: list[str], untaken: list[str]) -> None:
        """Count what came into a stateless node and did not go on, and what it made of one to several outputs."""
        filtered = [] if passed == [inside] else [" - ".join([inside, *passed])]
        if node.component.side_outputs().keys() - {node.component.fault_output}:
            self._counts[f"made {node.name}"].append(f"{' + '.join(passed)} - {inside}")
            filtered = untaken
        if filtered:
            self._counts[f"filtered {node.name}"] += filtered
