"""What snapshots cost with 100,000 keys on Bytewax, a window open for each, and how long a restart with them takes."""

import gc
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from bench.result import Figure, Section, at_most
from engine.block import Block
from engine.compile import dataflow, execute
from engine.epoch import epoch_for
from engine.event import stream_prefix
from engine.harness import Sent, block_of
from engine.load import load_text
from engine.plan import Plan, Run

FLOW = """
flow: bench
sources: {station: {mqtt: {topics: [sensor]}}}
operators:
  hours:
    from: station
    key: device
    window: {every: 1h, by: event, compute: {n: count, mean: {mean: value}, top: {max: value}}}
sinks: {out: {from: hours, log: {}}}
"""
KEYS, BLOCK, STEP = 100_000, 2_000, 4_000
TURN = KEYS // BLOCK
START, PREFIX = 1_760_000_000_000_000, stream_prefix("bench")
NEVER, EPOCH = timedelta(hours=1), timedelta(seconds=1)
IDLE_SNAPSHOTS = 3


def blocks() -> list[Block]:
    """Return events as an inbox has them, 500,000 a second: each key has its turn, with another value each time."""
    found = []
    for first in range(0, 2 * KEYS, BLOCK):
        at = START + first // BLOCK * STEP
        payloads = [b'{"device":"device-%d","value":%d.25}' % (n % KEYS, n % 977) for n in range(first, first + BLOCK)]
        found.append(block_of([Sent(at, "station", payload, "sensor") for payload in payloads], first + 1, at))
    return found


class Turn(msgspec.Struct):
    """One call for a batch: when, at which CPU time, and whether it was the first after a snapshot."""

    at: float
    cpu: float
    snapshot: bool
    idle: bool


class Load(StatefulSourcePartition[Any, int]):
    """Gives blocks from a position on, then waits for some snapshots with nothing in them."""

    def __init__(self, bench: "Bench", position: int) -> None:
        self._bench, self._position, self._idle, self._snapshot = bench, position, 0, False

    def next_batch(self) -> list[Any]:
        bench, done = self._bench, self._position >= self._bench.end
        bench.turns.append(Turn(time.perf_counter(), time.thread_time(), self._snapshot, done and self._idle > 0))
        self._idle += done and (self._snapshot or not self._idle)
        self._snapshot = False
        if done:
            if self._idle > bench.idle:
                raise StopIteration
            return []
        found = bench.block(self._position)
        self._position += 1
        return [bench.plan.records([found], PREFIX)]

    def snapshot(self) -> int:
        self._snapshot = True
        return self._position


class LoadSource(FixedPartitionedSource[Any, int]):
    """The one source of a run."""

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench

    def list_parts(self) -> list[str]:
        return ["feed"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> Load:
        return Load(self._bench, resume_state or 0)


class Arrived(StatefulSinkPartition[Any, None]):
    """Notes when the first chunk came through."""

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench

    def write_batch(self, values: list[Any]) -> None:
        self._bench.arrived = self._bench.arrived or time.perf_counter()

    def snapshot(self) -> None:
        return None


class ArrivedSink(FixedPartitionedSink[Any, None]):
    """The one sink of a run."""

    def __init__(self, bench: "Bench") -> None:
        self._bench = bench

    def list_parts(self) -> list[str]:
        return ["outlet"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> Arrived:
        return Arrived(self._bench)


class Bench:
    """One flow over blocks that come round again and again, later each time."""

    def __init__(self, folder: Path, turns: int) -> None:
        self.folder, self.blocks, self.last = folder, blocks(), (1 + turns) * TURN
        self.plan = Plan(load_text(FLOW).raise_findings())
        self.turns: list[Turn] = []
        self.end = self.idle = 0
        self.arrived = 0.0

    def block(self, position: int) -> Block:
        """Return the block at a position, at its time."""
        found = self.blocks[position % len(self.blocks)]
        return msgspec.structs.replace(found, first=position * BLOCK + 1, time=START + position * STEP)

    def run(self, name: str, end: int, epoch: timedelta, idle: int = 0) -> None:
        """Run up to a block, from where the last run of this name stood."""
        self.end, self.idle, self.arrived, self.turns = end, idle, 0.0, []
        execute(dataflow(Run(self.plan), LoadSource(self), ArrivedSink(self)), self.folder / name, epoch)

    def rate(self, name: str, epoch: timedelta) -> float:
        """Return events/s, once every key has been seen."""
        self.run(name, TURN, NEVER)
        idle = IDLE_SNAPSHOTS if epoch == EPOCH else 0
        self.run(name, self.last, epoch, idle)
        busy = [turn.at for turn in self.turns if not turn.idle]
        return (len(busy) - 1) * BLOCK / (busy[-1] - busy[0])

    def stalls(self, *, idle: bool = False, cpu: bool = False) -> list[float]:
        """Return by how much longer than usual it took to the first batch after each snapshot, in ms."""
        pairs = [
            (after, after.cpu - before.cpu if cpu else after.at - before.at)
            for before, after in zip(self.turns, self.turns[1:], strict=False)
            if before.idle == after.idle == idle
        ]
        usual = median([took for turn, took in pairs if not turn.snapshot])
        return [(took - usual) * 1e3 for turn, took in pairs if turn.snapshot]

    def resume(self, name: str) -> float:
        """Return the seconds from the start to the first event that came through."""
        begun = time.perf_counter()
        self.run(name, self.last + 1, NEVER)
        return self.arrived - begun


class Found(msgspec.Struct):
    """What the runs gave: events/s, milliseconds and seconds."""

    without: list[float] = []
    often: list[float] = []
    touched: list[float] = []
    cpu: list[float] = []
    untouched: list[float] = []
    resumed: list[float] = []
    epoch: float = 0.0

    def add(self, bench: Bench, at: int) -> None:
        """Run without snapshots, with them, and resume."""
        self.without.append(bench.rate(f"never{at}", NEVER))
        self.often.append(bench.rate(f"often{at}", EPOCH))
        self.touched += bench.stalls()
        self.cpu += bench.stalls(cpu=True)
        self.untouched += bench.stalls(idle=True)
        self.resumed.append(bench.resume(f"often{at}"))
        self.epoch = epoch_for(bench.folder / f"often{at}").total_seconds()

    def figures(self) -> list[Figure]:
        """Return medians; the cost is that of each pair of runs."""
        cost = median([1 - often / without for often, without in zip(self.often, self.without, strict=True)])
        worst = f"longest of {len(self.touched)}: {max(self.touched):.0f} ms"
        return [
            Figure("events/s without snapshots", median(self.without), "events/s"),
            Figure("events/s with one every second", median(self.often), "events/s"),
            at_most("what they cost", cost * 100, "%", 10),
            at_most("stall for a snapshot, every key touched", median(self.touched), "ms", 50, worst),
            Figure("of it CPU time", median(self.cpu), "ms"),
            Figure("stall for a snapshot, no key touched", median(self.untouched), "ms"),
            at_most("restart to first event out of the flow", median(self.resumed), "s", 2),
            Figure("epoch that a worker takes with these states", self.epoch, "s"),
        ]


def measure(short: bool) -> Section:
    """Measure as a worker does, without the collector of cycles; runs with and without snapshots take turns."""
    found = Found()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            bench = Bench(Path(folder), 10 if short else 30)
            for at in range(1 if short else 3):
                found.add(bench, at)
    finally:
        gc.enable()
        gc.unfreeze()
    return Section(f"Snapshots, {KEYS:,} keys", found.figures(), notes=NOTES)


NOTES = [
    "Wall time on Bytewax: decoding, a window by event time with count, mean and greatest value for each key, the "
    "recovery store written with fsync. A stall is the time to the next batch, less that of other batches.",
]


if __name__ == "__main__":
    print(msgspec.json.format(msgspec.json.encode(measure("short" in sys.argv))).decode())
