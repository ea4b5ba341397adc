"""What the tests of a flow reach: nodes that saw events, and ways that events took at each.

The ways of a node are: its `where` true and false, each of its outputs where several are taken from, and the changes of
an alert. Nodes that a component brings with it, which do not stand in the file, do not count.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from engine.event import Event
from engine.expressions import WRONG, Expression
from engine.flow import Flow, Node
from engine.flow_tests import FlowTest
from engine.harness import Harness
from engine.testing import played


class Coverage(msgspec.Struct):
    """What the tests of one flow reach; `percent` is rounded down, of nodes and ways together."""

    flow: str
    percent: int
    nodes: int
    ways: int
    not_reached: list[str]
    not_taken: list[str]

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        count = self.nodes + self.ways
        missed = len(self.not_reached) + len(self.not_taken)
        yield f"coverage of {self.flow}: {self.percent} % ({count - missed} of {count} nodes and ways)"
        for said, names in (("never reached", self.not_reached), ("never taken", self.not_taken)):
            if names:
                yield f"     {said}: {', '.join(names)}"


def coverage(flow: Flow) -> Coverage:
    """Return what all tests of a flow reach together; each is run with every wire tapped."""
    nodes, ways = dict[str, bool](), dict[str, bool]()
    wires = _wires(flow)
    for test in flow.tests or [FlowTest(name="none")]:
        harness = played(flow, test, wires)
        for node in _written(flow):
            came = _came(harness, node)
            nodes[node.name] = nodes.get(node.name, False) or bool(came) or _lost(harness, node)
            for way, taken in _ways(harness, node, came):
                name = f"{node.name}{way}"
                ways[name] = ways.get(name, False) or taken
    return _summed(flow.name, nodes, ways)


def _summed(flow: str, nodes: Mapping[str, bool], ways: Mapping[str, bool]) -> Coverage:
    reached = [*nodes.values(), *ways.values()]
    percent = 100 * sum(reached) // len(reached) if reached else 100
    not_reached = [name for name, seen in nodes.items() if not seen]
    not_taken = [name for name, taken in ways.items() if not taken]
    return Coverage(flow, percent, len(nodes), len(ways), not_reached, not_taken)


def _wires(flow: Flow) -> list[str]:
    """Return every wire, and what alerts tell even where nobody takes it."""
    found = [str(wire) for node in flow.nodes.values() for wire in node.inputs]
    alerts = [node.name for node in flow.nodes.values() if node.kind == "alert"]
    ends = [*(node.name for node in flow.section("sources")), *alerts, *(f"{name}.muted" for name in alerts)]
    return list(dict.fromkeys([*found, *ends]))


def _written(flow: Flow) -> list[Node]:
    document = flow.document
    return [node for node in flow.nodes.values() if document.has((node.section, node.name.partition("/")[0]))]


def _came(harness: Harness, node: Node) -> list[Event]:
    """Return the events that came to a node, before its `where`; of a source, those that went out."""
    wires = [str(wire) for wire in node.main_inputs] or [node.name]
    return [event for wire in wires for event in harness.out.get(wire, [])]


def _lost(harness: Harness, node: Node) -> bool:
    """Tell whether all that came to a source was filtered or refused."""
    name = node.name
    return harness.counted[f"filtered {name}"] > 0 or any(letter.node == name for letter in harness.dead)


def _ways(harness: Harness, node: Node, came: list[Event]) -> Iterator[tuple[str, bool]]:
    condition = node.where or (getattr(node.component, "condition", None) if node.kind == "where" else None)
    if condition is not None:
        held = _held(harness, node, condition, came)
        yield " where: true", True in held
        yield " where: false", False in held
    yield from _outputs(harness, node)
    yield from _changes(harness, node)


def _held(harness: Harness, node: Node, condition: Expression, came: list[Event]) -> set[bool]:
    if node.section == "sources":
        passed, filtered = bool(came), harness.counted[f"filtered {node.name}"] > 0
        return {way for way, taken in ((True, passed), (False, filtered)) if taken}
    held = set()
    for event in came:
        try:
            held.add(bool(condition(event)))
        except WRONG:  # a dead letter: neither way was taken
            continue
    return held


def _outputs(harness: Harness, node: Node) -> Iterator[tuple[str, bool]]:
    """Yield the outputs of a node of which a side output is taken from."""
    flow = harness.plan.flow
    taken = dict.fromkeys(output for other, output in flow.consumers(node.name) if not other.name.startswith("tap "))
    if any(taken):
        for output in taken:
            wire = f"{node.name}.{output}" if output else node.name
            yield f".{output}" if output else " main output", bool(harness.out.get(wire))


def _changes(harness: Harness, node: Node) -> Iterator[tuple[str, bool]]:
    """Yield the changes of an alert that its options make possible without anybody's doing."""
    if node.kind != "alert":
        return
    component: Any = node.component
    several, repeats = len(getattr(component, "levels", ())) > 1, getattr(component, "repeat", 0)
    possible = ["fired", "cleared", *(["escalated", "eased"] if several else []), *(["repeated"] if repeats else [])]
    told = [event.data.get("change") for wire in ("", ".muted") for event in harness.out.get(node.name + wire, [])]
    for change in possible:
        yield f": {change}", change in told
