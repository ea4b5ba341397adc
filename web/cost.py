"""What flows and the gateway cost: shares of a core by step, from two reports of a worker some seconds apart."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import psutil

from engine.component import Stateful
from engine.flow import Flow
from engine.frames import Report, StepCost
from engine.meter import DATAFLOW, IO, KEYED, READ, SINK, STRETCH, THREAD
from engine.stretches import SOURCES, stretch
from web.services import Footprint, Queue, StepLine

REST = "rest"
SAMPLES, APART = 6, 1.0
Rates = Mapping[str, Mapping[str, float]]


class Spent(NamedTuple):
    """CPU time: all of it in seconds, and now as a share of a core; the last two are what other threads took of it."""

    seconds: float
    cpu: float
    kind: str = ""
    name: str = ""
    other_seconds: float = 0.0
    other_cpu: float = 0.0

    @classmethod
    def of(cls, step: StepCost, was: StepCost, seconds: float) -> "Spent":
        """Return what a step took, which it had told of `seconds` ago too."""
        total, before = step.cpu + step.snapshot, was.cpu + was.snapshot
        other = (step.elsewhere, (step.elsewhere - was.elsewhere) / seconds)
        return cls(total, (total - before) / seconds, step.kind, step.name, *other)

    @property
    def here(self) -> "Spent":
        """Return what the step's own thread took."""
        return Spent(self.seconds - self.other_seconds, self.cpu - self.other_cpu)

    @property
    def elsewhere(self) -> "Spent":
        """Return what other threads took."""
        return Spent(self.other_seconds, self.other_cpu)


class FlowCost:
    """Works out what the steps of one version of a flow take."""

    def __init__(self, flow: Flow) -> None:
        keyed = [node.name for node in flow.section("operators") if isinstance(node.component, Stateful)]
        self._sources = tuple(node.name for node in flow.section("sources"))
        self._stretches = {name: stretch(flow, name) for name in (SOURCES, *keyed)}

    def lines(self, rates: Rates, first: Report, last: Report, seconds: float) -> list[StepLine]:
        """Return what each step took between two reports that are `seconds` apart, in the order of the flow.

        Last come the parts that no step accounts for: of the dataflow's thread, of the I/O thread, and other threads.
        """
        before = {(step.kind, step.name): step for step in first.steps}
        steps = [(step, before.get((step.kind, step.name), step)) for step in last.steps]
        lines = [self._line(rates, was, step, last, seconds) for step, was in steps if step.kind != THREAD]
        whole = Spent(last.cpu, (last.cpu - first.cpu) / seconds)
        return lines + list(_rests([Spent.of(step, was, seconds) for step, was in steps], whole))

    def _line(self, rates: Rates, was: StepCost, step: StepCost, last: Report, seconds: float) -> StepLine:
        cpu = (step.cpu + step.snapshot - was.cpu - was.snapshot) / seconds
        rate, total = self._taken(step, rates), self._taken(step, last.nodes)
        spent = cpu / rate if rate > 0 else (step.cpu + step.snapshot) / total if total else None
        return StepLine(
            step.kind, step.name, self._members(step), cpu, step.cpu + step.snapshot, rate,
            None if spent is None else spent * 1e6, min(1.0, (step.busy - was.busy) / seconds), step.busy,
            (step.snapshot - was.snapshot) / seconds, step.keys, step.state,
        )  # fmt: skip

    def _members(self, step: StepCost) -> tuple[str, ...]:
        if step.kind == READ:
            return self._sources
        if step.kind == STRETCH:
            return self._stretches.get(step.name, ())
        return (step.name,) if step.kind in (KEYED, SINK) else ()

    def _taken(self, step: StepCost, counts: Rates) -> float:
        """Return how many events a step took, by the counts of its nodes: in all, or a second."""
        first = step.kind == READ or (step.kind == STRETCH and step.name == SOURCES)
        what = "in" if step.kind == KEYED else "out"
        return sum(counts.get(name, {}).get(what, 0.0) for name in (self._sources if first else (step.name,)))


def _rests(steps: Sequence[Spent], whole: Spent) -> Iterator[StepLine]:
    threads = {step.name: step for step in steps if step.kind == THREAD}
    if not threads.keys() >= {DATAFLOW, IO}:
        return
    sinks = [step for step in steps if step.kind == SINK]
    others = [step for step in steps if step.kind not in (SINK, THREAD)]
    yield _rest("engine", threads[DATAFLOW], others)
    yield _rest("io", threads[IO], [step.here for step in sinks])
    yield _rest("threads", whole, [*threads.values(), *(step.elsewhere for step in sinks)])


def _rest(name: str, whole: Spent, parts: Sequence[Spent]) -> StepLine:
    seconds = max(0.0, whole.seconds - sum(part.seconds for part in parts))
    return StepLine(REST, name, (), max(0.0, whole.cpu - sum(part.cpu for part in parts)), seconds)


def sink_queues(report: Report) -> list[Queue]:
    """Return what waits for the sinks of a flow: in memory, and on the disk where something is."""
    sinks = [step for step in report.steps if step.kind == SINK]
    lanes = [Queue("lane", step.name, step.queued, min(1.0, step.queued / step.room)) for step in sinks if step.room]
    return lanes + [Queue("spill", step.name, step.spilled, step.spill_fill) for step in sinks if step.spilled]


class OwnCost:
    """Measures this process when it is asked, over the last seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._process = clock, psutil.Process()
        self._samples: deque[tuple[float, float]] = deque([(clock(), time.process_time())], SAMPLES)

    def __call__(self) -> Footprint:
        """Return CPU and memory."""
        now, seconds = self._clock(), time.process_time()
        since, spent = self._samples[0]
        if now - self._samples[-1][0] >= APART:
            self._samples.append((now, seconds))
        share = (seconds - spent) / (now - since) if now > since else 0.0
        return Footprint(share, seconds, self._process.memory_info().rss)
