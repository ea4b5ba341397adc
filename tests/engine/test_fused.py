"""Whole chunks through the stage of the sources: exactly what comes out event by event, whatever is in them."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.decode import Decoding
from engine.event import Event, derived_id, stream_prefix
from engine.fused import MOST_FAULTS
from engine.harness import Sent, block_of
from engine.load import load_text
from engine.outputs import COUNTS, DEAD
from engine.plan import Plan
from engine.stage import Stage

PREFIX = stream_prefix("test")
RULES = (
    "validate: {device: {type: text, case: upper, max: 8}, n: {type: int, min: -5, max: 1000}, "
    "x: {type: number, required: false}, state: {type: text, required: false, default: ok, case: upper, one_of: [OK, BAD]}, "
    "busy: {type: bool, required: false}, at: {type: time, required: false}, any: any, list: {type: list, required: false}, "
    "map: {type: map, required: false}, 'odd-name': {type: text, required: false, pattern: '[a-z]+'}}"
)
CHAIN = """
flow: line
sources: {SOURCES}
operators:
  checked: {from: [a], VALIDATE}
  marked: {from: checked, where: n != 3, set: {twice: n * 2, text: device + "/" + state, long: length(device) > 2,
    sum: x + n, n: n + 1, again: n, whole: meta.data.device, place: meta.topic, who: meta.account}}
  some: {from: marked, where: again % 2 == 0}
  keyed: {from: marked, key: device, tally: {of: state, good: OK, bad: BAD}}
  other: {from: some, key: device, where: n > 4, tally: {of: state, good: OK, bad: BAD}}
sinks:
  all: {from: [marked, some], log: {}}
  few: {from: some, where: x > 1, log: {}}
  bad: {from: checked.rejected, log: {}}
  counted: {from: [keyed, other], log: {}}
"""
PLAIN = """
flow: line
sources:
  a: {mqtt: {topics: [a], time: at}, where: n != 2, key: device}
  b: {mqtt: {topics: [b]}, key: 'coalesce(device, "none")'}
operators:
  marked: {from: [a, b], set: {twice: n * 2, up: upper(device)}}
  split:  {from: b, set: {from_b: true}}
  keyed:  {from: [marked, split], tally: {of: state, good: OK, bad: BAD}}
sinks:
  all:  {from: [marked, split], where: 'device != "c"', log: {}}
  seen: {from: keyed, log: {}}
"""
SORTED = """
flow: line
sources: {a: {mqtt: {topics: [a]}}}
operators:
  marked: {from: a, rename: {m: n, x: state}}
  split:  {from: marked, switch: {high: m > 500, low: m < 0, same: 'm == 7'}}
  every:  {from: [marked, split.high], switch: {cases: {led: 'device == "led"', few: m < 100, true_one: busy}, take: all}}
  less:   {from: [split, every.few], drop: [any, "od*", map.a]}
  least:  {from: every.led, drop: {all_but: [device, m, map.a.b]}}
  line:   {from: less, encode: {as: csv, format: csv, fields: [device, m, x]}}
  json:   {from: [split.low, every], encode: json}
  point:  {from: less, encode: {as: point, format: line_protocol, measurement: device, tags: [x], fields: [m]}}
  text:   {from: every.few, template: {as: text, text: "{{ device | upper }} {{ m }} {{ meta.topic }}"}}
  back:   {from: [json, line], parse: {of: json, as: again}}
  spread: {from: json, parse: json}
  row:    {from: line, parse: {of: csv, format: csv, fields: [d2, m2, more2], types: {m2: int}}}
  rules:  {from: spread, validate: {fields: {m: {type: int, coerce: true, above: -3}, device: {type: text, format: host},
    map: {type: map, required: false, fields: {a: {type: map, required: false, fields: {b: {type: int, max: 1}}}}},
    x: {type: text, required: false}}, others: keep, rules: {sense: 'm < 900 or x == none'}}}
  strict: {from: least, validate: {fields: {m: {type: number, unit: degC, unit_field: device, coerce: true},
    device: {type: text, default: degF}, map: any}, others: reject}}
sinks:
  all:  {from: [less, least, text, point, back, row, rules, strict, every.led, spread], log: {}}
  bad:  {from: [rules.rejected, row.rejected, split.errors, strict.rejected], log: {}}
"""
FLOWS = {
    "validated": CHAIN.replace("SOURCES", "a: {mqtt: {topics: [a]}}").replace("VALIDATE", RULES),
    "validated, own time, key and where before it": CHAIN.replace(
        "SOURCES", 'a: {mqtt: {topics: [a], time: at}, key: device, where: state != "off"}'
    ).replace("VALIDATE", RULES),
    "two sources, one of them with anything": CHAIN.replace(
        "SOURCES", "a: {mqtt: {topics: [a]}}, b: {mqtt: {topics: [b], payload: any}}"
    )
    .replace("VALIDATE", RULES)
    .replace("from: [a]", "from: [a, b]"),
    "no declaration": PLAIN,
    "sorted, parsed, written": SORTED,
    "sorted after a declaration": SORTED.replace(
        "marked: {from: a, ", "checked: {from: a, VALIDATE}\n  marked: {from: checked, "
    ).replace("VALIDATE", RULES),
}
LEAVES = st.one_of(
    st.sampled_from(["led", "LED", "ok", "bad", "", "too long a name", "é" * 3, "2024-01-01T00:00:00Z", "2024-01-01",
                     "2024-05-05T10:00:00.1234567+02:00", "off", "c", "abc"]),
    st.integers(-10, 1005), st.sampled_from([0.5, 1.0, -0.0, 1e300, 2**63, -(2**63), 1700000000, 3.0]),
    st.none(), st.booleans(), st.just([]), st.just([1, "a"]), st.just({}), st.just({"a": {"b": 1}}),
)  # fmt: skip
GOOD = st.fixed_dictionaries(
    {"device": st.sampled_from(["led", "cam", "c"]), "n": st.integers(-5, 1000), "any": st.just(1)},
    optional={"x": st.floats(-5, 5), "state": st.sampled_from(["ok", "bad"]), "at": st.just("2024-01-01T00:00:00Z")},
)
NAMES = ["device", "n", "x", "state", "busy", "at", "any", "list", "map", "odd-name", "more"]
HOSTILE = st.builds(lambda good, wrong: good | wrong, GOOD, st.dictionaries(st.sampled_from(NAMES), LEAVES, max_size=3))
DEEP = b"[" * 3000
BYTES = st.sampled_from(
    [b'{"device":"led","n":1180591620717411303424,"any":0}', b"", b" ", b"{", b"[]", b"1", b"null", b'{"device":"a"}\n{"device":"b"}', b'{"device": "led",\n "n": 1, "any": 2}',
     b"\xff", b'{"device":"\xff","n":1,"any":1}', b'{"device":"led","device":"cam","n":1,"n":2,"any":0}', DEEP,
     b'{"device":"led","n":1.0,"any":null}', b'{"device":"led","n":1e2,"any":1}', b'{"n":1}\x00'],
)  # fmt: skip
PAYLOADS = st.one_of(
    GOOD.map(msgspec.json.encode), GOOD.map(msgspec.json.encode), HOSTILE.map(msgspec.json.encode), BYTES
)
META = st.sampled_from([None, None, None, {"account": "ann"}, {"oversize": 20, "largest": 10}])
SENT = st.builds(
    lambda source, payload, meta, topic: Sent(1_800_000_000_000_000, source, payload, topic, meta),
    st.sampled_from(["a", "b"]), PAYLOADS, META, st.sampled_from(["a/1", "a/2"]),
)  # fmt: skip
PLANS = {name: Plan(load_text(text).raise_findings()) for name, text in FLOWS.items()}


def came(plan: Plan, runs: list[Any]) -> tuple[dict[Any, list[Any]], dict[str, int], list[Any]]:
    """Return what each port got, the counts, and the dead letters."""
    ports: dict[Any, list[Any]] = {}
    counts: dict[str, int] = {}
    dead: list[Any] = []
    for port, shard, chunk in plan.run_sources(runs):
        if port == COUNTS:
            for name, number in chunk:
                counts[name] = counts.get(name, 0) + number
        elif port == DEAD:
            dead += chunk
        else:
            ports.setdefault((port, shard), []).extend(
                (event, list(event.data.items()), [type(value) for value in event.data.values()]) for event in chunk
            )
    dead.sort(key=lambda letter: letter.event.id)  # those that cannot be decoded come first in a chunk
    return ports, {name: number for name, number in counts.items() if number}, dead


@pytest.mark.parametrize("name", FLOWS)
@settings(max_examples=80, deadline=None)
@given(commits=st.lists(st.lists(SENT, min_size=1, max_size=12), min_size=1, max_size=4))
def test_a_chunk_gives_what_its_events_give(name: str, commits: list[list[Sent]]) -> None:
    plan = PLANS[name]
    known = plan.flow.nodes
    blocks, first = [], 1
    for at, commit in enumerate(commits):
        messages = [m if m.source in known else msgspec.structs.replace(m, source="a") for m in commit]
        blocks.append(block_of(messages, first, 1_800_000_000_000_000 + at))
        first += len(commit)
    fused, careful = came(plan, plan.records(blocks, PREFIX)), came(plan, Decoding(plan.flow).runs(blocks, PREFIX))
    assert fused == careful


def test_the_chains_of_these_flows_are_fused() -> None:
    assert {name: list(plan.source.fused.numbers) for name, plan in PLANS.items() if plan.source.fused} == {
        "validated": ["a"],
        "validated, own time, key and where before it": ["a"],
        "two sources, one of them with anything": ["a", "b"],
        "no declaration": ["a", "b"],
        "sorted, parsed, written": ["a"],
        "sorted after a declaration": ["a"],
    }


def test_more_faults_than_it_is_worth_go_the_careful_way_together() -> None:
    plan = PLANS["validated"]
    messages = [Sent(1, "a", b'{"device":"led","n":%d,"any":1}' % (-9 if n % 2 else 1)) for n in range(4 * MOST_FAULTS)]
    block = block_of(messages, 1, 1)
    ports, counts, dead = came(plan, plan.records([block], PREFIX))
    assert counts["checked"] == 2 * MOST_FAULTS == len(ports["bad", ""]) == len(dead)


FOLLOWED = """
flow: line
sources: {a: {mqtt: {topics: [a]}}}
operators:
  car:     {from: a, group: {opens: exists(trigger), as: car_id}}
  ours:    {from: car, where: n > 1, key: 'device + "!"', set: {n: n + 1, at: meta.time, of: meta.source, k: meta.key}}
  checked: {from: [ours, car.opened], validate: {n: {type: int, required: false}, car_id: int}}
  keyed:   {from: ours, tally: {of: state}}
sinks:
  all:    {from: [car, checked], log: {}}
  opened: {from: car.opened, where: implicit, log: {}}
  seen:   {from: [ours, keyed], log: {}}
"""
EVENTS = st.builds(
    lambda number, data, meta: Event(derived_id("a", "", number), number, "key", "a", "t", data, meta, number),
    st.integers(0, 1000), st.dictionaries(st.sampled_from(["n", "device", "car_id", "implicit", "state"]), LEAVES),
    st.sampled_from([None, {"room": 1}]),
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    runs=st.lists(st.tuples(st.sampled_from(["car", "car.opened", "other"]), st.lists(EVENTS, max_size=4)), max_size=3)
)
def test_what_follows_a_keyed_node_gives_what_its_events_give(runs: list[tuple[str, list[Any]]]) -> None:
    flow = PLAN_FOLLOWED.flow
    stage = next(keyed.stage for keyed in PLAN_FOLLOWED.keyed if keyed.node.name == "car")
    careful = Stage("car", flow, ["car", "car.opened"], frozenset())
    assert stage._after is not None
    assert careful._after is None
    assert stage.run(runs) == careful.run(runs)


PLAN_FOLLOWED = Plan(load_text(FOLLOWED).raise_findings())
