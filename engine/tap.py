"""Taps: what passes a wire of a running flow, sampled, for those who look.

A stage that is tapped is compiled anew with a call at the wire, and the old one is put back when nobody looks any more,
so a tap costs nothing where there is none. What the flow does and counts is the same with and without.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from engine.dead import DeadLetter
from engine.errors import UsageFault, did_you_mean
from engine.event import Event, moment
from engine.flow import Flow, Input
from engine.frames import Tapped
from engine.outputs import DEAD
from engine.plan import Plan
from engine.stage import Run, Stage
from engine.wiring import ERRORS, outputs

MOST = 200  # samples a second and wire
WAITING = 2 * MOST
LARGEST = 64 << 10  # bytes of one sample
EVERY = 0.1  # seconds
Take = Callable[[Event], None]
_encoder = msgspec.json.Encoder(enc_hook=str)


def wires(flow: Flow) -> list[str]:
    """Return the names of all wires of a flow: `node` and `node.output`."""
    nodes = [node for node in flow.nodes.values() if node.section != "sinks"]
    return [str(Input(node.name, output)) for node in nodes for output in dict.fromkeys(["", *outputs(node)])]


def resolved(flow: Flow, wire: str) -> str:
    """Return the wire that carries what is asked for; raises UsageFault when there is none of this name.

    Events that fail at a node go to one of its outputs only: to the other one's name, it is the same.
    """
    known = wires(flow)
    if wire not in known:
        node = flow.nodes.get(wire)
        if node is not None:
            takes = f"what comes out of a node; '{wire}' is a sink: look at {', '.join(map(str, node.inputs))}"
            raise UsageFault(f"wire: {takes}")
        hint = did_you_mean(wire, known)
        raise UsageFault(f"wire: a node of '{flow.name}' or node.output; got '{wire}'" + (f" ({hint})" if hint else ""))
    asked = Input.parse(wire)
    component = flow.nodes[asked.node].component
    names = (component.fault_output, ERRORS)
    if asked.output not in names:
        return wire
    taken = {output for _, output in flow.consumers(asked.node)}
    return str(Input(asked.node, next((name for name in names if name in taken), component.fault_output)))


class TappedStage(Stage):
    """A stage with a call at some of its wires; it goes on with the counts of the one in whose place it is.

    An event is what it is during the call: nodes that come later may change it.
    """

    def __init__(self, stage: Stage, takes: dict[str, Take]) -> None:
        self.taps = takes
        super().__init__(stage.name, stage.flow, stage.entries, stage.replying)
        self.counts = stage.counts
        self._faults = {wire.node: take for wire, take in self._unwired() if self._is_fault(wire)}

    def _unwired(self) -> Iterable[tuple[Input, Take]]:
        for name, take in self.taps.items():
            wire = Input.parse(name)
            if wire.output not in {output for _, output in self.flow.consumers(wire.node)}:
                yield wire, take

    def _is_fault(self, wire: Input) -> bool:
        return wire.output == self.flow.nodes[wire.node].component.fault_output

    def run(self, runs: list[Run]) -> list[tuple[str, str, list[Any]]]:
        """Run the stage; what comes from its keyed node by an output that nothing takes is seen here."""
        for output, chunk in runs:
            if output == DEAD:
                for letter in chunk:
                    self._failed(letter)
            elif output in self.taps and output not in self.entries:
                for event in chunk:
                    self.taps[output](event)
        return super().run(runs)

    def _failed(self, letter: DeadLetter) -> None:
        if letter.node in self._faults:
            event = letter.event
            self._faults[letter.node](event.derive({**event.data, "reason": letter.reason}))

    def _drop(self, node: str, event: Event, fault: Exception) -> None:
        super()._drop(node, event, fault)
        if node in self._faults:
            self._faults[node](event.derive({**event.data, "reason": str(fault)}))


class Samples:
    """What was seen and not sent yet, at most MOST a second and wire; the dataflow's thread takes, the loop sends."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._second, self._taken = 0, Counter[str]()
        self._lines: list[tuple[str, bytes]] = []
        self._skipped: Counter[str] = Counter()

    def taker(self, wire: str) -> Take:
        """Return what is called with each event of a wire."""

        def take(event: Event) -> None:
            second = int(self._clock())
            with self._lock:
                if second != self._second:
                    self._second, self._taken = second, Counter()
                if self._taken[wire] >= MOST or len(self._lines) >= WAITING:
                    self._skipped[wire] += 1
                    return
                self._taken[wire] += 1
                self._lines.append((wire, line(event)))

        return take

    def frame(self) -> Tapped | None:
        """Return what is to be sent, None when there is nothing, and begin anew."""
        with self._lock:
            if not self._lines and not self._skipped:
                return None
            found = Tapped(self._lines, dict(self._skipped))
            self._lines, self._skipped = [], Counter()
            return found


class Taps:
    """The taps of one worker. `set` is called on the loop; `send` returns False while there is no room to send."""

    def __init__(self, plan: Plan, send: Callable[[Tapped], bool]) -> None:
        self._plan, self._send = plan, send
        self._stages: dict[str, Stage] = {}
        self._wires: list[str] = []
        self._samples = Samples()
        self._sending: asyncio.Task[None] | None = None

    def set(self, names: list[str]) -> None:
        """Look at these wires and no others; what the flow does not have is left out."""
        known = set(wires(self._plan.flow))
        names = [name for name in names if name in known]
        if names == self._wires:
            return
        self._wires, self._samples = names, Samples()
        self._put_back()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        if names:
            self._compile({name: self._samples.taker(name) for name in names})
            self._sending = asyncio.get_running_loop().create_task(self._send_all(self._samples))

    def _compile(self, takes: dict[str, Take]) -> None:
        """Put tapped stages in the place of all: the dataflow's thread takes them up with its next batch."""

        def tapped(stage: Stage) -> Stage:
            self._stages[stage.name] = stage
            return TappedStage(stage, takes)

        self._plan.tapped = tapped
        self._put({stage.name: tapped(stage) for stage in self._plan.stages()})

    def _put_back(self) -> None:
        self._plan.tapped = None
        self._put(self._stages)
        self._stages = {}

    def _put(self, stages: Mapping[str, Stage]) -> None:
        plan = self._plan
        plan.source = stages.get(plan.source.name, plan.source)
        for keyed in plan.keyed:
            keyed.stage = stages.get(keyed.stage.name, keyed.stage)
        plan.retries.update((name, stages[name]) for name in list(plan.retries) if name in stages)

    async def _send_all(self, samples: Samples) -> None:
        waiting: Tapped | None = None
        while True:
            await asyncio.sleep(EVERY)
            waiting = waiting or samples.frame()
            if waiting is not None and self._send(waiting):
                waiting = None


def line(event: Event) -> bytes:
    """Return an event as a line of JSON: id, time, key and data."""
    shown = {"id": event.id.hex(), "time": moment(event.time), "key": event.key, "data": event.data}
    try:
        encoded = _encoder.encode(shown)
    except (OverflowError, TypeError, ValueError, RecursionError):
        encoded = _encoder.encode({**shown, "data": ascii(event.data)[:LARGEST]})
    if len(encoded) > LARGEST:
        encoded = _encoder.encode({**shown, "data": None, "bytes": len(encoded)})
    return encoded + b"\n"
