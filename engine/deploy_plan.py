"""What a deploy will do, node by node, before it does it.

A flow's worker restarts as a whole; what a plan says of a node is what that means for it: `unchanged`, `restarts` (its
definition has changed), `new`, `removed`, `state kept`, `state migrated` (renamed by `was:`), `reset` (its state is
given up, which has to be asked for).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.component import PulledSource, Stateful
from engine.fingerprints import Fingerprint, fingerprints
from engine.flow import Flow, Node
from engine.recovery import CHOICES, Edit, key_counts, pulled_sources, read_states

SECTIONS = ("settings", "tables", "channels", "queries", "pages")


class NodeChange(msgspec.Struct, frozen=True):
    """What a deploy means for one node; `before` is its former name where it was renamed."""

    node: str
    effect: str
    detail: str = ""
    before: str = ""


class Stored(msgspec.Struct):
    """What the deployed version has left on disk: its states, how many keys each has, positions, and what is spilled.

    `spilled` counts the events of each sink that wait on disk for its target.
    """

    states: dict[str, Fingerprint] = {}
    keys: dict[str, int] = {}
    pulled: frozenset[str] = frozenset()
    spilled: dict[str, int] = {}


class DeployPlan(msgspec.Struct):
    """What a deploy does: to each node, to the other sections (`tables: +reading`), and to the database's tables.

    `unchanged` means that there is nothing to do. `tables` are changes of the database as text, `destructive` those of
    them that lose something, `refused` those that cannot be made.
    """

    flow: str
    nodes: list[NodeChange]
    sections: list[str] = []
    tables: list[str] = []
    destructive: list[str] = []
    refused: list[str] = []
    unchanged: bool = False
    first: bool = False

    @property
    def resets(self) -> list[NodeChange]:
        """Return the nodes whose state would be given up."""
        return [change for change in self.nodes if change.effect == "reset"]

    def edit(self) -> Edit:
        """Return what becomes of the stored states."""
        renamed = {c.before: c.node for c in self.nodes if c.before and c.effect == "state migrated"}
        return Edit(renamed, frozenset(c.before or c.node for c in self.resets))

    def refusals(self, reset: frozenset[str], destructive: bool) -> list[str]:
        """Return why it cannot be carried out as asked, a line each; empty: it can."""
        found = [
            f"node '{c.node}': {c.detail}: {CHOICES.replace('--reset-state', f'--reset-state {c.node}')}"
            for c in self.resets
            if c.node not in reset
        ]
        unknown = sorted(reset - {change.node for change in self.resets})
        found += [f"--reset-state {name}: the plan resets no node of this name" for name in unknown]
        lossy = [] if destructive else self.destructive
        found += [f"database: {text}" for text in self.refused]
        return found + [f"{text}: this loses data, and is done with --destructive only" for text in lossy]


def stored(folder: Path, flow: str, spilled: Mapping[str, int] | None = None) -> Stored:
    """Read what a recovery folder holds."""
    states, pulled = read_states(folder) or {}, frozenset(pulled_sources(folder, flow))
    return Stored(states, key_counts(folder, flow), pulled, dict(spilled or {}))


def plan_deploy(old: Flow | None, new: Flow, left: Stored) -> DeployPlan:
    """Return the plan from the deployed version (None: the flow is new) to another, both as they are read."""
    now = fingerprints(new)
    states = left.states or (fingerprints(old) if old else {})
    nodes = [_change(node, old, now, states, left) for node in new.nodes.values()]
    nodes += _removed(old, new, states, left)
    sections = list(_sections(old, new)) if old else []
    same = old is not None and _bare(old) == _bare(new) and not sections
    kept = all(change.effect in ("unchanged", "state kept") for change in nodes)
    return DeployPlan(new.name, nodes, sections, unchanged=same and kept, first=old is None)


def _bare(flow: Flow) -> dict[str, Node]:
    """Return the nodes without what changes nothing."""
    return {name: msgspec.structs.replace(node, was="", about="") for name, node in flow.nodes.items()}


def _change(
    node: Node, old: Flow | None, now: Mapping[str, Fingerprint], states: Mapping[str, Fingerprint], left: Stored
) -> NodeChange:
    before = node.was if node.was and node.name not in _names(old) | states.keys() else ""
    was = old.nodes.get(before or node.name) if old else None
    if isinstance(node.component, Stateful):
        return _stateful(node, before, now[node.name], states, left)
    if was is None or was.section != node.section:
        return NodeChange(node.name, "new")
    carries = (isinstance(node.component, PulledSource) and was.name in left.pulled) or left.spilled.get(was.name)
    if before and carries:
        return NodeChange(node.name, "state migrated", f"from '{before}'", before)
    same = msgspec.structs.replace(was, name=node.name, was=node.was, about=node.about) == node
    return NodeChange(node.name, "unchanged" if same and not before else "restarts", before=before)


def _names(flow: Flow | None) -> set[str]:
    return set(flow.nodes) if flow else set()


def _stateful(node: Node, before: str, now: Fingerprint, states: Mapping[str, Fingerprint], left: Stored) -> NodeChange:
    was = states.get(before or node.name)
    keys = left.keys.get(before or node.name, 0)
    if was is None or not keys:
        return NodeChange(
            node.name, "new" if was is None else "state kept", "" if was is None else "no keys yet", before
        )
    if difference := was.difference(now):
        return NodeChange(node.name, "reset", f"the state of {_keys(keys)} is given up ({difference})", before)
    if before:
        return NodeChange(node.name, "state migrated", f"{_keys(keys)} from '{before}'", before)
    return NodeChange(node.name, "state kept", _keys(keys))


def _removed(old: Flow | None, new: Flow, states: Mapping[str, Fingerprint], left: Stored) -> Iterator[NodeChange]:
    taken = {node.was for node in new.nodes.values() if node.was and node.name not in _names(old)}
    for name in sorted((_names(old) | states.keys() | left.spilled.keys()) - new.nodes.keys() - taken):
        if left.keys.get(name):
            yield NodeChange(name, "reset", f"removed: the state of {_keys(left.keys[name])} is given up")
        elif left.spilled.get(name):
            yield NodeChange(
                name, "reset", f"removed: {left.spilled[name]} events that wait for its target are given up"
            )
        elif name in left.pulled:
            yield NodeChange(name, "reset", "removed: how far it was read is given up")
        elif old and name in old.nodes:
            yield NodeChange(name, "removed")


def _keys(count: int) -> str:
    return f"{count} key" if count == 1 else f"{count} keys"


def _sections(old: Flow, new: Flow) -> Iterator[str]:
    for section in SECTIONS:
        before: dict[str, Any] = getattr(old, section)
        after: dict[str, Any] = getattr(new, section)
        yield from (f"{section}: + {name}" for name in after if name not in before)
        yield from (f"{section}: ~ {name}" for name in after if name in before and before[name] != after[name])
        yield from (f"{section}: - {name}" for name in before if name not in after)
    if old.about != new.about:
        yield "about: ~"
