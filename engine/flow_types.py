"""Which fields, of which types, are on each wire of a flow, and what that says about the expressions that name them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.component import Operator, Source
from engine.document import Where
from engine.expression_check import Type, union
from engine.expressions import Expression
from engine.flow import Flow, Input, Node
from engine.model_faults import shown
from engine.problem import Problem
from engine.wiring import place_of

Fields = Mapping[str, Type]
REASON = {"reason": Type("text")}
MOST = 200_000
"""How many fields are known on all wires together: a hostile file could ask for gigabytes."""


class Wires:
    """What is known of the events on each wire: all fields that they may have, or None.

    A field that only some inputs of a node have may be none; where one input is not known, nothing is.
    """

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._on: dict[Input, Fields | None] = {}
        self._given: dict[str, Fields | None] = {}
        self._left, self._counted = MOST, dict[int, Fields]()
        for node in _in_order(flow):
            self._given[node.name] = self._bounded(joined([self.on(wire) for wire in node.main_inputs]))

    def given(self, node: Node) -> Fields | None:
        """Return the fields that an operator or sink gets, or that a source gives to its own `where` and `key`."""
        if isinstance(node.component, Source):
            return self.on(Input(node.name))
        return self._given.get(node.name)

    def on(self, wire: Input) -> Fields | None:
        """Return the fields on a wire."""
        if wire not in self._on:
            self._on[wire] = self._bounded(self._gives(wire))
        return self._on[wire]

    def _bounded(self, fields: Fields | None) -> Fields | None:
        """Return the fields, or None where there are too many; what several wires share counts once."""
        if fields is not None and id(fields) not in self._counted:
            self._left -= len(fields)
            self._counted[id(fields)] = fields
        return fields if self._left > 0 else None

    def _gives(self, wire: Input) -> Fields | None:
        node = self._flow.nodes.get(wire.node)
        component = node.component if node else None
        if isinstance(component, Source):
            return None if wire.output else component.gives()
        if not isinstance(component, Operator):
            return None
        found = component.gives(self._given.get(wire.node), wire.output)
        faulty = wire.output in ("errors", component.fault_output)
        return {**found, **REASON} if faulty and found is not None else found


def joined(inputs: Sequence[Fields | None]) -> Fields | None:
    """Return the fields of events that come from several wires."""
    known = [fields for fields in inputs if fields is not None]
    if not known or len(known) < len(inputs):
        return None
    if len(known) == 1:
        return known[0]
    names = dict.fromkeys(name for fields in known for name in fields)
    return {name: _common([fields.get(name) for fields in known]) for name in names}


def _common(types: Sequence[Type | None]) -> Type:
    found = union([one for one in types if one is not None])
    return found._replace(null=True) if None in types else found


def _in_order(flow: Flow) -> Iterator[Node]:
    """Yield nodes after those that they take from; what is in a circle, or behind one, does not come."""
    waits = Counter({node.name: len([w for w in node.inputs if w.node in flow.nodes]) for node in flow.nodes.values()})
    takers: dict[str, list[Node]] = {}
    for node in flow.nodes.values():
        for wire in node.inputs:
            takers.setdefault(wire.node, []).append(node)
    ready = [node for node in flow.nodes.values() if not waits[node.name]]
    for node in ready:
        yield node
        for taker in takers.get(node.name, ()):
            waits[taker.name] -= 1
            if not waits[taker.name]:
                ready.append(taker)


def check_types(flow: Flow) -> None:
    """Add a finding for each field that is none of those on a wire, and each expression that cannot hold there."""
    wires = Wires(flow)
    for node in flow.nodes.values():
        given = wires.given(node)
        if given is not None:
            for where, option, expression, fields in _read(flow, node, given):
                _check_expression(flow, node, where, option, expression, fields)
            for problem in node.component.check_fields(flow, node, given):
                _tell(flow, node, problem)


def _read(flow: Flow, node: Node, given: Fields) -> Iterator[tuple[Where, str, Expression, Fields]]:
    for option, expression in (("where", node.where), ("key", node.key)):
        if expression is not None:
            yield _common_place(flow, node, option), option, expression, given
    for option, expression, fields in node.component.reads(given):
        where, shown_as = _option_place(flow, node, option)
        yield where, shown_as, expression, fields


def _common_place(flow: Flow, node: Node, option: str) -> Where:
    """Return where an option of every node stands: in a step, or beside `steps`."""
    at = (*place_of(flow, node), option)
    return at if flow.document.has(at) else (node.section, node.name.partition("/")[0], option)


def _option_place(flow: Flow, node: Node, option: str) -> tuple[Where, str]:
    """Return where an option of the kind stands, under its name or as what the kind takes directly, and its path."""
    kind, path = place_of(flow, node, node.kind), option.split(".") if option else []
    if path[:1] == [node.component.shorthand] and not flow.document.has((*kind, *_steps(path))):
        path = path[1:]
    return (*kind, *_steps(path)), ".".join(path)


def _steps(path: Sequence[str]) -> Iterable[str | int]:
    return (int(part) if part.isdecimal() else part for part in path)


def _check_expression(
    flow: Flow, node: Node, where: Where, option: str, expression: Expression, fields: Fields
) -> None:
    text, told = expression.text, _told(flow, node)
    for fault in expression.faults(fields, flow.document.guess):
        message, hint = f"{fault.message}; in {shown(text)}", fault.hint or ""
        flow.document.find(
            fault.code, where, message, node=told.name, option=option, hint=hint, text=text, offset=fault.column
        )


def _tell(flow: Flow, node: Node, problem: Problem) -> None:
    told = _told(flow, node)
    where, option = _option_place(flow, told, problem.option if told is node else "")
    flow.document.find(problem.code, where, problem.message, node=told.name, option=option, hint=problem.hint)


def _told(flow: Flow, node: Node) -> Node:
    """Return the node, or the one that it came with."""
    written = flow.document.has((node.section, node.name.partition("/")[0]))
    return node if written or not node.inputs else flow.nodes[node.inputs[0].node]
