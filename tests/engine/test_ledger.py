"""The ledger: whatever a flow does with its events, the books balance; what is lost or doubled makes a remainder."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.component import Emit, Stateful
from engine.dead import DeadLetter
from engine.decode import Decoding
from engine.event import Event
from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.keyed import Shard
from engine.ledger import AT, GIVEN, TERMS, Book, Ledger, Totals, ledger_of, moved
from engine.load import load_text
from engine.registry import components
from engine.retry import RETRY, Retried
from engine.stage import Stage
from engine.testing import START
from tests.operators.replay import LATER, Cut, cuts, streams

RULES: list[dict[str, Any]] = [
    {"validate": {"k": "text", "n": "int", "v": "number", "opens": "bool", "device": "any", "result": "any"}},
    {"where": "n > 1"},
    {"set": {"m": "v * 2"}},
    {"split": {"of": "[n, n, n]", "as": "part"}},
    {"split": {"of": "v", "as": "part"}},
    {"switch": {"cases": {"high": "v > 3", "open": "opens", "none": "n == none"}, "take": "all"}},
    {"switch": {"high": "v > 3", "open": "opens", "led": 'device == "led"'}},
    {"parse": {"of": "device", "format": "key_value", "equals": "e"}},
    {"drop": ["device", "opens"]},
    {"python": {"code": "def process(data):\n    return [data] * data['n'] if data['opens'] else None"}},
    {"image": {"of": "[device, device]", "as": "pictures"}},
    {"group": {"opens": "opens", "as": "g"}},
    {"number": {"as": "id"}},
    {"tally": {"of": "result", "by": ["device"], "every": "2s", "counts": {"high": "v > 3"}}},
    {"window": {"every": "10s", "by": "event", "lateness": "5s", "compute": {"sum": {"sum": "v"}}}},
    {"dedupe": {"by": "n", "within": "5s", "most": 3}},
    {"throttle": {"every": "3s"}},
    {"throttle": {"every": "3s", "keep": "last"}},
    {"sample": {"every": "3s", "repeat": "7s"}},
    {"debounce": {"for": "2s", "of": "n", "edge": "both"}},
    {"change": {"of": "n", "deviation": 0.6, "longest": "5s"}},
    {"latest": {"fields": ["v"], "within": "5s"}},
    {"merge": {"compute": {"a": "v if n == 1 else none", "b": "result"}, "every": "3s"}},
    {"join": {"left": "n > 1", "right": "opens", "within": "5s", "unmatched": "left", "most": 3}},
    {"sequence": {"steps": {"a": "n < 2", "b": "opens"}, "within": "5s", "order": "strict"}},
    {"absent": {"for": "5s", "repeat": "4s", "forget": "30s"}},
    {"trend": {"of": "v", "within": "20s", "limit": 9}},
    {"anomaly": {"of": "v", "warm_up": 2}},
    {"spc": {"of": "v", "chart": "xbar_r", "size": 2}},
    {"oee": {"of": "result", "good": "v", "ideal": 1, "every": "10s", "idle": "15s", "report": "opens"}},
    {"pareto": {"of": "device", "sum": "v", "every": "10s"}},
    {"call": {"url": "http://h/p"}},
    {"call": {"url": "http://h/p", "fallback": {"m": "v * 2"}, "retry": {"times": 0}}},
]
OUTPUTS = {kind: components("operators")[kind].outputs for rule in RULES for kind in rule}
OUTPUTS["switch"] = {"high": "", "open": ""}
CONDITIONS = [None, None, None, "n > 0", "v > 1"]


@st.composite
def flows(draw: st.DrawFn) -> str:
    """Small flows, as YAML: two sources, up to six operators and up to four sinks, wired at random."""
    spec: dict[str, Any] = {"flow": "f", "sources": {}, "operators": {}, "sinks": {}}
    for name in ("given", "other"):
        spec["sources"][name] = {"mqtt": {"topics": [name], "time": "t"}} | draw(option("where", CONDITIONS))
    wires = ["given", "other"]
    for index, rule in enumerate(draw(st.lists(st.sampled_from(RULES[::-1]), min_size=2, max_size=6))):
        where = draw(option("where", [None] if "where" in rule else CONDITIONS))
        key = draw(option("key", [None] if "number" in rule else ["k", None, "device", "v"]))
        error = draw(option("on_error", [None, None, None, "drop"]))
        spec["operators"][f"o{index}"] = (
            {"from": draw(inputs(wires)) if index else "given"} | deepcopy(rule) | where | key | error
        )
        wires += [f"o{index}.{output}" for output in (*OUTPUTS[next(iter(rule))], "errors")] + [f"o{index}"] * 3
    for index in range(draw(st.integers(1, 4))):
        spec["sinks"][f"s{index}"] = {"from": draw(inputs(wires)), "log": "x"} | draw(option("where", CONDITIONS))
    return yaml.safe_dump(spec, sort_keys=False)


def inputs(wires: list[str]) -> st.SearchStrategy[list[str]]:
    """Return one to three of the wires, the latest most likely."""
    return st.lists(st.sampled_from(wires[::-1]), min_size=1, max_size=3, unique=True)


def option(name: str, values: list[str | None]) -> st.SearchStrategy[dict[str, str]]:
    return st.sampled_from(values).map(lambda value: {} if value is None else {name: value})


def both_sides(ledger: Ledger) -> tuple[int, int]:
    terms = ledger.terms()
    left = sum(terms[name] for name in GIVEN)
    return left, sum(terms[name] for name in TERMS if name not in (*GIVEN, "remainder"))


def loaded(text: str) -> Flow:
    flow = load_text(text)
    known = {"unused", "unknown-field"}  # what is missing is none
    assert {finding.code for finding in flow.document.findings} <= known, flow.document.findings
    return flow


def run(flow: Flow, messages: list[Any], cuts: list[Cut]) -> Harness:
    harness, at = Harness(flow), 0
    for cut in [*cuts, Cut(len(messages), False, False)]:
        batch = messages[at : at + cut.size]
        if batch:
            harness.read([block_of([message], number, message.at) for number, message in enumerate(batch, at + 1)])
            at += len(batch)
            if cut.mark:
                harness.mark(batch[-1].at)
            if cut.restart:
                harness.restart()
            balanced(harness.ledger())
    harness.mark(messages[-1].at + LATER)
    return harness


def balanced(ledger: Ledger | None) -> Ledger:
    assert ledger is not None
    left, right = both_sides(ledger)
    assert (ledger.where, ledger.remainder, left) == ({}, 0, right), ledger
    return ledger


@settings(max_examples=60)
@given(text=flows(), messages=streams(), cuts=cuts)
def test_the_books_of_any_flow_balance_at_every_moment(text: str, messages: list[Any], cuts: list[Cut]) -> None:
    found = balanced(run(loaded(text), messages, cuts).ledger())
    assert (found.received, found.in_flight) == (len(messages), 0)


FLOW = """
flow: f
sources: {a: {mqtt: {topics: [t]}}}
operators:
  v: {from: a, validate: {n: int, k: text}}
  once: {from: v, key: k, dedupe: {by: n, within: 10s}}
  sums: {from: once, key: k, window: {every: 10s}}
  calm: {from: once, key: k, throttle: {every: 5s}}
sinks:
  big: {from: once, where: n > 5, log: x}
  all: {from: [sums, calm], log: x}
"""


def sent(at: float, data: Any, source: str = "a") -> Sent:
    return Sent(START + round(at * 1_000_000), source, msgspec.json.encode(data))


MESSAGES = [
    sent(1, {"n": 1, "k": "x"}), sent(2, {"n": 9, "k": "x"}), sent(3, {"n": 9, "k": "x"}), sent(4, {"n": "no", "k": "x"}),
    sent(5, {"n": 7, "k": "y"}), sent(6, [1]),
]  # fmt: skip


def read(text: str = FLOW, messages: list[Sent] = MESSAGES) -> Harness:
    harness = Harness(load_text(text).raise_findings())
    harness.send(messages)
    harness.tick(START + 60_000_000)
    return harness


def terms(harness: Harness) -> dict[str, int]:
    """Return the terms that are not 0."""
    found = harness.ledger()
    return {name: number for name, number in found.terms().items() if number}


def where(harness: Harness) -> dict[str, int]:
    return harness.ledger().where


def test_every_way_of_every_event_is_somewhere() -> None:
    """Six came; three got through `once` and went three ways each; two windows were made."""
    harness = read()
    assert terms(harness) == {
        "received": 6, "branched": 6, "made": 2,
        "stored": 6, "state": 3, "filtered": 1, "deduplicated": 1, "dead": 2, "dropped": 1,
    }  # fmt: skip
    balanced(harness.ledger())


@pytest.mark.parametrize(
    ("text", "messages", "expected"),
    [
        ("{o: {from: a, key: k, window: {every: 10s, by: event}}}", [0, 100, 0], {"late": 1, "state": 2}),
        ("{o: {from: a, on_error: drop, set: {m: n + 1}}}", [1, "a"], {"dropped": 1}),
        ("{o: {from: a, split: {of: '[n, n]', as: m}}}", [1, 2], {"made": 2}),
        ("{o: {from: a, key: k, group: {opens: n == 1, as: g}}}", [1, 2], {"stored": 2}),
        ("{o: {from: a, key: k, throttle: {every: 10s, keep: last}}}", [1, 2], {"state": 1}),
    ],
)  # fmt: skip
def test_what_becomes_of_events_at_an_operator(text: str, messages: list[Any], expected: dict[str, int]) -> None:
    flow = (
        "flow: f\nsources: {a: {mqtt: {topics: [t], time: t}}}\noperators: " + text + "\nsinks: {z: {from: o, log: x}}"
    )
    harness = Harness(load_text(flow).raise_findings())
    harness.read(
        [block_of([sent(0, {"n": n, "k": "x", "t": n if isinstance(n, int) else 0}) for n in messages], 1, START)]
    )
    found = balanced(harness.ledger()).terms()
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["v", "once", "sums", "calm", "big", "all"])
@pytest.mark.parametrize("change", [lambda chunk: chunk[1:], lambda chunk: [chunk[0], *chunk]], ids=["lost", "doubled"])
def test_what_is_lost_or_doubled_before_a_node_is_found_there(
    name: str, change: Callable[[list[Any]], list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    find_whole = Stage._found
    done: list[str] = []

    def broken(self: Stage, runs: list[Any], part: Any) -> list[Any]:
        found = find_whole(self, runs, part)
        for index, (port, shard, chunk) in enumerate(found):
            if port == name and not done:
                found[index] = (port, shard, change(chunk))
                done.append(name)
        return found

    monkeypatch.setattr(Stage, "_found", broken)
    harness = read()
    ledger = harness.ledger()
    if name == "v":
        assert ledger.where == {}  # no port: it is inlined
    else:
        assert ledger.remainder == 1
        assert list(ledger.where) == [name]
        assert ledger.where[name] == (1 if len(change([0])) == 0 else -1)


def test_an_operator_that_loses_an_event_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    dedupe = components("operators")["dedupe"]
    monkeypatch.setattr(dedupe, "on_event", lambda self, state, event, emit: state or {})
    assert where(read()) == {"once": 4}


def test_shards_that_lose_what_comes_out_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Shard.on_batch

    def broken(self: Shard, items: Any) -> Any:
        found = whole(self, items)
        return [item for item in found if not (self.node == "once" and isinstance(item, tuple) and item[0] == "")]

    monkeypatch.setattr(Shard, "on_batch", broken)
    assert where(read()) == {"once": 3}


def test_records_that_were_never_read_are_found() -> None:
    harness = Harness(load_text(FLOW).raise_findings())
    harness.read([block_of(MESSAGES[:1], 1, START), block_of(MESSAGES[1:2], 4, START)])
    assert where(harness) == {"inbox": 2}


def test_events_that_are_not_decoded_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Decoding.runs
    monkeypatch.setattr(Decoding, "runs", lambda self, blocks, prefix: whole(self, blocks, prefix)[:-1])
    assert where(read(messages=[MESSAGES[0], sent(2, [1]), MESSAGES[4]])) == {"a": 1}


def test_events_of_a_source_that_is_gone_are_dead_letters() -> None:
    assert terms(read(messages=[sent(1, {}, "gone")])) == {"received": 1, "dead": 1}


class Unsaid(Stateful[list[int]]):
    """An operator of somebody else, which says nothing to the ledger."""

    state_type = list[int]

    def on_event(self, state: list[int] | None, event: Event, emit: Emit) -> list[int]:
        """Emit once in two events, and three at the fifth."""
        count = (state or [0])[0] + 1
        for index in range(3 if count == 5 else int(count % 2 == 0)):
            emit(Event(bytes([count, index]), 0, event.key, "", "", {}, None, event.arrival))
        return [count]


def test_an_operator_that_says_nothing_balances() -> None:
    flow = load_text(FLOW).raise_findings()
    flow.nodes["once"] = msgspec.structs.replace(flow.nodes["once"], component=Unsaid())
    harness = Harness(flow)
    for number, message in enumerate([MESSAGES[0]] * 5, 1):
        harness.read([block_of([message], number, START + number)])
        balanced(harness.ledger())
    found = balanced(harness.ledger())
    assert (found.state, found.made) == (2, 2)


def test_a_sink_refuses_conflates_and_has_yet_to_write() -> None:
    book = Book(load_text(FLOW).raise_findings())
    book.begin(100)
    book.count([(AT, (100, 110)), ("in a", 10), ("a", 10), ("v", 10), ("into once", 10), ("came once", 10)])
    book.count([("left once.", 10), ("once", 10), ("into sums", 10), ("came sums", 10), ("into calm", 10)])
    book.count([("came calm", 10), ("left calm.dropped", 9), ("left calm.", 1), ("calm", 1)])
    book.refused(["big"])
    book.conflated("big", 4)
    book.cut({"big": 10, "all": 1}, waiting=3)
    found = balanced(book.ledger(head=115))
    assert (found.received, found.branched, found.stored, found.dead, found.dropped) == (15, 20, 3, 1, 13)
    assert (found.in_flight, found.state) == (8, 10)
    assert moved(found.terms(), 2) == found.terms() | {"received": 17, "in_flight": 10}


def test_a_book_goes_on_from_a_snapshot_also_in_another_flow() -> None:
    """A redeploy changes the graph, not what was counted in the old one."""
    book = Book(load_text(FLOW).raise_findings())
    book.begin(0)
    book.count([(AT, (0, 2)), ("in a", 2), ("a", 2), ("dead v", 2)])
    encoded = msgspec.msgpack.encode(book.cut({}))
    other = Book(load_text(FLOW.replace("from: once, where", "from: [once, v], where")).raise_findings())
    other.restore(msgspec.msgpack.decode(encoded, type=Totals))
    other.begin(7)
    other.count([(AT, (2, 3)), ("in a", 1), ("a", 1), ("dead v", 1)])
    other.cut({"big": 0})
    found = balanced(other.ledger(head=3))
    assert (found.received, found.dead) == (3, 3)


def test_a_flow_that_was_not_counted_begins_where_it_stands() -> None:
    book = Book(load_text(FLOW).raise_findings())
    assert book.ledger(head=1000) is None
    book.begin(990)
    book.restore(Totals())
    book.cut({})
    assert balanced(book.ledger(head=1000)).terms() | {"received": 0, "in_flight": 0} == Ledger().terms()
    assert ledger_of(book.totals, 1000).in_flight == 10


def test_dead_letters_that_are_not_kept_are_counted_as_dropped_only() -> None:
    book = Book(load_text(FLOW).raise_findings())
    book.begin(0)
    event = Event(b"", 0, "", "a", "", {})
    book.dead([DeadLetter("v", event, "why", {}, kept=False)])
    book.count([(AT, (0, 1)), ("in a", 1), ("a", 1), ("dropped v", 1)])
    book.cut({})
    assert balanced(book.ledger(head=1)).dropped == 1


@pytest.mark.parametrize(
    ("node", "data", "expected"),
    [
        ("once", b'{"n": 1, "k": "z"}', {"branched": 2, "made": 1, "stored": 2, "state": 1, "filtered": 1}),
        ("once", b"rubbish", {"dead": 1}),
        ("all", b"{}", {"stored": 1}),
        ("v", b'{"n": "no"}', {"dead": 1}),
        ("a", b"[]", {"dead": 1}),
        ("a", b'{"n": 1, "k": "z"}', {"branched": 2, "made": 1, "stored": 2, "state": 1, "filtered": 1}),
        ("gone", b"{}", {"dead": 1}),
    ],
)
def test_a_retried_dead_letter_enters_where_it_failed(node: str, data: bytes, expected: dict[str, int]) -> None:
    retried = Retried(bytes(16), node, START, "z", "a", "", None, data)
    harness = read(messages=[Sent(START, RETRY, msgspec.msgpack.encode(retried))])
    balanced(harness.ledger())
    assert terms(harness) == {"retried": 1} | expected


def test_the_example_of_the_documentation() -> None:
    flow = """
flow: ovens
sources: {readings: {mqtt: {topics: [t]}}}
operators:
  checked: {from: readings, validate: {celsius: number, oven: text}}
  minutes: {from: checked, key: oven, window: {every: 1m}}
sinks:
  one:   {from: checked, log: x}
  two:   {from: checked, log: x}
  hot:   {from: checked, where: celsius > 240, log: x}
  means: {from: minutes, log: x}
"""
    readings = [{"celsius": 250 if n < 5 else 200, "oven": f"o{n % 12}"} for n in range(98)] + [{}, {"celsius": "hot"}]
    harness = read(flow, [sent(1, data, "readings") for data in readings])
    assert terms(harness) == {
        "received": 100, "branched": 294, "made": 12, "stored": 213, "state": 98, "filtered": 93, "dead": 2,
    }  # fmt: skip
