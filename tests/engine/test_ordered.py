"""What comes to a node from several stages comes in one order, whatever is read at once and wherever it is restarted."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.flow import Flow
from engine.harness import Harness, Sent, block_of
from engine.keyed import SHARDS, Shard
from engine.load import load_text
from engine.ordered import has_held
from engine.plan import Plan, Run
from engine.snapshot import encoded
from engine.testing import START
from tests.engine.bytewax_case import Batch, run_bytewax
from tests.operators.outside_case import ByHand
from tests.operators.replay import (
    LATER,
    SECOND,
    Cut,
    Traffic,
    cuts,
    kills,
    one_by_one,
    replayed,
    result,
    sent,
    shown,
    streams,
    traffic,
)

WINDOW = {"from": "given", "key": "k", "window": {"every": "2s", "compute": {"n": "count"}}}
NUMBER = {"number": {"as": "place"}}
MERGE = {
    "key": "'all'",
    "merge": {"compute": {"v": "v", "n": "n", "twice": "twice", "place": "place"}, "wait_for": "any"},
}
SHAPES: dict[str, dict[str, object]] = {
    "a source and a window": {"above": WINDOW, "made": {"from": ["given", "above"], **NUMBER}},
    "a window over both": {
        "above": {"from": "given", "key": "k", "dedupe": {"by": "n", "within": "3s"}},
        "made": {"from": ["given", "above"], "key": "k", "window": {"every": "3s", "compute": {"l": {"last": "v"}}}},
    },
    "by way of stateless nodes": {
        "above": WINDOW,
        "more": {"from": "above", "where": "n > 0", "set": {"twice": "n * 2"}},
        "less": {"from": ["more", "given"], "set": {"last": "n"}},
        "made": {"from": "less", **MERGE},
    },
    "stages one behind the other": {
        "above": {"from": "given", "key": "k", "debounce": {"for": "1s"}},
        "then": {"from": ["above", "given"], **NUMBER},
        "made": {"from": ["given", "above", "then"], **MERGE},
        "after": {"from": "made", "window": {"every": "5s", "compute": {"n": "count", "p": {"last": "place"}}}},
    },
    "two stages and no source": {
        "above": WINDOW,
        "beside": {"from": "given", "key": "k", "throttle": {"every": "1s", "keep": "last"}},
        "made": {"from": ["above", "beside"], **NUMBER},
    },
}


def flow_of(operators: Mapping[str, object]) -> Flow:
    spec = {
        "flow": "f",
        "sources": {"given": {"mqtt": {"topics": ["t"], "time": "t"}}},
        "operators": dict(operators),
        "sinks": {"out": {"from": list(operators)[-1], "log": "out"}, "seen": {"from": "made", "log": "out"}},
    }
    return load_text(yaml.safe_dump(spec, sort_keys=False)).raise_findings()


FLOWS = {name: flow_of(operators) for name, operators in SHAPES.items()}


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40)
@given(streams(), cuts)
def test_any_batching_and_any_restart_give_the_same(name: str, messages: list[Sent], cuts: list[Cut]) -> None:
    assert replayed(FLOWS[name], messages, cuts) == one_by_one(FLOWS[name], messages)


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=40)
@given(traffic(), kills)
def test_a_kill_at_any_point_gives_the_same(name: str, traffic: Traffic, kills: list[Cut]) -> None:
    expected = one_by_one(FLOWS[name], traffic.messages, traffic.gaps)
    assert each(replayed(FLOWS[name], traffic.messages, kills, traffic.gaps)) == each(expected)


def each(found: dict[str, list[object]]) -> dict[str, list[object]]:
    """Return what came out, once: what is read again comes out again. Two ways may give events of the same id."""
    once: dict[str, list[object]] = {}
    for name, events in found.items():
        known = once.setdefault(name, [])
        known.extend(event for at, event in enumerate(events) if event not in events[:at])
    return once


@settings(max_examples=6)
@given(streams(), st.lists(st.integers(1, 7), max_size=8), st.sets(st.integers(1, 6), max_size=2))
def test_on_bytewax(messages: list[Sent], sizes: list[int], restarts: set[int]) -> None:
    flow = FLOWS["stages one behind the other"]
    batches: list[Batch] = []
    for size in [*sizes, len(messages)]:
        at = sum(len(batch) - 1 for batch in batches)
        some = messages[at : at + size]
        blocks = [block_of([message], number, message.at) for number, message in enumerate(some, at + 1)]
        batches += [[*blocks, blocks[-1].time]] if blocks else []
    batches.append([messages[-1].at + LATER])
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_bytewax(flow, batches, Path(folder), sorted(stop for stop in restarts if stop < len(batches)))
    found: dict[str, list[object]] = {}
    for sink, events in outcome.out.items():
        for event in events:
            found.setdefault(f"{sink}/{event.key}", []).append(shown(event))
    for letter in outcome.dead:
        found.setdefault(f"dead/{letter.event.key}", []).append((letter.event.id, letter.reason))
    assert found == one_by_one(flow, messages)


ASKED = {"from": "given", "call": {"url": "http://127.0.0.1:9/p", "as": "a"}}
LATE = flow_of({
    "asked": ASKED,
    "made": {"from": ["given", "asked"], "number": {"as": "place"}},
    "after": {"from": ["made", "given"], "key": "k", "window": {"every": "3s", "compute": {"p": {"last": "place"}}}},
})  # fmt: skip


def answer(harness: ByHand, at: int) -> None:
    """Answer one of the questions that wait, if there are any."""
    if harness.questions:
        question = harness.questions[at % len(harness.questions)]
        harness.answer(question, question.event.id[-1])


@settings(max_examples=60)
@given(streams(), st.lists(st.tuples(st.integers(1, 3), st.lists(st.integers(0, 20), max_size=4), st.booleans())))
def test_late_answers_make_no_difference(messages: list[Sent], steps: list[tuple[int, list[int], bool]]) -> None:
    """Answered in any order and with restarts between: as if each answer had been there at once."""
    prompt, late, at = ByHand(LATE), ByHand(LATE), 0
    for number, message in enumerate(messages, 1):
        prompt.read([block_of([message], number, message.at)])
        answer(prompt, 0)
    for size, answers, restart in [*steps, (len(messages), [], False)]:
        if batch := messages[at : at + size]:
            late.read([block_of([message], number, message.at) for number, message in enumerate(batch, at + 1)])
            at += len(batch)
        for one in answers:
            answer(late, one)
        assert late.ledger().remainder == 0
        if restart:
            late.restart()
    for harness in (prompt, late):
        harness.mark(messages[-1].at + LATER)
        while harness.questions:
            answer(harness, 0)
    assert result(late) == result(prompt)
    assert late.ledger() == prompt.ledger()


def waiting() -> Harness:
    harness = ByHand(LATE)
    harness.read([block_of([sent(at, k="a", n=1, t=at)], at + 1, START + at * SECOND) for at in range(3)])
    return harness


def test_what_waits_is_in_flight_and_in_the_snapshot() -> None:
    harness = waiting()
    ledger = harness.ledger()
    assert (ledger.in_flight, ledger.remainder) == (3 + 3 + 3, 0)
    assert harness.out["seen"] == []
    assert {name for (name, _), taken in harness.snapshot().items() if has_held(taken)} == {"made", "after"}


def test_the_feed_asks_for_the_time_that_what_waits_after_a_restart_waits_for() -> None:
    harness = waiting()
    harness.restart()
    assert harness.run.clock.next() == START


def test_what_an_earlier_version_of_the_flow_held_is_not_lost() -> None:
    """A node that takes from one stage only, after a redeploy, lets go with the first that comes."""
    taken, spec = waiting().snapshot(), {"made": {"from": "given", "number": {"as": "place"}}}
    harness = Harness(flow_of(spec))
    harness.resume({place: state for place, state in taken.items() if place[0] == "made"})
    harness.read([block_of([sent(9, k="a", n=1, t=9)], 4, START + 9 * SECOND)])
    assert [event.data["place"] for event in harness.out["seen"]] == [1, 2, 3, 4]


def test_a_snapshot_without_what_waits_is_as_it_was() -> None:
    plan = Plan(LATE)
    (made,) = (keyed for keyed in plan.keyed if keyed.node.name == "made")
    old = encoded(START, {"": 7})
    shard = Run(plan).shard(made, SHARDS[0], old)
    assert shard.snapshot() == old
    assert shard.states == {"": 7}


def test_numbers_that_messagepack_cannot_hold_wait_too() -> None:
    harness = ByHand(LATE)
    harness.read([block_of([sent(0, k="a", n=2**70, t=0)], 1, START)])
    harness.restart()
    answer(harness, 0)
    harness.mark(START + LATER)
    assert [event.data["n"] for event in harness.out["seen"]] == [float(2**70)] * 2


def test_nodes_with_one_stage_before_them_are_as_they_were() -> None:
    plan = Plan(flow_of({"above": WINDOW, "made": {"from": "above", **NUMBER}}))
    assert plan.ordered == frozenset()
    assert {type(Run(plan).shard(keyed, SHARDS[0], None)) for keyed in plan.keyed} == {Shard}
