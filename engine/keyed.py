"""Keyed state: 16 fixed shards a node, a dict of states in each, timers on the arrival clock.

Time comes with the events (`arrival`, which never falls in an inbox) and, where nothing arrives, with marks. A timer
that is due fires before the first later event, so what comes out does not depend on batching or on when a mark came.
Gaps in time (the gateway was down) are told to the states before anything fires that is due after them.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from engine.component import Stateful
from engine.dead import dead_letter
from engine.event import Event, derived_id
from engine.gap import Gap, between
from engine.live_table import LiveTables
from engine.outputs import COUNTS, Outputs
from engine.snapshot import decoded, encoded

SHARDS = tuple(str(number) for number in range(16))


class Mark(msgspec.Struct, frozen=True, gc=False):
    """All that arrived up to `time` has been sent by this stage."""

    stage: str
    time: int


class Aside(list[Event]):
    """Events that come past the nodes above, which may still have earlier ones: the clock does not follow them."""


class Clock:
    """The timers of all shards of one process: when the next one is due; and the gaps that they know of."""

    def __init__(self) -> None:
        self._due: dict[tuple[str, str], int] = {}
        self._promised: dict[str, tuple[frozenset[str], int]] = {}
        self.gaps: list[Gap] = []
        self.last_gap = 0

    def learn(self, gaps: Iterable[Gap]) -> None:
        """Take note of gaps, in order, each later than those before; those that are known are passed over."""
        for gap in gaps:
            if gap.end > self.last_gap:
                self.gaps.append(gap)
                self.last_gap = gap.end

    def set(self, node: str, shard: str, due: int | None) -> None:
        """Remember when a shard wants to be woken."""
        if due is None:
            self._due.pop((node, shard), None)
        else:
            self._due[node, shard] = due

    def next(self) -> int | None:
        """Return the earliest time that any shard waits for, but for those to which a mark is on its way."""
        if not self._promised:
            return min(self._due.values(), default=None)
        return min((due for (node, _), due in self._due.items() if due > self._promise_to(node)), default=None)

    def promise(self, by: str, nodes: frozenset[str], time: int | None) -> None:
        """Note that a node holds a mark of this time back, which the nodes behind it will get; None: no more."""
        if time is None:
            self._promised.pop(by, None)
        else:
            self._promised[by] = (nodes, time)

    def _promise_to(self, node: str) -> int:
        return max((time for nodes, time in self._promised.values() if node in nodes), default=0)


class Gate:
    """Let a mark through a node when all its inputs have sent it and all its shards have seen it."""

    def __init__(self, stages: Iterable[str]) -> None:
        self.stages = tuple(stages)
        self._passed: dict[int, int] = {}

    def passed(self, time: int) -> bool:
        """Count one shard; True for the last one."""
        count = self._passed[time] = self._passed.get(time, 0) + 1
        if count == len(SHARDS):
            del self._passed[time]
        return count == len(SHARDS)


class Shard:
    """The states of one node's keys in one shard. Items are chunks of events or marks."""

    def __init__(
        self, node: str, operator: Stateful[Any], wired: frozenset[str], shard: str, clock: Clock, gate: Gate,
        explain: Callable[[Exception, Event], Exception],
    ) -> None:  # fmt: skip
        self.node, self.operator, self.shard, self.clock, self.gate = node, operator, shard, clock, gate
        self.explain, self.live = explain, LiveTables()
        self.outputs = Outputs(node, wired, operator.fault_output)
        self.timed = type(operator).due is not Stateful.due
        self.gapped = type(operator).on_gap is not Stateful.on_gap
        self.states: dict[str, Any] = {}
        self.now = 0
        self._marks = dict.fromkeys(gate.stages, 0)
        self._through = 0
        self._heap: list[tuple[int, str]] = []
        self._listed: dict[str, int] = {}
        self._bytes: bytes | None = None
        self._came = self._own_faults = 0
        self._counted = (f"came {node}", f"echo {node}", f"timer {node}")
        self._lefts: dict[str, str] = {}

    def restore(self, snapshot: bytes) -> None:
        """Take the states of a snapshot."""
        self.now, self.states = decoded(snapshot, self.operator.state_type)
        self._bytes = snapshot
        if self.timed:
            self._listed = {
                key: due for key, state in self.states.items() if (due := self.operator.due(state)) is not None
            }
            self._heap = [(due, key) for key, due in self._listed.items()]
            heapify(self._heap)
            self._tell()

    def snapshot(self) -> bytes:
        """Return the states as bytes; later events do not change them."""
        if self._bytes is None:
            self._bytes = encoded(self.now, self.states)
        return self._bytes

    def on_batch(self, items: Iterable[list[Event] | Mark]) -> list[tuple[str, list[Any]] | Mark]:
        """Return what comes out, as `on_items`, and at the end what was counted: (name, number) under "#"."""
        self._came = self._own_faults = self.outputs.copied = 0
        found = self.on_items(items)
        left: dict[str, int] = {}
        for item in found:
            if not isinstance(item, Mark):
                left[item[0]] = left.get(item[0], 0) + len(item[1])
        counts = [(self._left(output), number) for output, number in left.items()]
        for name, number in zip(self._counted, (self._came, self.outputs.copied, self._own_faults), strict=True):
            if number:
                counts.append((name, number))
        if counts:
            found.append((COUNTS, counts))
        return found

    def _left(self, output: str) -> str:
        name = self._lefts.get(output)
        if name is None:
            name = self._lefts[output] = f"left {self.node}.{output}"
        return name

    def on_items(self, items: Iterable[list[Event] | Mark]) -> list[tuple[str, list[Any]] | Mark]:
        """Return what comes out, in order: (output, events), dead letters under "!", and marks that went through."""
        found: list[tuple[str, list[Any]] | Mark] = []
        for item in items:
            if isinstance(item, Mark):
                passed = self._mark(item)
                found += self.outputs.take()
                if passed is not None:
                    found.append(passed)
            else:
                self._bytes = None
                self._came += len(item)
                self._chunk(item)
                found += self.outputs.take()
        if self.timed:
            self._tell()
        return found

    def _chunk(self, events: list[Event]) -> None:
        """Take a chunk in runs: each ends before an event that moves the clock, since a timer may be due then."""
        begin, now = 0, self.now
        if type(events) is not Aside:
            for at, event in enumerate(events):
                if event.arrival > now:
                    if at > begin:
                        self._run(events[begin:at])
                    begin, now = at, event.arrival
                    self._pass(now)
        self._run(events[begin:] if begin else events)

    def _run(self, events: list[Event]) -> None:
        if not self.live:
            self._together(events)
            return
        for part in self.live.events(events):
            self._together(part)

    def _together(self, events: list[Event]) -> None:
        states = self.states
        for key in self.operator.on_events(states, events, self.outputs, self._event):
            if key in states:
                self._plan(key, self.operator.due(states[key]))

    def _event(self, event: Event) -> None:
        key = event.key if self.operator.keyed else ""
        try:
            state = self.operator.on_event(self.states.get(key), event, self.outputs)
        except Exception as fault:
            self._fault(event, fault)
        else:
            self._keep(key, state)

    def _pass(self, time: int) -> None:
        """Let time go on to `time`: over the gaps on the way, and let fire what is due."""
        if self.gapped and self.now < self.clock.last_gap:
            for gap in between(self.clock.gaps, self.now, time):
                self._fire_until(gap.start)
                self._cross(gap.end - gap.start)
        self._fire_until(time)

    def _fire_until(self, time: int) -> None:
        self.now = time
        if self._heap and self._heap[0][0] <= time:
            self._fire()

    def _cross(self, length: int) -> None:
        """Tell every state of a gap; one that cannot take it is forgotten."""
        self._bytes = None
        for key, state in list(self.states.items()):
            try:
                self._keep(key, self.operator.on_gap(state, length))
            except Exception as fault:
                self._timer_fault(key, self.now, fault)
                self._keep(key, None)

    def _fault(self, event: Event, fault: Exception) -> None:
        letter = dead_letter(self.node, event, self.explain(fault, event))
        self.outputs.fault(event, letter.reason, letter.values)

    def _keep(self, key: str, state: Any) -> None:
        if state is None:
            self.states.pop(key, None)
            return
        self.states[key] = state
        if self.timed:
            self._plan(key, self.operator.due(state))

    def _plan(self, key: str, due: int | None) -> None:
        """See to it that a key comes up when it is due; the heap has one entry a key, which may come up too early."""
        if due is not None and due < self._listed.get(key, due + 1):
            self._listed[key] = due
            heappush(self._heap, (due, key))

    def _fire(self) -> None:
        while self._heap and self._heap[0][0] <= self.now:
            listed, key = heappop(self._heap)
            if self._listed.get(key) != listed:
                continue
            del self._listed[key]
            due = self.operator.due(self.states[key]) if key in self.states else None
            if due is not None and due > listed:
                self._plan(key, due)
            elif due is not None:
                self._bytes = None
                self._on_time(key, due)

    def _on_time(self, key: str, due: int) -> None:
        """Let the operator act; one that fails, or wants to act at the same time again, forgets the key."""
        try:
            self.live.at(due)
            state = self.operator.on_time(self.states[key], key, due, self.outputs)
            again = None if state is None else self.operator.due(state)
            if again is not None and again <= due:
                raise ValueError("a later time to be called again")
        except Exception as fault:
            self._timer_fault(key, due, fault)
            state = None
        if state is None:
            del self.states[key]
        else:
            self.states[key] = state
            self._plan(key, again)

    def _timer_fault(self, key: str, at: int, fault: Exception) -> None:
        self._own_faults += 1
        self._fault(Event(derived_id(self.node, key, at), at, key, "", "", {}, None, at), fault)

    def _mark(self, mark: Mark) -> Mark | None:
        self._marks[mark.stage] = mark.time
        time = min(self._marks.values())
        if time == self._through:
            return None
        self._through = time
        if time > self.now:
            self._pass(time)
        return Mark(self.node, time) if self.gate.passed(time) else None

    def _tell(self) -> None:
        self.clock.set(self.node, self.shard, self._heap[0][0] if self._heap else None)
