"""Compile a plan to a Bytewax dataflow, and run it with recovery.

    feed ─▶ stage ─┬─▶ select ─▶ stateful_batch over 16 shards ─▶ stage ─┬─▶ …
                   └──────────────▶ outlet ◀─────────────────────────────┘

What flows are chunks: lists of events for one port and shard. Uses `input`, `flat_map_batch`, `stateful_batch`,
`merge`, `output` and `cli_main` of Bytewax 0.21.1.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from time import thread_time_ns
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream
from bytewax.inputs import Source
from bytewax.outputs import Sink
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from engine.errors import EnvironmentFault
from engine.keyed import Mark
from engine.meter import KEYED, SAMPLE, STRETCH
from engine.outputs import DEAD
from engine.outstanding import Ready
from engine.plan import SOURCES, KeyedPlan, Run

Item = tuple[str, str, Any]
PAGE = 16 << 10
"""Bytes: larger ones are faster still, but each commit of a flow with small states writes half a dozen of them."""


class KeyedLogic(op.StatefulBatchLogic[Any, Any, bytes]):
    """One shard of a keyed node as Bytewax sees it; an end of input keeps the state."""

    def __init__(self, run: Run, keyed: KeyedPlan, number: int, snapshot: bytes | None) -> None:
        self._shard = run.shard(keyed, str(number), snapshot)
        self._number, self._turn = number, 0
        self._step = run.meter.step(KEYED, keyed.node.name)
        if snapshot is not None:
            self._step.shards[number] = (len(self._shard.states), len(snapshot))

    def on_batch(self, values: list[Any]) -> tuple[Iterable[Any], bool]:
        self._turn += 1
        if self._turn % SAMPLE:
            return self._shard.on_batch(values), False
        start = thread_time_ns()
        found = self._shard.on_batch(values)
        self._step.cpu += (thread_time_ns() - start) * SAMPLE
        return found, False

    def snapshot(self) -> bytes:
        start = thread_time_ns()
        found = self._shard.snapshot()
        self._step.snapshot += thread_time_ns() - start
        self._step.shards[self._number] = (len(self._shard.states), len(found))
        return found


def dataflow(run: Run, source: Source[Any], sink: Sink[Any]) -> Dataflow:
    """Return the Bytewax dataflow of a plan; step names are node names, since state hangs on them."""
    plan = run.plan
    flow = Dataflow(plan.flow.name)
    stages = {"sources": op.flat_map_batch("sources", op.input("feed", flow, source), _source_stage(run))}
    for keyed in plan.keyed:
        stages[keyed.node.name] = _keyed(run, keyed, stages)
    ends = [op.flat_map_batch(f"{name}:ends", stage, _ends) for name, stage in stages.items()]
    op.output("outlet", op.merge("ends", *ends) if len(ends) > 1 else ends[0], sink)
    return flow


def _source_stage(run: Run) -> Callable[[list[Any]], Iterable[Item]]:
    plan, step = run.plan, run.meter.step(STRETCH, SOURCES)

    def run_source(batch: list[Any]) -> list[Item]:
        start = thread_time_ns()
        found: list[Item] = []
        for item in batch:
            found += run.time_or_answers(item) if isinstance(item, Mark | Ready) else plan.run_sources(item)
        step.cpu += thread_time_ns() - start
        return found

    return run_source


def _keyed(run: Run, keyed: KeyedPlan, stages: dict[str, Stream[Item]]) -> Stream[Item]:
    name = keyed.node.name
    streams = [stages[upstream] for upstream in dict.fromkeys((*keyed.upstream, SOURCES))]  # what is retried comes past
    merged = op.merge(f"{name}:in", *streams) if len(streams) > 1 else streams[0]
    chosen = op.flat_map_batch(
        f"{name}:select", merged, lambda batch: [(s, item) for port, s, item in batch if port == name]
    )
    numbers = iter(range(1 << 30))
    run.meter.step(KEYED, name)
    out = op.stateful_batch(name, chosen, lambda snapshot: KeyedLogic(run, keyed, next(numbers), snapshot))
    return op.flat_map_batch(f"{name}:stage", out, _stage_after(run, keyed))


def _stage_after(run: Run, keyed: KeyedPlan) -> Callable[[list[Any]], list[Item]]:
    step = run.meter.step(STRETCH, keyed.node.name)

    def run_after(batch: list[Any]) -> list[Item]:
        start = thread_time_ns()
        found = run.after(keyed, batch)
        step.cpu += thread_time_ns() - start
        return found

    return run_after


def _ends(batch: list[Item]) -> list[tuple[str, tuple[str, Any]]]:
    return [("outlet", (port, item)) for port, shard, item in batch if not shard or port == DEAD]


def execute(flow: Dataflow, recovery: Path, epoch: timedelta) -> None:
    """Run a dataflow in this thread until its source ends; recovery lies in a folder of its own.

    Raises EnvironmentFault when the recovery store cannot be read.
    """
    make_ready(recovery)
    cli_main(flow, epoch_interval=epoch, recovery_config=RecoveryConfig(str(recovery)))


def make_ready(recovery: Path) -> None:
    """Make the recovery store where there is none; raises EnvironmentFault when it cannot be read."""
    store = recovery / "part-0.sqlite3"
    if store.exists():
        _check_store(store)
    else:
        _make_store(recovery)


def _make_store(recovery: Path) -> None:
    """Make an empty store, whole or not at all."""
    fresh = recovery.with_name(f"{recovery.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    init_db_dir(fresh, 1)
    _enlarge_pages(fresh / "part-0.sqlite3")
    fresh.replace(recovery)


def _enlarge_pages(store: Path) -> None:
    """Give a new store pages in which the states of many keys are written in half the time."""
    with closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA journal_mode=delete")
        connection.execute(f"PRAGMA page_size={PAGE}")
        connection.execute("VACUUM")


def _check_store(store: Path) -> None:
    try:
        with closing(sqlite3.connect(store)) as connection:
            connection.execute("PRAGMA schema_version").fetchone()
    except sqlite3.DatabaseError as fault:
        advice = "bring back a copy, or move the folder away: the flow then begins with what its inbox still has"
        raise EnvironmentFault(f"{store}: a recovery store; {fault}. Either {advice}") from None
