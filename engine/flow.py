"""A flow as the engine sees it: settings, tables, nodes with their wires, channels, queries and tests."""

from pathlib import Path
from typing import Any

import msgspec

from engine.asking import Asking
from engine.channels import ChannelSpec
from engine.component import Component
from engine.document import Document
from engine.errors import FlowInvalid
from engine.expressions import Expression
from engine.flow_tests import FlowTest
from engine.live_table import LiveTables
from engine.queries import QuerySpec
from engine.tables import Table


class Input(msgspec.Struct, frozen=True):
    """One end of a wire: a node and the output that is taken from it ("" is the main one)."""

    node: str
    output: str = ""

    def __str__(self) -> str:
        return f"{self.node}.{self.output}" if self.output else self.node

    @classmethod
    def parse(cls, text: str) -> "Input":
        """Return the wire that `node` or `node.output` stands for."""
        node, _, output = text.partition(".")
        return cls(node, output)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A named place in a flow. `where` filters before the component; `key` names the key of what goes in.

    The `beside` are those of its inputs whose events go past both: they have a key of their own.
    """

    name: str
    section: str
    component: Component
    inputs: tuple[Input, ...] = ()
    beside: tuple[Input, ...] = ()
    where: Expression | None = None
    key: Expression | None = None
    about: str = ""
    was: str = ""
    on_error: str = "dead_letters"

    @property
    def kind(self) -> str:
        """Return the component's name."""
        return self.component.kind

    @property
    def main_inputs(self) -> list[Input]:
        """Return the inputs whose events `where` and `key` are for."""
        return [wire for wire in self.inputs if wire not in self.beside]

    def at(self, wire: Input) -> "Node":
        """Return the node as the events of a wire find it."""
        return msgspec.structs.replace(self, where=None, key=None) if wire in self.beside else self


class Flow(msgspec.Struct, kw_only=True):
    """One YAML file, read. `nodes` holds sources, operators and sinks in file order, `unread` the names of the rest.

    `instances` are what chooses each instance of a flow with `for_each`, this one first; `files` the files it includes.
    """

    name: str
    path: Path
    about: str = ""
    settings: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    live: LiveTables = msgspec.field(default_factory=LiveTables)
    nodes: dict[str, Node] = {}
    unread: frozenset[str] = frozenset()
    channels: dict[str, ChannelSpec] = {}
    queries: dict[str, QuerySpec] = {}
    pages: dict[str, str] = {}
    tests: list[FlowTest] = []
    instances: list[dict[str, str]] = []
    files: dict[str, str] = {}
    document: Document

    @property
    def instance(self) -> dict[str, str]:
        """Return the `--set` values that choose this instance."""
        return self.instances[0] if self.instances else {}

    def section(self, section: str) -> list[Node]:
        """Return the nodes of `sources`, `operators` or `sinks`."""
        return [node for node in self.nodes.values() if node.section == section]

    def steps_before(self, node: Node) -> list[Node]:
        """Return the earlier steps of a node, which stand under their numbers: `checked/1`."""
        return [step for step in self.nodes.values() if step.name.startswith(f"{node.name}/")]

    def consumers(self, name: str) -> list[tuple[Node, str]]:
        """Return the nodes that take from `name`, as its events find them, each with the output it takes."""
        nodes = self.nodes.values()
        return [(node.at(wire), wire.output) for node in nodes for wire in node.inputs if wire.node == name]

    def key_giver(self, node: Node) -> Node | None:
        """Return the node that gives the events which come to a node their key, or None where they have none."""
        waiting, seen = [node], set[str]()
        for one in waiting:
            if one.key is not None:
                return one
            seen.add(one.name)
            waiting += [self.nodes[w.node] for w in one.main_inputs if w.node in self.nodes and w.node not in seen]
        return None

    def before(self, node: Node) -> list[Node]:
        """Return the nodes whose events come to a node, however far, the nearest first."""
        found = {node.name: node}
        waiting = [node]
        for one in waiting:
            new = [self.nodes[wire.node] for wire in one.inputs if wire.node in self.nodes.keys() - found.keys()]
            found |= {other.name: other for other in new}
            waiting += new
        return waiting[1:]

    def shuffler(self, node: Node) -> Node | None:
        """Return a node before this one after which the order of events differs from replay to replay, or None.

        What is keyed runs in shards: events keep their order for each key, but not among all. What is asked for
        outside comes later than what goes past.
        """
        waiting, seen = [w.node for w in node.main_inputs], set[str]()
        for name in waiting:
            one = self.nodes.get(name)
            if one is not None and name not in seen:
                seen.add(name)
                if getattr(one.component, "keyed", False) and self.key_giver(one):
                    return one
                waiting += [wire.node for wire in one.inputs]
        return next((later for one in (node, *self.before(node)) if (later := self._later(one))), None)

    def _later(self, node: Node) -> Node | None:
        """Return a node that asks outside, by way of which some of the events come to a node, and others past it."""
        ends = [self.nodes[wire.node] for wire in node.main_inputs if wire.node in self.nodes]
        ways = [{one.name for one in (end, *self.before(end)) if isinstance(one.component, Asking)} for end in ends]
        apart = set[str]().union(*ways) - set[str].intersection(*ways) if ways else set[str]()
        return self.nodes[min(apart)] if apart else None

    def raise_findings(self) -> "Flow":
        """Return the flow, or raise FlowInvalid when anything was found."""
        if self.document.findings:
            raise FlowInvalid(sorted(self.document.findings, key=lambda f: (f.path, f.line, f.column)))
        return self


def unordered(shuffler: Node) -> str:
    """Return what a node that counts in order finds wrong with what comes from a keyed one, or waits for answers."""
    which = "which is asked for while others go past it" if isinstance(shuffler.component, Asking) else "which is keyed"
    return f"events in one order, so that a replay counts the same; got those of '{shuffler.name}', {which}"
