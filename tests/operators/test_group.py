"""`group` and `number`: numbers that the flow counts itself, from above what a table has."""

from pathlib import Path

import msgspec
from hypothesis import given, settings

from engine.component import Place
from engine.event import MICROSECONDS
from engine.flow import Flow
from engine.harness import Harness, Sent
from engine.load import load_text
from engine.testing import START
from tests.operators.replay import flow_of, sent, streams

OPTIONS = {"opens": "opens", "as": "car"}


def run(messages: list[Sent], flow: Flow | None = None) -> Harness:
    harness = Harness(flow or flow_of("group", OPTIONS, key=""))
    for message in messages:
        harness.send([message])
    return harness


def test_an_event_before_any_trigger_opens_a_group_too() -> None:
    harness = run([sent(0, opens=False), sent(1, opens=True), sent(2)])
    assert [event.data["car"] for event in harness.out["out"]] == [1, 2, 2]
    assert [(e.data["id"], e.data["car"], e.data["implicit"]) for e in harness.out["opened"]] == [
        (1, 1, True),
        (2, 2, False),
    ]
    assert harness.out["opened"][1].data["created_at"].timestamp() == START / MICROSECONDS + 1


def test_each_key_has_groups_of_its_own() -> None:
    harness = run([sent(0, k=k, opens=True) for k in "aab"], flow_of("group", OPTIONS))
    assert [(event.key, event.data["car"]) for event in harness.out["out"]] == [("a", 1), ("a", 2), ("b", 1)]
    assert len({event.id for event in harness.out["opened"]}) == 3


def test_rows_are_numbered_over_all_keys() -> None:
    """A number is the id of a row, and a table has one row of each id."""
    flow = load_text("""
flow: f
sources: {given: {mqtt: {topics: [t]}}}
operators: {o: {from: given, key: k, group: {opens: opens, as: car}}, rows: {from: o, number: {as: id}}}
sinks: {out: {from: rows, log: x}}
""").raise_findings()
    harness = run([sent(at, k=k) for at, k in enumerate("abcab")], flow)
    harness.restart()
    harness.send([sent(9, k="d")])
    assert [(event.key, event.data["id"]) for event in harness.out["out"]] == list(
        zip("abcabd", range(1, 7), strict=True)
    )


def test_a_first_deploy_goes_on_above_the_tables_highest_id(tmp_path: Path) -> None:
    flow = load_text("""
flow: f
tables: {car: {id: serial}, row: {id: serial, car: int}}
sources: {given: {mqtt: {topics: [t]}}}
operators:
  cars: {from: given, group: {opens: opens, as: car, table: car}}
  rows: {from: cars, number: {as: id, table: row, first: 5}}
sinks: {out: {from: rows, sql: {table: row}}}
""").raise_findings()
    place = Place(tmp_path, {"car": 41, "row": 3})
    nodes = {
        name: msgspec.structs.replace(node, component=node.component.deployed(place))
        for name, node in flow.nodes.items()
    }
    harness = run([sent(0, opens=True), sent(1, opens=True)], msgspec.structs.replace(flow, nodes=nodes))
    assert [(event.data["car"], event.data["id"]) for event in harness.out["out"]] == [(42, 5), (43, 6)]
    assert [event.data["id"] for event in harness.out["cars_car"]] == [42, 43]


@settings(max_examples=60)
@given(messages=streams())
def test_groups_are_what_one_counts_by_hand(messages: list[Sent]) -> None:
    harness = run(messages)
    number = 0
    for event in harness.out["out"]:
        number += event.data["opens"] or not number
        assert event.data["car"] == number
