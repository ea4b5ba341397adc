"""`lookup`: what is added, what happens where there is no row, and that nothing is lost on the way."""

from typing import Any

import msgspec
import pytest

from engine.flow import Flow
from engine.harness import Harness, Sent, tapped
from engine.load import load_text
from engine.plan import Plan

FLOW = """
flow: f
tables:
  device: {{id: text(9), model: text(9), high: number, unique: [[id]], live: true}}
  limit:  {{site: text(9), line: int, high: number, unique: [[site, line]], live: true}}
sources: {{s: {{http: {{post: /in}}}}}}
operators:
  checked: {{from: s, {before}}}
  a: {{from: checked, lookup: {options}}}
sinks:
  out: {{from: a, log: x}}
"""
ANY = "set: {seen: true}"
DECLARED = "validate: {id: {type: text, required: false}, site: {type: text, required: false}, line: {type: int, required: false}}"
ROWS: dict[str, list[dict[str, Any]]] = {
    "device": [{"id": "d1", "model": "TX", "high": 80}, {"id": "d2", "model": None, "high": None}],
    "limit": [{"site": "north", "line": 3, "high": 5}],
}


def flow_of(options: str, before: str, more: str = "") -> Flow:
    return load_text(FLOW.format(options=options, before=before) + more).raise_findings()


def looked_up(flow: Flow, *given: dict[str, Any]) -> Harness:
    harness = Harness(flow)
    for table, rows in ROWS.items():
        harness.put(0, table, rows)
    harness.send([Sent(1_000, "s", msgspec.json.encode(data)) for data in given])
    ledger = harness.ledger()
    assert (ledger.received, ledger.remainder, ledger.where) == (len(given), 0, {})
    return harness


@pytest.mark.parametrize("before", [ANY, DECLARED])
@pytest.mark.parametrize(
    ("options", "given", "added"),
    [
        ("{table: device, by: id}", {"id": "d1"}, {"model": "TX", "high": 80.0}),
        ("{table: device, by: id}", {"id": "d9"}, {"model": None, "high": None}),
        ("{table: device, by: id}", {}, {"model": None, "high": None}),
        ("{table: device, by: id, fields: [high]}", {"id": "d1", "model": "own"}, {"high": 80.0}),
        ("{table: device, by: id, fields: {m: model, who: id}}", {"id": "d1"}, {"m": "TX", "who": "d1"}),
        ("{table: device, by: id, default: {high: 60}}", {"id": "d1"}, {"model": "TX", "high": 80.0}),
        ("{table: device, by: id, default: {high: 60}}", {"id": "d2"}, {"model": None, "high": 60}),
        ("{table: device, by: id, default: {high: 60}}", {"id": "d9"}, {"model": None, "high": 60}),
        ("{table: device, by: id, as: device}", {"id": "d1"}, {"device": {"model": "TX", "high": 80.0}}),
        ("{table: device, by: id, as: device}", {"id": "d9"}, {"device": None}),
        ("{table: device, by: id, as: d, fields: [high], default: {high: 1}}", {"id": "d9"}, {"d": {"high": 1}}),
        ("{table: limit, by: {line: line, site: site}}", {"site": "north", "line": 3}, {"high": 5.0}),
        ("{table: limit, by: {line: line + 1, site: site}}", {"site": "north", "line": 2}, {"high": 5.0}),
        ("{table: limit, by: {line: line, site: site}}", {"site": "north"}, {"high": None}),
        ("{table: device, by: id, on_missing: drop}", {"id": "d1"}, {"model": "TX", "high": 80.0}),
    ],
)
def test_what_is_added(options: str, given: dict[str, Any], added: dict[str, Any], before: str) -> None:
    harness = looked_up(flow_of(options, before), given)
    (event,) = harness.out["out"]
    expected = {**given, **added}
    assert {name: event.data.get(name, ...) for name in added} == added
    if before == ANY:
        assert event.data == {**expected, "seen": True}


@pytest.mark.parametrize("before", [ANY, DECLARED])
def test_what_has_no_row_is_dropped(before: str) -> None:
    harness = looked_up(flow_of("{table: device, by: id, on_missing: drop}", before), {"id": "d1"}, {"id": "d9"}, {})
    assert [event.data["id"] for event in harness.out["out"]] == ["d1"]
    assert harness.ledger().filtered == 2


@pytest.mark.parametrize("before", [ANY, DECLARED])
@pytest.mark.parametrize("more", ["  other: {from: a.missing, log: y}\n", ""])
def test_what_has_no_row_goes_elsewhere(before: str, more: str) -> None:
    flow = flow_of("{table: device, by: id, on_missing: reject}", before, more)
    harness = looked_up(flow, {"id": "d1"}, {"id": "d9"}, {})
    assert [event.data["id"] for event in harness.out["out"]] == ["d1"]
    assert [event.data.get("id") for event in harness.out["other"]] == (["d9", None] if more else [])


def test_a_key_that_cannot_be_one_is_a_dead_letter() -> None:
    harness = looked_up(flow_of("{table: device, by: id}", ANY), {"id": ["d1"]}, {"id": "d1"})
    assert [event.data["high"] for event in harness.out["out"]] == [80.0]
    assert [(letter.node, letter.event.data["id"]) for letter in harness.dead] == [("a", ["d1"])]


def test_rows_are_looked_up_once_an_event() -> None:
    flow = flow_of("{table: device, by: id, fields: [model, high]}", ANY)
    fused = Plan(tapped(flow, ())).source.fused
    assert fused is not None
    assert fused.source.count("x_row_device(") == 1


def test_types_of_columns_reach_the_nodes_behind() -> None:
    text = FLOW.format(options="{table: device, by: id}", before=DECLARED)
    flow = load_text(
        text.replace("sinks:", "  b: {from: a, where: high > 'x' and modle == 'TX'}\nsinks:").replace(
            "from: a, log", "from: b, log"
        )
    )
    assert [str(finding).partition(": ")[2] for finding in flow.document.findings] == [
        "node 'b': cannot compare number with text; in 'high > 'x' and modle == 'TX'' [expression]",
        "node 'b': a field of what comes in here (id, site, line, model, high); got 'modle'; "
        "in 'high > 'x' and modle == 'TX'' (did you mean 'model'?) [unknown-field]",
    ]
