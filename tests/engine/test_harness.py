"""The harness: what flow tests run on; it gives what a worker gives, on a clock of its own."""

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
            "raw: 2 events; got 1\n    {'n': 1.5}",
            "raw[0].n: 2; got 1.5",
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
    assert list(compare("z", [{}], [])) == ["z: 1 events; got 0"]
    assert list(differences({"x": 1, "y": True}, {"x": True, "y": True})) == [".x: 1; got True"]
