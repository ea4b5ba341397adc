"""The harness: what flow tests run on; it gives what a worker gives, on a clock of its own."""

import re

import pytest

from engine.errors import FlowInvalid
from engine.harness import Harness, Sent, block_of
from engine.load import load_text
from engine.testing import START, compare, differences, run_tests

FLOW = """
flow: f
sources: {a: {mqtt: {topics: [t]}}, b: {mqtt: {topics: [u], payload: any, time: at}}}
operators: {o: {from: [a, b], window: {every: 10s}}}
sinks: {z: {from: o, log: x}, raw: {from: [a, b], log: x}}
tests:
  - name: a restart in between makes no difference
    send: [{at: 1s, to: a, data: {n: 1}}, {at: 3s, to: a, raw: '{"n": 2}', times: 2}]
    restart: [2s]
    advance: 10s
    expect: {z: [{count: 3}], o: [{count: 3}], deadletters: []}
  - name: the clock goes no further than it is told
    send: [{at: 1s, to: a, data: {}}]
    advance: 8s
    expect: {z: []}
  - name: what is wrong is said
    send: [{at: 1s, to: a, data: [1]}, {at: 1s, to: a, data: {n: 1.5}}]
    expect: {raw: [{n: 2}, {}], deadletters: [{reason: {contains: number}}]}
"""


def flow() -> Harness:
    return Harness(load_text(FLOW).raise_findings())


def test_messages_sent_together_are_one_commit_with_one_arrival() -> None:
    harness = flow()
    harness.send([Sent(START, "a", b"{}", "x"), Sent(START + 5, "b", b"7", "y", {"account": "kim"})])
    assert [(e.source, e.topic, e.arrival - START, e.meta) for e in harness.out["raw"]] == [("a", "x", 5, None)]
    assert [(letter.node, letter.reason) for letter in harness.dead] == [("b", "at: a time; got None")]
    harness.send([])
    assert harness.head == 2


def test_ids_are_those_of_the_inbox_stream() -> None:
    harness = flow()
    harness.send([Sent(START, "a", b"{}")] * 2)
    assert [event.id[8:] for event in harness.out["raw"]] == [bytes(7) + bytes([n]) for n in (1, 2)]
    assert len({event.id[:8] for event in harness.out["raw"]}) == 1


def test_blocks_that_are_read_at_once_have_each_their_arrival() -> None:
    harness = flow()
    harness.read([block_of([Sent(START + n, "a", b"{}")], n, START + n) for n in (1, 2, 3)])
    assert [event.arrival - START for event in harness.out["raw"]] == [1, 2, 3]
    assert harness.head == 3


def test_a_tap_takes_what_comes_out_of_a_node() -> None:
    """A tap on a node does not take the node's place."""
    harness = Harness(load_text(FLOW).raise_findings(), taps=["a", "o", "o.late"])
    harness.send([Sent(START, "a", b"{}")])
    harness.tick(START + 60_000_000)
    assert [len(harness.out[wire]) for wire in ("a", "o", "z", "raw", "o.late")] == [1, 1, 1, 1, 0]


def test_flow_tests_say_what_differs() -> None:
    outcomes = run_tests(load_text(FLOW).raise_findings())
    assert [outcome.differences for outcome in outcomes] == [
        [],
        [],
        [
            'raw: 2 events; got 1\n    wanted [0] {"n":2}',
            "deadletters[0].reason: text that contains 'number'; got 'decode: a JSON object; got a list'",
        ],
    ]


def test_differences_look_at_the_named_fields_only() -> None:
    got = {"a": 1, "b": {"c": [1, 2.0000000001]}, "d": "text"}
    assert list(differences({"b": {"c": [1, 2.0]}, "d": {"contains": "ex"}}, got)) == []
    assert list(differences({"b": {"c": [1]}, "x": 1}, got, "e")) == [
        "e.b.c: [1]; got [1, 2.0000000001]",
        "e.x: 1; got None",
    ]
    assert list(compare("z", [{}], [])) == ["z: 1 event; got 0\n    wanted [0] {}"]
    assert list(differences({"x": 1, "y": True}, {"x": True, "y": True})) == [".x: 1; got True"]


OUTAGE = """
flow: f
sources: {a: {mqtt: {topics: [t], time: t}}}
operators:
  kept: {from: a, window: {every: 10s, by: event, idle: 20s}}
  cut:  {from: a, window: {every: 10s, by: event, idle: 20s, on_resume: advance}}
sinks: {out: {from: [kept, cut, kept.late, cut.late], log: x}}
tests:
  - name: a gateway that is down takes what was sent when it is back, and its absence is not silence
    send:
      - {at: 1s, to: a, data: {t: 1700000001}}
      - {at: 9s, to: a, data: {t: 1700000008}}
      - {at: 1h5s, to: a, data: {t: 1700003605}}
    restart: [2s, {at: 5s, down: 1h}]
    expect:
      kept: [{count: 2}]
      cut: [{count: 1}]
      kept.late: []
      cut.late: [{t: 1700000008}]
"""


def test_a_flow_test_can_have_an_outage() -> None:
    assert [outcome.differences for outcome in run_tests(load_text(OUTAGE).raise_findings())] == [[]]


@pytest.mark.parametrize(
    ("restart", "text"),
    [
        ("[2s, 2]", "tests.0.restart.1.at: a duration like 30s, 5m, 2h or 7d; got 2"),
        ("[{at: 2s, dwn: 1h}]", "tests.0.restart.0.dwn: one of at, down; got 'dwn' (did you mean 'down'?)"),
        ("[{down: 1h}]", "tests.0.restart.0.at: "),
    ],
)
def test_a_restart_that_is_none_is_found(restart: str, text: str) -> None:
    with pytest.raises(FlowInvalid, match=re.escape(text)):
        load_text(OUTAGE.replace("[2s, {at: 5s, down: 1h}]", restart)).raise_findings()


def test_the_clock_of_a_test_begins_where_it_says() -> None:
    """So payloads with times of their own are neither late nor from the future."""
    text = FLOW[: FLOW.index("tests:")] + (
        'tests: [{name: t, start: "2026-03-01T08:00:00Z", expect: {raw: [{at: "2026-03-01T08:00:05Z"}], deadletters: []},'
        ' send: [{at: 5s, to: b, data: {at: "2026-03-01T08:00:05Z"}}]}]'
    )
    assert [outcome.differences for outcome in run_tests(load_text(text).raise_findings())] == [[]]
    early = text.replace('start: "2026-03-01T08:00:00Z", ', "")
    assert [len(outcome.differences) for outcome in run_tests(load_text(early).raise_findings())] == [2]
