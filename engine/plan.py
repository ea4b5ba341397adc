"""From a flow to a plan: stretches of stateless nodes between sources, keyed nodes and sinks.

    sources ─▶ stage "sources" ─┬─▶ keyed node ─▶ stage of that node ─┬─▶ …
                                └─▶ sinks                             └─▶ sinks

The plan knows nothing of Bytewax: the harness of flow tests runs the same one.
"""

from collections.abc import Callable
from graphlib import TopologicalSorter
from itertools import groupby
from typing import Any

import msgspec

from engine.block import Block
from engine.component import Stateful
from engine.decode import Decoding
from engine.flow import Flow, Node
from engine.fused import RAW, Raw
from engine.keyed import SHARDS, Aside, Clock, Gate, Mark, Shard
from engine.meter import Meter
from engine.node_faults import explainer
from engine.outputs import COUNTS, DEAD
from engine.retry import ENTRY
from engine.stage import Run as StageRun
from engine.stage import Stage

SOURCES = "sources"


class KeyedPlan(msgspec.Struct):
    """A node with memory, the stage that follows it, and the stages that feed it."""

    node: Node
    stage: Stage
    upstream: tuple[str, ...]
    wired: frozenset[str]


class Plan:
    """What runs: one source stage, and the keyed nodes in an order in which each comes after those that feed it."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.replying = frozenset(
            n.name for n in flow.section("sources") if getattr(n.component, "reply", "accepted") != "accepted"
        )
        self.retries: dict[str, Stage] = {}
        self.tapped: Callable[[Stage], Stage] | None = None
        self.source = Stage(SOURCES, flow, [node.name for node in flow.section("sources")], self.replying).fuse()
        self._decoding = Decoding(flow)
        stages = {SOURCES: self.source}
        for node in flow.section("operators"):
            if isinstance(node.component, Stateful):
                entries = sorted({str(_wire(node.name, output)) for _, output in flow.consumers(node.name)})
                stages[node.name] = Stage(node.name, flow, entries, self.replying).fuse()
        self.keyed = [self._keyed(name, stages) for name in _ordered(stages)]
        self.sinks = [node.name for node in flow.section("sinks")]
        self._timed = self._needing_marks()

    def records(self, blocks: list[Block], prefix: bytes) -> list[StageRun]:
        """Return what `run_sources` takes: records as they are where the sources' chains allow it, else events."""
        fused, raw = self.source.fused, Raw(blocks, prefix, self._decoding)
        return [(RAW, [raw])] if fused is not None and fused.takes(blocks) else raw.runs()

    def run_sources(self, runs: list[StageRun]) -> list[tuple[str, str, Any]]:
        """Run what comes in, in order: the source stage, or the node where a retried event failed and what follows."""
        if runs[0][0] == RAW:
            return self.source.run_raw(runs[0][1][0], runs[1:])
        found: list[tuple[str, str, Any]] = []
        for retried, group in groupby(runs, lambda run: run[0].startswith(ENTRY)):
            if not retried:
                found += self.source.run(list(group))
                continue
            for entry, events in group:
                found += [(port, shard, self._aside(port, item)) for port, shard, item in self._retry(entry, events)]
        return found

    def _retry(self, entry: str, events: list[Any]) -> list[tuple[str, str, list[Any]]]:
        """Run the stage that begins at a node, compiled when the first event is retried there."""
        if entry not in self.retries:
            stage = Stage(entry, self.flow, [entry], self.replying)
            self.retries[entry] = self.tapped(stage) if self.tapped else stage
        return self.retries[entry].run([(entry, events)])

    def _aside(self, port: str, events: list[Any]) -> list[Any]:
        """Return events for a keyed node that does not take from the sources as such that do not move its clock."""
        keyed = next((keyed for keyed in self.keyed if keyed.node.name == port), None)
        return events if keyed is None or SOURCES in keyed.upstream else Aside(events)

    def _keyed(self, name: str, stages: dict[str, Stage]) -> KeyedPlan:
        node = self.flow.nodes[name]
        upstream = tuple(stage.name for stage in stages.values() if name in stage.keyed)
        return KeyedPlan(node, stages[name], upstream, frozenset(output for _, output in self.flow.consumers(name)))

    def stages(self) -> list[Stage]:
        """Return all stages, for what they have counted."""
        return [self.source, *(keyed.stage for keyed in self.keyed), *list(self.retries.values())]

    def _needing_marks(self) -> frozenset[str]:
        """Return the keyed nodes that have timers, or lead to one that has."""
        found: set[str] = set()
        for keyed in reversed(self.keyed):
            timed = type(keyed.node.component).due is not Stateful.due  # type: ignore[attr-defined]
            if timed or found.intersection(keyed.stage.keyed):
                found.add(keyed.node.name)
        return frozenset(found)

    def marks(self, stage: Stage, time: int) -> list[tuple[str, str, Mark]]:
        """Return the marks that a stage sends on: one for each shard of each keyed node that waits for time."""
        mark = Mark(stage.name, time)
        return [(name, shard, mark) for name in stage.keyed if name in self._timed for shard in SHARDS]


class Run:
    """The living part of a plan in one process: the clock and the gates that its shards share, and what steps cost."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.meter = Meter()
        self.clock = Clock()
        self.gates = {keyed.node.name: Gate(keyed.upstream) for keyed in plan.keyed}

    def shard(self, keyed: KeyedPlan, shard: str, snapshot: bytes | None) -> Shard:
        """Make one shard of a keyed node, from its snapshot where there is one."""
        name = keyed.node.name
        made = Shard(
            name, keyed.node.component, keyed.wired, shard, self.clock, self.gates[name], explainer(keyed.node),  # type: ignore[arg-type]
        )  # fmt: skip
        if snapshot is not None:
            made.restore(snapshot)
        return made

    def after(self, keyed: KeyedPlan, items: list[tuple[str, list[Any]] | Mark]) -> list[tuple[str, str, Any]]:
        """Run the stage that follows a keyed node on what its shards gave."""
        found: list[tuple[str, str, Any]] = []
        runs: list[tuple[str, list[Any]]] = []
        for item in items:
            if isinstance(item, Mark):
                found += keyed.stage.run(runs)
                runs = []
                found += self.plan.marks(keyed.stage, item.time)
            else:
                runs.append((item[0] if item[0] in (COUNTS, DEAD) else _wire(keyed.node.name, item[0]), item[1]))
        return found + keyed.stage.run(runs)


def _wire(name: str, output: str) -> str:
    return f"{name}.{output}" if output else name


def _ordered(stages: dict[str, Stage]) -> list[str]:
    """Return the keyed nodes so that each comes after the stages that feed it."""
    upstream: dict[str, list[str]] = {name: [] for name in stages}
    for stage in stages.values():
        for name in stage.keyed:
            upstream[name].append(stage.name)
    fed = {SOURCES}
    order = [name for name in TopologicalSorter(upstream).static_order() if name != SOURCES]
    for name in order:
        fed |= {name} if fed.intersection(upstream[name]) else set()
    return [name for name in order if name in fed]
