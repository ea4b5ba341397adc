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

from engine.asking import Asking
from engine.block import Block
from engine.component import Stateful
from engine.decode import Decoding
from engine.desk import Desk
from engine.flow import Flow, Node
from engine.fused import RAW, Raw
from engine.given import Answers
from engine.keyed import SHARDS, Aside, Clock, Gate, Mark, Shard
from engine.meter import Meter
from engine.node_faults import explainer
from engine.ordered import Chunk, Ordered, has_held
from engine.outputs import COUNTS, DEAD
from engine.outstanding import Outstanding, Ready
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
        self._shards = frozenset(keyed.node.name for keyed in self.keyed)
        self.ordered = frozenset(keyed.node.name for keyed in self.keyed if len(keyed.upstream) > 1)
        self._led = frozenset(keyed.node.name for keyed in self.keyed if self._is_led(keyed.node))
        self._has_aside = any(SOURCES in keyed.upstream and keyed.node.name not in self._led for keyed in self.keyed)
        self.sinks = [node.name for node in flow.section("sinks")]
        self._timed = self._needing_marks()
        self.asking = frozenset(k.node.name for k in self.keyed if isinstance(k.node.component, Asking))

    def records(self, blocks: list[Block], prefix: bytes) -> list[StageRun]:
        """Return what `run_sources` takes: records as they are where the sources' chains allow it, else events."""
        blocks = self.flow.live.heed(blocks)
        if not blocks:
            return []
        fused, raw = self.source.fused, Raw(blocks, prefix, self._decoding)
        return [(RAW, [raw])] if fused is not None and fused.takes(blocks) else raw.runs()

    def run_sources(self, runs: list[StageRun]) -> list[tuple[str, str, Any]]:
        """Run what comes in, in order: the source stage, or the node where a retried event failed and what follows."""
        found = self._sourced(runs)
        return self.placed(found, 0) if self.ordered else found

    def _sourced(self, runs: list[StageRun]) -> list[tuple[str, str, Any]]:
        if runs and runs[0][0] == RAW:
            return self._own_clock(self.source.run_raw(runs[0][1][0], runs[1:]))
        found: list[tuple[str, str, Any]] = []
        for retried, group in groupby(runs, lambda run: run[0].startswith(ENTRY)):
            if not retried:
                found += self._own_clock(self.source.run(list(group)))
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
        return events if port in self._led or port not in self._shards else Aside(events)

    def _own_clock(self, found: list[tuple[str, str, Any]]) -> list[tuple[str, str, Any]]:
        """Let a node whose events come by way of another keyed one not follow the clock of what comes beside them."""
        return [(port, shard, self._aside(port, item)) for port, shard, item in found] if self._has_aside else found

    def _is_led(self, node: Node) -> bool:
        """Tell whether events come to a node from the sources without another node with memory between."""
        names, flow = [wire.node for wire in node.main_inputs], self.flow
        for name in names:
            if flow.nodes[name].section == "sources":
                return True
            if not isinstance(flow.nodes[name].component, Stateful):
                names += [wire.node for wire in flow.nodes[name].inputs if wire.node not in names]
        return False

    def _keyed(self, name: str, stages: dict[str, Stage]) -> KeyedPlan:
        node = self.flow.nodes[name]
        upstream = tuple(stage.name for stage in stages.values() if name in stage.keyed)
        return KeyedPlan(node, stages[name], upstream, frozenset(output for _, output in self.flow.consumers(name)))

    def stages(self) -> list[Stage]:
        """Return all stages, for what they have counted."""
        return [self.source, *(keyed.stage for keyed in self.keyed), *list(self.retries.values())]

    def _needing_marks(self) -> frozenset[str]:
        """Return the keyed nodes that have timers or take from several stages, or lead to such a one."""
        found: set[str] = set()
        for keyed in reversed(self.keyed):
            name, timed = keyed.node.name, type(keyed.node.component).due is not Stateful.due  # type: ignore[attr-defined]
            if timed or name in self.ordered or found.intersection(keyed.stage.keyed):
                found.add(name)
        return frozenset(found)

    def marks(self, stage: Stage, time: int) -> list[tuple[str, str, Mark]]:
        """Return the marks that a stage sends on: one for each shard of each keyed node that waits for time."""
        mark, timed = Mark(stage.name, time), [name for name in stage.keyed if name in self._timed]
        return [(name, shard, mark) for name in timed for shard in (SHARDS[:1] if name in self.asking else SHARDS)]

    def placed(self, found: list[tuple[str, str, Any]], place: int) -> list[tuple[str, str, Any]]:
        """Return the same with the sender's place at events for nodes that take from several stages."""
        return [
            (port, shard, Chunk(place, item) if port in self.ordered and not isinstance(item, Mark) else item)
            for port, shard, item in found
        ]

    def behind(self, name: str) -> frozenset[str]:
        """Return the keyed nodes to which events come by way of this one."""
        stages = {keyed.node.name: keyed.stage.keyed for keyed in self.keyed}
        found = list(stages[name])
        for one in found:
            found += [other for other in stages[one] if other not in found]
        return frozenset(found)


class Run:
    """The living part of a plan in one process: the clock and the gates that its shards share, and what steps cost.

    Without `outstanding`, nobody outside is asked, and no answers are given.
    """

    def __init__(self, plan: Plan, outstanding: Outstanding | None = None) -> None:
        self.plan = plan
        self.outstanding = outstanding or Outstanding(Answers().asker)
        self.meter = Meter()
        self.clock = Clock()
        self.gates = {keyed.node.name: Gate(keyed.upstream) for keyed in plan.keyed}

    def shard(self, keyed: KeyedPlan, shard: str, snapshot: bytes | None) -> Shard | Ordered:
        """Make one shard of a keyed node, from its snapshot where there is one."""
        name = keyed.node.name
        given = (name, keyed.node.component, keyed.wired, shard, self.clock, self.gates[name], explainer(keyed.node))
        if name in self.plan.asking:
            made: Shard = Desk(*given, outstanding=self.outstanding, behind=self.plan.behind(name))
        else:
            made = Shard(*given)  # type: ignore[arg-type]
        made.live = self.plan.flow.live
        found: Shard | Ordered = made
        if name in self.plan.ordered or (snapshot and has_held(snapshot)):
            found = Ordered(made, waits=name in self.plan.ordered)
        if snapshot is not None:
            found.restore(snapshot)
        return found

    def time_or_answers(self, item: Mark | Ready) -> list[tuple[str, str, Any]]:
        """Return what the feed sends beside events, as it goes to the nodes that it is for."""
        if isinstance(item, Ready):
            return [(item.node, SHARDS[0], item)]
        return list(self.plan.marks(self.plan.source, item.time))

    def after(
        self, keyed: KeyedPlan, items: list[tuple[str, tuple[str, list[Any]] | Mark]]
    ) -> list[tuple[str, str, Any]]:
        """Run the stage that follows a keyed node on what its shards gave: pairs of shard and item."""
        if not self.plan.ordered.intersection(keyed.stage.keyed):
            return self._after(keyed, [item for _, item in items])
        found: list[tuple[str, str, Any]] = []
        first = (self.plan.keyed.index(keyed) + 1) * len(SHARDS)
        for shard, group in groupby(items, key=lambda pair: pair[0]):
            found += self.plan.placed(self._after(keyed, [item for _, item in group]), first + int(shard))
        return found

    def _after(self, keyed: KeyedPlan, items: list[tuple[str, list[Any]] | Mark]) -> list[tuple[str, str, Any]]:
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
