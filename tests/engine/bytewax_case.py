"""Run a flow on Bytewax: what a worker feeds goes in as it is written here, and what it would write comes out."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from engine.block import Block
from engine.compile import dataflow, execute
from engine.dead import DeadLetter
from engine.decode import Decoding
from engine.event import Event, stream_prefix
from engine.feed import Position
from engine.flow import Flow
from engine.given import Answers, GivenAnswer
from engine.keyed import Mark
from engine.live_table import LiveTables
from engine.outputs import COUNTS, DEAD
from engine.outstanding import Outstanding
from engine.plan import SOURCES, Plan, Run

EPOCH = timedelta(milliseconds=20)
Batch = list[Block | int]
"""Blocks and marks (a time) that a worker finds at once."""


class Script(StatefulSourcePartition[Any, bytes]):
    """Gives one batch a call; its position is the number of batches that were given."""

    def __init__(self, batches: Sequence[Batch], decoding: Decoding, live: LiveTables, position: int) -> None:
        self._batches, self._decoding, self._live, self._position = batches, decoding, live, position

    def next_batch(self) -> list[Any]:
        if self._position >= len(self._batches):
            raise StopIteration
        batch = self._batches[self._position]
        self._position += 1
        prefix = stream_prefix("test")
        return [
            Mark(SOURCES, i) if isinstance(i, int) else self._decoding.runs(self._live.heed([i]), prefix) for i in batch
        ]

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(Position(self._position))


class ScriptSource(FixedPartitionedSource[Any, bytes]):
    """The one source of a run."""

    def __init__(self, batches: Sequence[Batch], flow: Flow) -> None:
        self._batches, self._decoding, self._live = batches, Decoding(flow), flow.live

    def list_parts(self) -> list[str]:
        return ["feed"]

    def build_part(self, step_id: str, for_part: str, resume_state: bytes | None) -> Script:
        position = msgspec.msgpack.decode(resume_state, type=Position).offset if resume_state else 0
        return Script(self._batches, self._decoding, self._live, position)


class Collected(FixedPartitionedSink[Any, None]):
    """Keeps what arrives at each port."""

    def __init__(self) -> None:
        self.items: list[tuple[str, list[Any]]] = []

    def list_parts(self) -> list[str]:
        return ["outlet"]

    def build_part(self, step_id: str, for_part: str, resume_state: None) -> StatefulSinkPartition[Any, None]:
        items = self.items

        class Part(StatefulSinkPartition[Any, None]):
            def write_batch(self, values: list[Any]) -> None:
                items.extend(values)

            def snapshot(self) -> None:
                return None

        return Part()


class Outcome:
    """What came out of one or more runs: events by sink, and dead letters."""

    def __init__(self) -> None:
        self.out: dict[str, list[Event]] = {}
        self.dead: list[DeadLetter] = []

    def add(self, items: list[tuple[str, list[Any]]]) -> None:
        for port, chunk in items:
            if port == DEAD:
                self.dead += [letter for letter in chunk if letter.kept]
            elif port != COUNTS:
                self.out.setdefault(port, []).extend(chunk)


def run_bytewax(
    flow: Flow, batches: Sequence[Batch], folder: Path, stops: Sequence[int] = (),
    answers: Mapping[str, Sequence[GivenAnswer]] | None = None,
) -> Outcome:  # fmt: skip
    """Run all batches; after each number in `stops` the process ends with a snapshot and begins anew from it.

    `answers` are those to the nodes that ask somebody outside.
    """
    outcome, given = Outcome(), Answers(answers)
    for stop in [*stops, len(batches)]:
        plan, sink = Plan(flow), Collected()
        source = ScriptSource(batches[:stop], flow)
        execute(dataflow(Run(plan, Outstanding(given.asker)), source, sink), folder / "recovery", EPOCH)
        outcome.add(sink.items)
    return outcome
