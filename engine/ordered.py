"""One order for what comes to a node from several stages: by arrival, then by a fixed order of who sent it.

    chunks of any stage ─▶ held ─▶ what all stages have passed, in order ─▶ shard

Which of two stages is first to give what it makes of the same read depends on how much was read at once. So events
wait until the marks of all stages that feed the node have passed their arrival. The feed sends a mark after each read
to a flow that has such a node, so that what waits is at most what a stage above holds back. What waits is part of the
shard's snapshot.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from engine.event import Event
from engine.keyed import Mark, Shard
from engine.outputs import COUNTS
from engine.snapshot import storable

QUADRUPLE = 0x94
"""How MessagePack begins a list of four."""
_Held = tuple[bytes, list[int], list[int], list[Event]]


class Chunk(list[Event]):
    """Events of one sender; `place` is the sender's in the fixed order: stages as they feed each other, then shards."""

    __slots__ = ("place",)

    def __init__(self, place: int, events: Iterable[Event]) -> None:
        super().__init__(events)
        self.place = place


def has_held(snapshot: bytes) -> bool:
    """Tell whether a shard's snapshot has events that wait for their turn."""
    return snapshot[0] == QUADRUPLE


class Ordered:
    """A shard behind its events' order. Without `waits`, it lets go at once: for what an earlier version held."""

    def __init__(self, shard: Shard, *, waits: bool) -> None:
        self._shard, self._waits = shard, waits
        self._marks = dict.fromkeys(shard.gate.stages, 0)
        self._through = 0 if waits else 1 << 63
        self._held: list[tuple[int, int, int, Event]] = []
        self._number = 0
        self._counted, self._own = f"held {shard.node}", f"held {shard.shard}"

    @property
    def states(self) -> dict[str, Any]:
        """Return the states by key."""
        return self._shard.states

    def restore(self, snapshot: bytes) -> None:
        """Take the states of a snapshot, and what waited."""
        if has_held(snapshot):
            snapshot, times, places, events = msgspec.msgpack.decode(snapshot, type=_Held)
            numbers = range(len(events))
            self._number = len(events)
            self._held = list(zip(times, places, numbers, events, strict=True))
            heapify(self._held)
        self._shard.restore(snapshot)
        self._tell()

    def snapshot(self) -> bytes:
        """Return the states as bytes, with what waits where something does."""
        states = self._shard.snapshot()
        if not self._held:
            return states
        held = sorted(self._held)
        found = states, [one[0] for one in held], [one[1] for one in held], [one[3] for one in held]
        try:
            return msgspec.msgpack.encode(found)
        except (OverflowError, TypeError, ValueError, RecursionError):
            return msgspec.msgpack.encode(storable(found))

    def on_batch(self, items: Iterable[Any]) -> list[tuple[str, list[Any]] | Mark]:
        """Return what comes out, as the shard's `on_batch`; how many more or fewer wait is counted as well."""
        given: list[Any] = []
        before = len(self._held)
        for item in items:
            if isinstance(item, Mark):
                self._pass(item)
                self._release(given)
                given.append(item)
            elif isinstance(item, list):
                self._hold(item)
            else:
                given.append(item)
        self._release(given)
        found = self._shard.on_batch(given)
        if len(self._held) != before:
            found.append((COUNTS, [(self._counted, len(self._held) - before)]))
        self._tell()
        return found

    def _hold(self, events: list[Event]) -> None:
        place, first, held = getattr(events, "place", 0), self._number, self._held
        for number, event in enumerate(events, first):
            heappush(held, (event.arrival, place, number, event))
        self._number += len(events)

    def _pass(self, mark: Mark) -> None:
        self._marks[mark.stage] = mark.time
        if self._waits:
            self._through = min(self._marks.values())

    def _release(self, given: list[Any]) -> None:
        """Let go what all stages have passed; what comes later than it should does not wait."""
        held, through = self._held, self._through
        events: list[Event] = []
        while held and held[0][0] <= through:
            events.append(heappop(held)[3])
        if events:
            given.append(events)

    def _tell(self) -> None:
        due = self._held[0][0] if self._held and self._waits else None
        self._shard.clock.set(self._shard.node, self._own, due)
