"""Print what snapshots cost and how long a restart takes, with 100,000 keys on Bytewax, windows open for each."""

import gc
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from engine.block import Block
from engine.compile import dataflow, execute
from engine.decode import Decoding
from engine.epoch import epoch_for
from engine.event import stream_prefix
from engine.flow import Flow
from engine.harness import Sent, block_of
from engine.load import load_text
from engine.plan import Plan, Run

FLOW = """
flow: bench
sources: {station: {mqtt: {topics: [sensor]}}}
operators:
  minutes:
    from: station
    key: device
    window: {every: 1h, by: event, compute: {n: count, mean: {mean: value}, top: {max: value}}}
sinks: {out: {from: minutes, log: {}}}
"""
KEYS, BLOCK = 100_000, 2_000
WARM, EVENTS = 100_000, 500_000
NEVER = timedelta(hours=1)
START = 1_700_000_000_000_000
RUNS = 3


def blocks(count: int) -> list[Block]:
    """Return events as an inbox has them: each key has its turn."""
    found = []
    for first in range(0, count, BLOCK):
        payloads = [
            b'{"device":"device-%d","value":%d.25}' % (at % KEYS, at % 977) for at in range(first, first + BLOCK)
        ]
        at = START + first
        found.append(block_of([Sent(at, "station", payload, "sensor") for payload in payloads], first + 1, at))
    return found


class Load(StatefulSourcePartition[Any, int]):
    """Gives the blocks from a position on; notes when the keys had all been seen, and when the last block was given."""

    def __init__(self, bench: "Bench", position: int) -> None:
        self._bench, self._position, self._decoding = bench, position, Decoding(bench.flow)
        self._prefix = stream_prefix("bench")

    def next_batch(self) -> list[Any]:
        if self._position == WARM // BLOCK:
            self._bench.warm = time.perf_counter()
        if self._position >= self._bench.end:
            self._bench.ended = time.perf_counter()
            raise StopIteration
        block = self._bench.blocks[self._position % len(self._bench.blocks)]
        self._position += 1
        return [self._decoding.runs([block], self._prefix)]

    def snapshot(self) -> int:
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
    """One flow over one list of blocks; times of its last run in seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.flow, self.blocks = folder, load_text(FLOW).raise_findings(), blocks(WARM + EVENTS)
        self.end, self.epoch = 0, NEVER
        self.warm = self.ended = self.arrived = 0.0

    def run(self, name: str, end: int, epoch: timedelta) -> Flow:
        """Run up to a block, from where the last run of this name stood."""
        self.end, self.arrived = end, 0.0
        execute(dataflow(Run(Plan(self.flow)), LoadSource(self), ArrivedSink(self)), self.folder / name, epoch)
        return self.flow

    def throughput(self, name: str, epoch: timedelta | None) -> float:
        """Return events/s after every key has been seen; without an epoch a worker's own is taken."""
        self.run(name, WARM // BLOCK, NEVER)
        self.epoch = epoch or epoch_for(self.folder / name)
        self.run(name, len(self.blocks), self.epoch)
        return EVENTS / (self.ended - self.warm)

    def resume(self, name: str) -> float:
        """Return the seconds from the start to the first event that came through."""
        begun = time.perf_counter()
        self.run(name, len(self.blocks) + 1, NEVER)
        return self.arrived - begun


def measure() -> dict[str, float]:
    """Return events/s without and with snapshots, their cost, and seconds to resume: medians, runs taking turns."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        rates = [(bench.throughput(f"n{at}", NEVER), bench.throughput(f"s{at}", None)) for at in range(RUNS)]
        resume = median([bench.resume(f"s{at}") for at in range(RUNS)])
    never, often = (median(column) for column in zip(*rates, strict=True))
    cost = median([1 - with_snapshots / without for without, with_snapshots in rates])
    epoch = bench.epoch.total_seconds()
    return {"without": never, "with": often, "epoch": epoch, "cost": cost, "resume": resume}


def main() -> dict[str, float]:
    """Measure, as a worker does without the collector of cycles, and print."""
    gc.collect()
    gc.disable()
    try:
        found = measure()
    finally:
        gc.enable()
    print(f"{KEYS:,} keys on Bytewax, a window each: {found['without']:,.0f}/s without snapshots", end=", ")
    print(f"{found['with']:,.0f}/s with one every {found['epoch']:.1f} s (cost {found['cost']:.0%})", end=", ")
    print(f"resumed in {found['resume']:.2f} s")
    return found


if __name__ == "__main__":
    main()
