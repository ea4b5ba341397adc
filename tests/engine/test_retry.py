"""Dead letters that are retried: they go in where they failed, and nobody else sees them twice."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.arrival import Arrival
from engine.block import Block
from engine.dead import DeadLetter
from engine.event import Event, derived_id, moment
from engine.harness import Harness, Sent, block_of
from engine.letter import Letter
from engine.load import load_text
from engine.outside import stored
from engine.retry import RETRY, arrival_of, is_timer
from engine.testing import START
from tests.engine.bytewax_case import run_bytewax

FLOW = """
flow: f
sources:
  a: {mqtt: {topics: [t], qos: 1}}
  timed: {mqtt: {topics: [u], time: at}}
operators:
  checked:
    from: [a, timed]
    where: kind != "noise"
    validate: {n: {type: number, max: 9}, kind: {type: text, required: false}, at: {type: any, required: false}}
  marked: {from: checked, set: {seen: meta.time}}
  counted: {from: checked, key: kind, window: {every: 10s, compute: {n: count, sum: {sum: n}}}}
  peaks: {from: counted, key: text(8 / sum), window: {every: 20s, compute: {windows: count, sums: {sum: sum}}}}
sinks:
  raw: {from: [a, timed], log: x}
  z: {from: marked, where: 8 / n > 0, log: x}
  windows: {from: counted, log: x}
  top: {from: peaks, log: x}
  refused: {from: checked.rejected, log: x}
"""


def run(text: str = FLOW) -> Harness:
    return Harness(load_text(text).raise_findings())


def send(harness: Harness, at: int, source: str = "a", **data: Any) -> None:
    harness.send([Sent(START + at, source, msgspec.json.encode(data), "t", {"account": "kim"})])


def letter_of(harness: Harness, number: int = -1) -> Letter:
    return stored(harness.dead[number], "v1")


def retry(harness: Harness, letter: Letter, at: int) -> Arrival:
    arrival = arrival_of(letter)
    harness.send([Sent(START + at, RETRY, arrival.payload, arrival.topic, arrival.meta)])
    return arrival


def assert_balanced(harness: Harness) -> None:
    ledger = harness.ledger()
    assert ledger is not None
    assert (ledger.remainder, ledger.where) == (0, {})


def json(text: bytes) -> Any:
    return msgspec.json.decode(text)


def fixed(letter: Letter, **data: Any) -> Letter:
    return msgspec.structs.replace(letter, fixed=msgspec.json.encode(data))


def data(harness: Harness, sink: str) -> list[dict[str, Any]]:
    return [event.data for event in harness.out[sink]]


def test_at_an_operator_the_other_branches_do_not_see_it_again() -> None:
    harness = run()
    send(harness, 1, n=10, kind="a")
    first = letter_of(harness)
    assert (first.node, len(harness.out["raw"]), len(harness.out["refused"])) == ("checked", 1, 1)
    retry(harness, fixed(first, n=4, kind="a"), 2_000_000)
    assert len(harness.out["raw"]) == 1
    [event] = harness.out["z"]
    assert event.data["n"] == 4
    assert (event.id, event.time, event.source, event.topic) == (first.id, START + 1, "a", "t")
    assert (event.meta, event.arrival) == ({"account": "kim"}, START + 2_000_000)
    assert_balanced(harness)


def test_a_retry_that_fails_again_is_a_letter_of_the_same_event_that_arrived_later() -> None:
    harness = run()
    send(harness, 1, n=10, kind="a")
    first = letter_of(harness)
    retry(harness, first, 5)
    again = letter_of(harness)
    assert (again.id, again.node, again.reason) == (first.id, first.node, first.reason)
    assert (first.time, again.time) == (START + 1, START + 5)
    assert (again.payload, again.meta, again.event_time) == (first.payload, first.meta, first.event_time)
    assert arrival_of(first).once != arrival_of(again).once
    assert_balanced(harness)


def test_at_a_node_with_memory() -> None:
    harness = run()
    for at in (1, 2):
        send(harness, at, n=at, kind="a")
    send(harness, 3, n=3)
    first = letter_of(harness)
    assert (first.node, first.reason) == ("counted", "key: a value; got none")
    retry(harness, fixed(first, n=3, kind="a"), 4_000_000)
    harness.tick(START + 30_000_000)
    [window] = data(harness, "windows")
    assert (window["n"], window["sum"]) == (3, 6)
    assert len(harness.out["z"]) == 3
    assert_balanced(harness)


def test_at_a_sink_straight_through_its_condition() -> None:
    """What JSON cannot say of the data (a time) is still there."""
    harness = run()
    send(harness, 1, n=0, kind="a")
    first = letter_of(harness)
    assert (first.node, json(first.payload)["seen"]) == ("z", moment(START + 1).isoformat().replace("+00:00", "Z"))
    retry(harness, msgspec.structs.replace(first, fixed=first.payload.replace(b'"n":0', b'"n":2')), 5)
    assert data(harness, "z") == [{"n": 2, "kind": "a", "at": None, "seen": moment(START + 1)}]
    assert [event.id for event in harness.out["z"]] == [first.id]
    assert len(harness.out["raw"]) == 1
    assert_balanced(harness)


def test_at_a_source_the_payload_is_decoded_again_and_everybody_sees_it() -> None:
    harness = run()
    harness.send([Sent(START + 1, "timed", b'{"n": 1', "u")])
    first = letter_of(harness)
    assert (first.node, first.payload) == ("timed", b'{"n": 1')
    retry(harness, first, 5)
    assert (letter_of(harness).reason, letter_of(harness).time) == (first.reason, START + 5)
    retry(harness, fixed(first, n=1, at=START // 1_000_000), 9)
    [event] = harness.out["raw"]
    assert (event.id, event.time, event.arrival, event.data["n"]) == (first.id, START, START + 9, 1)
    assert len(harness.out["z"]) == 1
    assert_balanced(harness)


def test_what_its_source_has_cut_needs_new_data() -> None:
    harness = run()
    harness.send([Sent(START, "a", b'{"n": 1', "t", {"oversize": 99, "largest": 7, "account": "kim"})])
    first = letter_of(harness)
    retry(harness, first, 1)
    assert letter_of(harness).reason == first.reason == "a payload of at most 7 bytes; got 99"
    retry(harness, fixed(first, n=1), 2)
    assert harness.out["raw"][0].meta == {"account": "kim"}


def test_a_node_that_is_not_there_any_more() -> None:
    harness = run()
    send(harness, 1, n=0, kind="a")
    first = msgspec.structs.replace(letter_of(harness), node="old")
    retry(harness, first, 5)
    again = letter_of(harness)
    assert (again.node, again.reason) == ("old", "a node of this flow; 'old' is not there any more")
    assert (again.payload, again.exact, again.id, again.time) == (first.payload, first.exact, first.id, START + 5)
    assert_balanced(harness)


def test_what_comes_past_the_nodes_above_moves_no_clock() -> None:
    """A retry and much older events are read at once: the windows of these are still open at the nodes below."""
    harness = run()
    send(harness, 1, n=0, kind="a")
    harness.tick(START + 12_000_000)
    first = letter_of(harness)
    assert (first.node, first.reason) == ("peaks", "text(8 / sum): division by zero in 8 / sum; sum = 0")
    arrival = arrival_of(fixed(first, **json(first.payload) | {"sum": 4}))
    late = Sent(START + 60_000_000, RETRY, arrival.payload)
    early = Sent(START + 13_000_000, "a", b'{"n": 2, "kind": "b"}')
    close = Sent(START + 25_000_000, "a", b'{"n": 8, "kind": "b"}')
    harness.read([block_of([sent], n, sent.at) for n, sent in enumerate([early, close, late], harness.head + 1)])
    assert data(harness, "top") == []
    harness.tick(START + 90_000_000)
    assert sorted(found["sums"] for found in data(harness, "top")) == [2, 4, 8]
    assert_balanced(harness)


@pytest.mark.parametrize("stops", [(), (1, 2, 3, 4, 5)])
def test_bytewax_gives_the_same(tmp_path: Path, stops: tuple[int, ...]) -> None:
    """At a source, an operator, both nodes with memory and a sink; also when it stops between any two commits."""
    harness = run()
    readings: list[dict[str, Any]] = [{"n": 10}, {"n": 3}, {"n": 0, "kind": "b"}, {"n": 0, "kind": "a"}]
    for at, reading in enumerate(readings):
        send(harness, at, **reading)
    harness.send([Sent(START + 5, "timed", b"{", "u")])
    harness.tick(START + 12_000_000)
    values: dict[str, Any] = {"n": 4, "kind": "c", "sum": 2, "at": START // 1_000_000}
    letters = [stored(letter, "v1") for letter in harness.dead]
    assert {letter.node for letter in letters} == {"checked", "counted", "z", "timed", "peaks"}
    sent = [Sent(START + 20_000_000 + n, RETRY, again(letter, values).payload) for n, letter in enumerate(letters)]
    blocks: list[list[Block | int]] = [[block_of([one], n, one.at)] for n, one in enumerate(sent, 1)]
    expected = run()
    for block in blocks:
        expected.read([part for part in block if isinstance(part, Block)])
    expected.mark(START + 99_000_000)
    outcome = run_bytewax(expected.plan.flow, [*blocks, [START + 99_000_000]], tmp_path, stops)
    out = {sink: sorted(map(repr, events)) for sink, events in outcome.out.items()}
    assert out == {sink: sorted(map(repr, events)) for sink, events in expected.out.items()}
    assert {"raw", "z", "windows", "top"} <= out.keys()
    assert outcome.dead == expected.dead == []


def again(letter: Letter, values: dict[str, Any]) -> Arrival:
    known = {} if letter.node == "timed" else json(letter.payload)
    return arrival_of(fixed(letter, **known | values))


def test_a_timer_that_failed_is_no_event_to_retry() -> None:
    event = Event(derived_id("counted", "k", 7), 7, "k", "", "", {}, None, 7)
    letter = stored(DeadLetter("counted", event, "x", {}), "v1")
    assert is_timer(letter)
    assert not is_timer(msgspec.structs.replace(letter, node="peaks"))


def test_the_stage_of_a_retry_is_compiled_when_it_is_needed() -> None:
    harness = run()
    send(harness, 1, n=10, kind="a")
    assert harness.plan.retries == {}
    retry(harness, letter_of(harness), 5)
    retry(harness, letter_of(harness), 6)
    assert list(harness.plan.retries) == [">checked"]
