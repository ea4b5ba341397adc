"""Bring back the rows that a sink's target lacks: the deployed version runs over the inbox, into that sink only."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import AsyncEngine

from engine.asking import Asking
from engine.block import Block
from engine.component import Sink, Stateful
from engine.errors import EnvironmentFault, Unavailable, UsageFault, did_you_mean
from engine.event import Event
from engine.flow import Flow, Node
from engine.outside import Outside
from engine.past import Extent, Past, Player, elsewhere
from engine.versions import Version
from engine.writer import Mender

AT_ONCE = 1_000
PATIENCE, AGAIN = 60.0, 1.0
REASONS = 20


class Beside(Outside):
    """What a sink reaches that does not run in a worker: the database."""

    def __init__(self, flow: str, database: AsyncEngine, metadata: MetaData) -> None:
        self.flow, self.database, self.metadata, self.answer_rows = flow, database, metadata, frozenset()


class Repaired(msgspec.Struct):
    """What a repair did: rows that were there, that were added, and that the table has no room for, by reason."""

    events: int
    there: int
    added: int
    refused: int
    reasons: dict[str, int]


class Repair:
    """Runs the flow of one sink; raises UsageFault where a repair would store what is not so.

    `changed` names the nodes that are not what they were from the first event on, with the version that changed them.
    """

    def __init__(
        self, flow: Flow, past: Past, sink: str, outside: Outside, extent: Extent, changed: Mapping[str, int]
    ) -> None:
        node = _sink(flow, sink)
        self._mender = _mender(flow, node, outside)
        _check(flow, node, extent, changed)
        self.whole, self._from_the_first = self._mender.whole, extent.whole
        self._node, self._player = node, Player(flow, past.stream, past.gaps())
        self._events = 0
        self._waiting: list[Event] = []

    def warm(self, block: Block) -> None:
        """Run a commit that only makes the state."""
        self._player.play(block)
        self._take()

    async def write(self, block: Block) -> None:
        """Run a commit and write what the target lacks, many at once; raises EnvironmentFault when it stays away."""
        self._player.play(block)
        self._events += len(block.payloads)
        self._waiting += self._take()
        while len(self._waiting) >= AT_ONCE:
            await self._write()

    async def finish(self) -> Repaired:
        """Write what is left, and return what was done."""
        while self._waiting:
            await self._write()
        await _patiently(lambda: self._mender.finish(from_the_first=self._from_the_first))
        mender, refused = self._mender, +self._mender.refused
        return Repaired(self._events, mender.there, mender.added, refused.total(), dict(refused.most_common(REASONS)))

    async def _write(self) -> None:
        part, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
        await _patiently(lambda: self._mender.write(part))

    async def close(self) -> None:
        """Let go of the target."""
        await self._mender.close()

    def _take(self) -> list[Event]:
        harness = self._player.harness
        found = harness.out.get(self._node.name, [])
        harness.out.clear()
        harness.dead.clear()
        return found


def _sink(flow: Flow, name: str) -> Node:
    sinks = [node.name for node in flow.section("sinks")]
    if name not in sinks:
        hint = did_you_mean(name, sinks)
        got = f"a sink of '{flow.name}' ({', '.join(sinks)}); got '{name}'"
        raise UsageFault(f"--repair: {got}" + (f" ({hint})" if hint else ""))
    return flow.nodes[name]


def _mender(flow: Flow, node: Node, outside: Outside) -> Mender:
    component = node.component
    mender = component.mend(node, outside) if isinstance(component, Sink) else None
    if mender is None:
        able = [n.name for n in flow.section("sinks") if type(n.component).mend is not Sink.mend]  # type: ignore[attr-defined]
        others = f"; here: {', '.join(able)}" if able else ""
        reason = f"'{node.name}' is of kind {node.kind}: what is written there a second time is seen a second time"
        raise UsageFault(f"--repair: a sink that knows what it has, such as sql{others}. {reason}")
    return mender


def _check(flow: Flow, node: Node, extent: Extent, changed: Mapping[str, int]) -> None:
    """Refuse where the state, and with it what comes out, would not be what it was."""
    above = list(upstream(flow, node))
    stateful = sorted(one.name for one in above if isinstance(one.component, Stateful))
    asking = sorted(one.name for one in above if isinstance(one.component, Asking))
    if asking:
        where = f"'{node.name}' lies behind {', '.join(asking)}, whose answers are not kept"
        raise UsageFault(f"--repair: rows that the flow makes by itself; {where}")
    unseen = sorted(set(elsewhere(flow)) & {one.name for one in above})
    if unseen and (stateful or set(unseen) == {one.name for one in above if one.section == "sources"}):
        names = ", ".join(unseen)
        raise UsageFault(f"--repair: events that are in the inbox; those of {names} are read by the worker itself")
    behind = f"'{node.name}' lies behind {', '.join(stateful)}, whose state comes from all events"
    if stateful and not extent.whole:
        oldest = f"the inbox begins at offset {extent.oldest}: what was before is trimmed"
        raise UsageFault(f"--repair: an inbox that still has the flow's first event; {oldest}. {behind}")
    other = next((one.name for one in above if one.name in changed), None)
    if stateful and other is not None:
        was = f"'{other}' was changed by version {changed[other]}, and events came before it"
        raise UsageFault(f"--repair: nodes that are what they were from the first event on; {was}. {behind}")


def changes(versions: Iterable[Version]) -> dict[str, int]:
    """Return the nodes that a version after the first has changed, each with the latest that did."""
    deployed = [version for version in versions if version.outcome != "failed"]
    return {
        change.node: version.number
        for version in deployed[1:]
        for change in version.nodes
        if change.effect not in ("unchanged", "removed")
    }


def upstream(flow: Flow, node: Node) -> Iterator[Node]:
    """Yield all nodes that lead to a node, each once."""
    waiting, seen = [node], {node.name}
    for one in waiting:
        for name in dict.fromkeys(wire.node for wire in one.inputs):
            if name not in seen:
                seen.add(name)
                waiting.append(flow.nodes[name])
                yield flow.nodes[name]


async def _patiently(call: Callable[[], Awaitable[Any]]) -> None:
    """Call until the target is there, for a minute."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            await call()
            return
        except Unavailable as fault:
            if time.monotonic() > end:
                again = "what was added so far stays; run it again to go on"
                raise EnvironmentFault(f"{fault}: {again}") from fault
        await asyncio.sleep(AGAIN)
