"""What operations see of the flows: a line for each flow, a graph of its nodes, and what each node does."""

import inspect
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import yaml

from engine.flow import Flow, Node
from engine.letter import ALL, Cause, Letter, Selection
from engine.meter import KEYED, SINK, STRETCH
from web.services import FlowState, Footprint, Queue

AWAY = {
    "sinks": "the target is away; events wait on disk",
    "operators": "nobody answers; events get their fallback, until a probe is answered",
}


class Letters(Protocol):
    """The dead letters of a flow."""

    def rows(self, chosen: Selection = ALL, limit: int = 100, before: int | None = None) -> list[Letter]:
        """Return the latest ones, newest first."""

    def causes(self, chosen: Selection = ALL, limit: int = 1000) -> list[Cause]:
        """Return them grouped by node and cause, the most frequent first."""

    def counts(self) -> dict[str, int]:
        """Return how many there are in each state."""

    def full_since(self) -> int | None:
        """Return since when letters wait for room."""


class Board(Protocol):
    """Where the console gets what it shows."""

    @property
    def definitions(self) -> Mapping[str, Flow]: ...
    def flows(self) -> dict[str, FlowState]:
        """Return each flow's state."""

    def gateway(self) -> Footprint:
        """Return what the gateway's own process takes."""

    def letters(self, flow: str) -> Letters:
        """Return a flow's dead letters."""


class GraphNode(msgspec.Struct, frozen=True):
    """A node as it is drawn; steps in a row are one node with several kinds."""

    name: str
    section: str
    kind: str
    about: str
    members: tuple[str, ...]


class GraphEdge(msgspec.Struct, frozen=True):
    """A wire; `port` is the side output that it takes, "" the main one."""

    source: str
    target: str
    port: str


class Graph(msgspec.Struct, frozen=True):
    """The nodes of a flow by name, and its wires."""

    nodes: dict[str, GraphNode]
    edges: list[GraphEdge]


class FlowLine(msgspec.Struct):
    """How a flow is; times in seconds, rates in events a second, `backlog` in events that wait, `rss` in bytes.

    `lag` is the age of the oldest event that waits, `cpu` a share of a core, `fill` how full (0 to 1) its fullest queue
    is, which `fullest` names. `ledger` has the terms in ways; `alarm` says where it does not balance.
    """

    name: str
    about: str
    state: str
    uptime: float
    restarts: int
    last_error: str
    pid: int
    rss: int
    backlog: int
    dead: int
    rate_in: float
    rate_out: float
    lag: float
    cpu: float
    fill: float
    fullest: str
    sources: dict[str, tuple[str, str]]
    ledger: dict[str, int]
    alarm: str


class NodeLine(msgspec.Struct):
    """What a node does: a second, and since its worker started; `state` is a source's or a sink's connection.

    `cpu` (share of a core) and `micros` (CPU time of an event, in µs) are the node's `own`, or else those of the whole
    stretch of stateless nodes that it is in. `fill` is how full (0 to 1) a sink's queue is, in which `waiting` events
    are; `keys` and `size` (bytes) are the state of a keyed node.
    """

    rate: float = 0.0
    rate_in: float = 0.0
    rate_dead: float = 0.0
    own: bool = False
    cpu: float = 0.0
    micros: float | None = None
    fill: float = 0.0
    waiting: int = 0
    keys: int = 0
    size: int = 0
    total: float = 0.0
    dead: float = 0.0
    filtered: float = 0.0
    state: str = ""
    detail: str = ""


def graph_of(flow: Flow) -> Graph:
    """Return a flow's graph, with the steps of one operator drawn as one."""
    members: dict[str, list[Node]] = {}
    for node in flow.nodes.values():
        members.setdefault(base_name(node.name), []).append(node)
    nodes = {name: _drawn(name, nodes) for name, nodes in members.items()}
    wires = {
        GraphEdge(base_name(wire.node), base_name(node.name), wire.output): None
        for node in flow.nodes.values()
        for wire in node.inputs
        if base_name(wire.node) != base_name(node.name)
    }
    return Graph(nodes, list(wires))


def base_name(name: str) -> str:
    """Return the name of the operator that a step (`name/1`) belongs to."""
    return name.partition("/")[0]


def _drawn(name: str, members: Sequence[Node]) -> GraphNode:
    about = next((node.about for node in members if node.about), "")
    kinds = " · ".join(node.kind for node in members)
    return GraphNode(name, members[0].section, kinds, about, tuple(node.name for node in members))


def flow_lines(board: Board) -> list[FlowLine]:
    """Return a line for every flow."""
    return [flow_line(board.definitions[name], state) for name, state in board.flows().items()]


def flow_line(flow: Flow, state: FlowState) -> FlowLine:
    """Return the line of a flow."""
    fullest = max(state.queues, key=lambda queue: queue.fill, default=Queue("", ""))
    uptime = max(0.0, time.time() - state.since) if state.since else 0.0
    return FlowLine(
        flow.name, flow.about, state.state, uptime, state.restarts, state.last_error, state.pid, state.rss,
        state.backlog, state.dead, state.rate_in, state.rate_out, state.lag, state.cpu, fullest.fill,
        queue_text(fullest), state.sources, state.ledger, alarm_text(state.unbalanced),
    )  # fmt: skip


def queue_text(queue: Queue) -> str:
    """Return which queue it is, for people."""
    words = {"inbox": "the inbox", "lane": "sink {}", "spill": "sink {} on disk", "clients": "a client of {}"}
    return words.get(queue.kind, "").format(queue.name)


def alarm_text(unbalanced: Mapping[str, int]) -> str:
    """Return where a ledger does not balance, for people; empty where it does."""
    faults = [f"{abs(n):,} {'lost' if n > 0 else 'doubled'} at '{node}'" for node, n in unbalanced.items()]
    return f"The ledger does not balance: {', '.join(faults)}" if faults else ""


def node_lines(graph: Graph, state: FlowState) -> dict[str, NodeLine]:
    """Return what every drawn node does."""
    return {name: _node_line(node, state) for name, node in graph.nodes.items()}


def _node_line(node: GraphNode, state: FlowState) -> NodeLine:
    counts = [state.nodes.get(member, {}) for member in node.members]
    total = counts[-1].get("in" if node.section == "sinks" else "out", 0.0)
    dead = sum(count.get("dead", 0.0) for count in counts)
    came = counts[0].get("in", 0.0)
    waiting = sum(count.get("waiting", 0.0) for count in counts)
    filtered = max(0.0, came - total - dead - waiting) if node.section == "operators" else 0.0
    connection, detail = state.sources.get(node.name, ("", ""))
    if counts[-1].get("away"):
        connection, detail = "away", AWAY[node.section]
    line = NodeLine(state.rates.get(node.members[-1], 0.0), total=total, dead=dead, filtered=filtered)
    line.state, line.detail = connection, detail
    line.rate_in = state.node_rates.get(node.members[0], {}).get("in", 0.0)
    line.rate_dead = sum(state.node_rates.get(member, {}).get("dead", 0.0) for member in node.members)
    _add_cost(line, node, state)
    return line


def _add_cost(line: NodeLine, node: GraphNode, state: FlowState) -> None:
    """Add what the node takes: its own steps, or else the stretch that runs it, and its queues."""
    own = [step for step in state.steps if step.kind in (KEYED, SINK) and step.name in node.members]
    shared = [step for step in state.steps if step.kind == STRETCH and step.nodes and node.members[0] in step.nodes]
    for step in own or shared[:1]:
        line.cpu += step.cpu
        line.micros = (line.micros or 0.0) + step.micros if step.micros is not None else line.micros
        line.keys, line.size = line.keys + step.keys, line.size + step.state
    line.own = bool(own)
    for queue in state.queues:
        if queue.kind in ("lane", "spill") and queue.name in node.members:
            line.fill, line.waiting = max(line.fill, queue.fill), line.waiting + queue.waiting


def options_text(flow: Flow, node: str) -> str:
    """Return a node as it is written in the flow, as YAML; values stay references, so no secret shows."""
    sections = flow.document.value if isinstance(flow.document.value, dict) else {}
    section = flow.nodes[node].section if node in flow.nodes else "operators"
    written = (sections.get(section) or {}).get(node)
    if written is None:
        return ""
    return str(yaml.safe_dump({node: written}, sort_keys=False, allow_unicode=True, width=88))


def docs_of(flow: Flow, members: Sequence[str]) -> list[tuple[str, str]]:
    """Return kind and documentation of a drawn node's components."""
    found = [flow.nodes[member].component for member in members]
    return [(component.kind, inspect.getdoc(type(component)) or "") for component in found]


class LetterLine(msgspec.Struct, frozen=True):
    """A dead letter as it is shown."""

    time: str
    reason: str
    source: str
    payload: str
    state: str


def letter_lines(letters: Letters, members: Sequence[str], limit: int = 10) -> list[LetterLine]:
    """Return the latest dead letters of a drawn node, newest first."""
    rows = [letter for member in members for letter in letters.rows(Selection(node=member), limit)]
    rows.sort(key=lambda letter: letter.time, reverse=True)
    return [_letter_line(letter) for letter in rows[:limit]]


def _letter_line(letter: Letter) -> LetterLine:
    moment = datetime.fromtimestamp(letter.time / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    payload = letter.payload[:2000].decode(errors="replace")
    return LetterLine(moment, letter.reason, letter.source, payload, letter.state)


def encoded(value: Any) -> str:
    """Return what a page gets, as JSON text."""
    return msgspec.json.encode(value).decode()
