"""A flow as the engine sees it: settings, tables, nodes with their wires, channels, queries and tests."""

from pathlib import Path
from typing import Any

import msgspec

from engine.channels import ChannelSpec
from engine.component import Component
from engine.document import Document
from engine.errors import FlowInvalid
from engine.expressions import Expression
from engine.flow_tests import FlowTest
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
    """A named place in a flow. `where` filters before the component; `key` names the key of what goes in."""

    name: str
    section: str
    component: Component
    inputs: tuple[Input, ...] = ()
    where: Expression | None = None
    key: Expression | None = None
    about: str = ""
    was: str = ""
    on_error: str = "dead_letters"

    @property
    def kind(self) -> str:
        """Return the component's name."""
        return self.component.kind


class Flow(msgspec.Struct, kw_only=True):
    """One YAML file, read. `nodes` holds sources, operators and sinks in file order, `unread` the names of the rest."""

    name: str
    path: Path
    about: str = ""
    settings: dict[str, Any] = {}
    tables: dict[str, Table] = {}
    nodes: dict[str, Node] = {}
    unread: frozenset[str] = frozenset()
    channels: dict[str, ChannelSpec] = {}
    queries: dict[str, QuerySpec] = {}
    pages: dict[str, str] = {}
    tests: list[FlowTest] = []
    document: Document

    def section(self, section: str) -> list[Node]:
        """Return the nodes of `sources`, `operators` or `sinks`."""
        return [node for node in self.nodes.values() if node.section == section]

    def consumers(self, name: str) -> list[tuple[Node, str]]:
        """Return the nodes that take from `name`, each with the output it takes."""
        return [(node, wire.output) for node in self.nodes.values() for wire in node.inputs if wire.node == name]

    def key_giver(self, node: Node) -> Node | None:
        """Return the node that gives the events which come to a node their key, or None where they have none."""
        waiting, seen = [node], set[str]()
        for one in waiting:
            if one.key is not None:
                return one
            seen.add(one.name)
            waiting += [self.nodes[w.node] for w in one.inputs if w.node in self.nodes and w.node not in seen]
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

        What is keyed runs in shards: events keep their order for each key, but not among all.
        """
        waiting, seen = [w.node for w in node.inputs], set[str]()
        for name in waiting:
            one = self.nodes.get(name)
            if one is not None and name not in seen:
                seen.add(name)
                if getattr(one.component, "keyed", False) and self.key_giver(one):
                    return one
                waiting += [wire.node for wire in one.inputs]
        return None

    def raise_findings(self) -> "Flow":
        """Return the flow, or raise FlowInvalid when anything was found."""
        if self.document.findings:
            raise FlowInvalid(sorted(self.document.findings, key=lambda f: (f.path, f.line, f.column)))
        return self


def unordered(shuffler: Node) -> str:
    """Return what a node that counts in order finds wrong with what comes from a keyed one."""
    return f"events in one order, so that a replay counts the same; got those of '{shuffler.name}', which is keyed"
