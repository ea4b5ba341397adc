"""The plan on Bytewax: order, marks through several nodes with memory, ends of input, and recovery."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bytewax.recovery import init_db_dir

from engine.block import Block
from engine.compile import PAGE, make_ready
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.plan import Plan
from engine.testing import START
from tests.engine.bytewax_case import Batch, run_bytewax

SECOND = 1_000_000
TEXT = """
flow: f
sources: {a: {mqtt: {topics: [t]}}, b: {mqtt: {topics: [u]}}}
operators:
  cars:  {from: [a, b], key: k, group: {opens: opens, as: car}}
  rows:  {from: cars, number: {as: id}}
  calm:  {from: [rows, b], key: k, throttle: {every: 10s, keep: last}}
  sums:  {from: calm, window: {every: 60s}}
sinks:
  z: {from: rows, log: x}
  y: {from: sums, log: x}
  x: {from: calm.dropped, log: x}
"""
FLOW = load_text(TEXT).raise_findings()


def block(number: int, at: float, source: str = "a", **data: object) -> Block:
    time = START + round(at * SECOND)
    return block_of([Sent(time, source, msgspec.json.encode(data))], number, time)


def test_the_nodes_with_memory_come_after_those_that_feed_them() -> None:
    assert [keyed.node.name for keyed in Plan(FLOW).keyed] == ["cars", "rows", "calm", "sums"]
    assert Plan(FLOW).keyed[2].upstream == ("sources", "rows")


def test_only_nodes_that_wait_for_time_get_marks() -> None:
    plan = Plan(FLOW)
    assert {name for name, _, _ in plan.marks(plan.source, 1)} == {"cars", "calm"}
    assert {name for name, _, _ in plan.marks(plan.keyed[3].stage, 1)} == set()
    quiet = Plan(load_text(
        "flow: f\nsources: {a: {mqtt: {topics: [t]}}}\noperators: {o: {from: a, number: {}}}\nsinks: {z: {from: o, log: x}}"
    ).raise_findings())  # fmt: skip
    assert quiet.marks(quiet.source, 1) == []


def test_a_mark_goes_through_nodes_in_a_row(tmp_path: Path) -> None:
    """The window closes though nothing comes any more, after the throttle let its last event go."""
    last = START + 3600 * SECOND
    outcome = run_bytewax(FLOW, [[block(1, 1, k="a"), block(2, 2, k="a")], [last]], tmp_path)
    assert [event.data["count"] for event in outcome.out["y"]] == [2]
    assert [event.data["id"] for event in outcome.out["z"]] == [1, 2]


def test_an_end_of_input_closes_nothing(tmp_path: Path) -> None:
    batches: list[Batch] = [[block(1, 1, k="a")], [block(2, 30, k="a")]]
    assert "y" not in run_bytewax(FLOW, batches, tmp_path, stops=[1]).out


@pytest.mark.parametrize("stops", [[1], [2], [1, 2, 3], [1, 1]])
def test_a_run_goes_on_where_the_last_one_ended(stops: list[int], tmp_path: Path) -> None:
    batches: list[Batch] = [
        [block(1, 1, k="a", opens=True)], [block(2, 2, k="b"), START + 5 * SECOND], [block(3, 70, k="a", opens=True)],
        [START + 600 * SECOND],
    ]  # fmt: skip
    whole = run_bytewax(FLOW, batches, tmp_path / "whole")
    parts = run_bytewax(FLOW, batches, tmp_path / "parts", stops)
    assert parts.out["z"] == whole.out["z"]
    assert sorted(parts.out["y"], key=lambda e: (e.key, e.time)) == sorted(
        whole.out["y"], key=lambda e: (e.key, e.time)
    )
    found = [(event.key, event.data["car"], event.data["id"]) for event in whole.out["z"]]
    assert found == [("a", 1, 1), ("b", 1, 2), ("a", 2, 3)]


def test_dead_letters_come_out_once_from_every_stage(tmp_path: Path) -> None:
    outcome = run_bytewax(FLOW, [[block(1, 1, k=None)], [block(2, 2, source="gone")], [block(3, 3, k="a")]], tmp_path)
    assert [letter.node for letter in outcome.dead] == ["cars", "gone"]
    assert len(outcome.out["z"]) == 1


def test_a_flow_without_memory_runs(tmp_path: Path) -> None:
    flow = load_text("flow: f\nsources: {a: {mqtt: {topics: [t]}}}\nsinks: {z: {from: a, log: x}}").raise_findings()
    outcome = run_bytewax(flow, [[block(1, 1, n=1), block(2, 2, n=2)], [START]], tmp_path)
    assert [event.data["n"] for event in outcome.out["z"]] == [1, 2]


def test_many_events_of_many_keys_are_those_of_the_harness(tmp_path: Path) -> None:
    """On one way: what comes by two ways at once has no order that could be promised."""
    flow = load_text(TEXT.replace("from: [rows, b], ", "from: rows, ")).raise_findings()
    blocks = [block(n, n / 10, k=str(n % 97), opens=n % 5 == 0, source="ab"[n % 2]) for n in range(1, 2001)]
    harness = Harness(flow)
    for one in blocks:
        harness.read([one])
    harness.mark(START + 3600 * SECOND)
    batches: list[Batch] = [list(blocks[at : at + 300]) for at in range(0, 2000, 300)]
    outcome = run_bytewax(flow, [*batches, [START + 3600 * SECOND]], tmp_path, stops=[3])
    for sink in ("z", "y", "x"):
        assert by_key(outcome.out.get(sink, [])) == by_key(harness.out[sink])


def by_key(events: Iterable[Any]) -> dict[str, list[tuple[bytes, int]]]:
    found: dict[str, list[tuple[bytes, int]]] = {}
    for event in events:
        found.setdefault(event.key, []).append((event.id, event.time))
    return {key: sorted(of) for key, of in found.items()}


def test_a_new_store_has_large_pages_and_one_with_small_pages_is_used_as_it_is(tmp_path: Path) -> None:
    make_ready(tmp_path / "new")
    assert page_size(tmp_path / "new") == PAGE
    (tmp_path / "old").mkdir()
    init_db_dir(tmp_path / "old", 1)
    flow = load_text("flow: f\nsources: {a: {mqtt: {topics: [t]}}}\noperators: {o: {from: a, number: {}}}\n"
        "sinks: {z: {from: o, log: x}}").raise_findings()  # fmt: skip
    (tmp_path / "old").rename(tmp_path / "recovery")
    outcome = run_bytewax(flow, [[block(1, 1, n=1)], [block(2, 2, n=2)]], tmp_path, stops=[1])
    assert [event.data["id"] for event in outcome.out["z"]] == [1, 2]
    assert page_size(tmp_path / "recovery") == 4096


def page_size(recovery: Path) -> int:
    with closing(sqlite3.connect(recovery / "part-0.sqlite3")) as connection:
        return int(connection.execute("PRAGMA page_size").fetchone()[0])
