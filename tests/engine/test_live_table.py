"""Rows of live tables: every event sees those of its time, whatever is read together and wherever a flow starts again."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.block import Block
from engine.event import Event
from engine.expressions import ExpressionFault, parse
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.live_table import KEPT, READS, TABLES, LiveTables
from engine.load import load_text
from engine.table import Table
from engine.table_log import TableLogFile
from tests.engine.bytewax_case import run_bytewax

FLOW = """
flow: line
tables:
  device: {id: text(20), high: int, unique: [[id]], live: true}
sources:
  in: {http: {post: /in}}
operators:
  first:   {from: in, set: {a: "table.device[id].high"}}
  latest:  {from: first, key: id, throttle: {every: 5ms, keep: last}}
  second:  {from: latest, set: {b: "table.device[id].high"}}
  counted: {from: second, key: id, window: {every: 10ms, compute: {c: {max: "table.device[id].high"}}}}
  third:   {from: counted, set: {d: "table.device[key].high"}}
sinks:
  one: {from: second, log: one}
  two: {from: third, log: two}
"""
DEVICES = ("d1", "d2", "d3")
Steps = list[tuple[str, int]]


@pytest.fixture(scope="module")
def flow() -> Flow:
    return load_text(FLOW).raise_findings()


class Story:
    """What arrives and what changes, a millisecond each, as an inbox and a table log hold it."""

    def __init__(self, folder: Path, steps: Steps) -> None:
        self.log = TableLogFile(folder)
        self.blocks: list[Block] = []
        for number, (device, value) in enumerate(steps, 1):
            time, payload, source = number * 1000, b'{"id": "%s"}' % device.encode(), "in"
            if value:
                row = None if value == 9 else {"id": device, "high": value}
                version = self.log.add({"device(id)": {device: row}})
                self.log.mark(version, number)
                payload, source = str(version).encode(), TABLES
            self.blocks.append(block_of([Sent(time, source, payload)], number, time))


def played(flow: Flow, story: Story, cuts: set[int], restarts: set[int]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what comes out where the blocks are read together between cuts; at a restart all is loaded anew."""
    harness = Harness(flow)
    flow.live.load(story.log, 0)
    waiting: list[Block] = []
    for number, block in enumerate(story.blocks, 1):
        waiting.append(block)
        if number in cuts or number in restarts or number == len(story.blocks):
            harness.read(waiting)
            waiting = []
        if number in restarts:
            harness.restart()
            flow.live.load(story.log, story.log.before(number + 1))
    harness.tick(1_000_000)
    assert not harness.dead
    return {
        name: sorted((event.time, event.key, *sorted(event.data.items(), key=str)) for event in events)
        for name, events in harness.out.items()
    }


steps = st.lists(st.tuples(st.sampled_from(DEVICES), st.sampled_from([0, 0, 0, 1, 2, 9])), min_size=1, max_size=40)
places = st.sets(st.integers(1, 40))


@given(steps=steps, cuts=places, restarts=places)
@settings(max_examples=40, deadline=None)
def test_any_batching_and_any_restart_give_the_same(
    flow: Flow, tmp_path_factory: pytest.TempPathFactory, steps: Steps, cuts: set[int], restarts: set[int]
) -> None:
    story = Story(tmp_path_factory.mktemp("story"), steps)
    alone = played(flow, story, set(range(1, len(steps) + 1)), set())
    assert played(flow, story, set(), set()) == alone
    assert played(flow, story, cuts, restarts) == alone


def test_an_event_sees_the_rows_of_its_time(flow: Flow, tmp_path: Path) -> None:
    story = Story(tmp_path, [("d1", 1), ("d1", 0), ("d1", 2), ("d1", 0), ("d1", 9), ("d1", 0)])
    harness = Harness(flow)
    flow.live.load(story.log, 0)
    harness.read(story.blocks)
    harness.tick(1_000_000)
    assert [(e.data["a"], e.data["b"]) for e in harness.out["one"]] == [(1, 1), (None, None)]
    assert [(e.data["c"], e.data["d"]) for e in harness.out["two"]] == [(1, None)]
    ledger = harness.ledger()
    assert (ledger.received, ledger.remainder) == (3, 0)


def test_what_was_due_before_a_change_and_comes_after_a_restart_sees_the_rows_of_its_time(
    flow: Flow, tmp_path: Path
) -> None:
    story = Story(tmp_path, [("d1", 1), ("d1", 0), ("d1", 0), *[("d2", 1)] * 4, ("d1", 2)])
    found = played(flow, story, set(), {8})
    assert [dict(row[2:])["b"] for row in found["one"]] == [1, 1]


def test_the_same_on_bytewax(flow: Flow, tmp_path: Path) -> None:
    story = Story(tmp_path, [("d1", 1), ("d1", 0), ("d2", 0), ("d1", 2), ("d1", 0), ("d2", 3), ("d2", 0)])
    expected = played(flow, story, set(), set())
    flow.live.load(story.log, 0)
    outcome = run_bytewax(flow, [[*story.blocks, 1_000_000]], tmp_path)
    found = {
        name: sorted((event.time, event.key, *sorted(event.data.items(), key=str)) for event in events)
        for name, events in outcome.out.items()
        if events
    }
    assert found == expected


def test_a_table_that_is_live_since_later_had_its_first_rows_before(flow: Flow, tmp_path: Path) -> None:
    story = Story(tmp_path, [("d1", 0), ("d1", 1), ("d1", 0)])
    for together in (True, False):
        harness = Harness(flow)
        flow.live.load(story.log, 0)
        for blocks in [story.blocks] if together else [[block] for block in story.blocks]:
            harness.read(blocks)
        assert [event.data["a"] for event in harness.out["one"]] == [1]


def rows(count: int) -> LiveTables:
    live = LiveTables({"t": Table.parse("t", {"id": "int", "n": "int", "unique": [["id"]], "live": True})})
    live.learn(0, {"t": {key: {"id": key, "n": 0} for key in range(count)}})
    return live


def test_old_changes_are_forgotten_when_no_event_of_their_time_can_come() -> None:
    live = rows(1)
    block = block_of([Sent(1, "in", b"{}")], 1, 1)
    for number in range(1, READS + 10):
        time = number * KEPT
        live.learn(time, {"t": {0: {"id": 0, "n": number}}})
        live.heed([block_of([Sent(time, "in", b"{}")], number, time)])
    live.at(0)
    kept = live.tables["t"].rows[0]["n"]
    assert 0 < kept < 15
    assert block.time < KEPT


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("table.devise[id]", "unknown live table 'devise': expected one of the flow with 'live' (t, pair)", ""),
        ("table.t", "'table.t' alone is no value", "write table.t[key]"),
        ("table", "'table' alone is no value", "write table.name, or meta.data.table"),
        ("table.t[1].m", "a column of table 't' (id, n, at); got 'm'", ""),
        ("table.t[1].att", "a column of table 't' (id, n, at); got 'att'", "did you mean 'at'?"),
        ("table.t[1].raw", "column 'raw' of table 't' is bytes, which live tables leave out", ""),
        ('table.t["a"]', "rows are found by id, which is number; got text", ""),
        ("table.t[1, 2]", "a row is found by id; got 2 values", ""),
        ("table.pair[1]", "a row is found by a, b; got 1 values", ""),
        ("table.t[1].n + 'x'", "cannot compute number + text", "text(value) makes text, number(value) a number"),
        ("table.t[1].at > 5", "cannot compare time with number", ""),
    ],
)
def test_what_an_expression_asks_of_a_table_is_checked(text: str, message: str, hint: str) -> None:
    columns = {"id": "int", "n": "int", "at": "time", "raw": "bytes", "unique": [["id"]], "live": True}
    pair = {"a": "int", "b": "text(5)", "unique": [["a", "b"]], "live": {"by": ["a", "b"]}}
    live = LiveTables({"t": Table.parse("t", columns), "pair": Table.parse("pair", pair)})
    with pytest.raises(ExpressionFault) as fault:
        parse(text, {}, live.tables)
    assert (fault.value.message, fault.value.hint or "") == (message, hint)


def evaluated(text: str, data: dict[str, Any]) -> Any:
    pair = {"a": "int", "b": "text(5)", "n": "number", "unique": [["a", "b"]], "live": True}
    live = LiveTables({"pair": Table.parse("pair", pair), "t": _table()})
    live.learn(0, {"pair": {(1, "x"): {"a": 1, "b": "x", "n": 2.5}}, "t": {7: {"id": 7, "n": 70}}})
    return parse(text, {}, live.tables)(Event(b"", 0, "", "", "", data, None, 0))


def _table() -> Table:
    return Table.parse("t", {"id": "int", "n": "int", "unique": [["id"]], "live": True})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("table.t[k].n", 70),
        ("table.t[k]", {"id": 7, "n": 70}),
        ("table.t[k + 1].n", None),
        ("table.t[k + 1]", None),
        ("table.t[missing].n", None),
        ("table.pair[a, b].n * 2", 5.0),
        ("table.pair[a, 'y'].n * 2", None),
        ("exists(table.t[k])", True),
        ("table.t[k + 1] == none", True),
        ("table['t'][k]['n'] > 69", True),
        ("table.t[table.t[k].n - 63].n", 70),
        ("coalesce(table.t[0].n, 5)", 5),
    ],
)
def test_rows_and_columns_are_looked_up(text: str, found: Any) -> None:
    assert evaluated(text, {"k": 7, "a": 1, "b": "x"}) == found


def test_a_key_that_cannot_be_one_is_said_to_be_so() -> None:
    live = rows(1)
    expression = parse("table.t[k].n > 5", {}, live.tables)
    event = Event(b"", 0, "", "", "", {"k": [1]}, None, 0)
    with pytest.raises(TypeError):
        expression(event)
    assert expression.explain(event) == "table.t[k].n > 5: unhashable type: 'list' in table.t[k]; k = [1]"
